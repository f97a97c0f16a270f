"""Looks for a sound in what all recorders heard between two moments, on dask.distributed.

    python fleet_search.py s3://bucket/prefix call.wav 2026-11-26T04:00Z 2026-11-26T08:00Z --scheduler
    tcp://cluster:8786

Prints where the normalized cross-correlation is above --above: host, time, between which times that was by the
recorder's clock (empty where nobody knows), and the score. Where something is missing nothing is found, and it says how
much that is.
"""

from __future__ import annotations

import argparse
import csv
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from dask.base import compute
from dask.delayed import delayed
from distributed import Client

import chaos

Hit = tuple[int, float]
BLOCK_S = 30


def search(
    audio: npt.NDArray[Any], gap: npt.NDArray[np.uint8], template: npt.NDArray[np.float64], above: float
) -> tuple[list[Hit], int]:
    """On a worker: the frames at which the template begins, each with its score, and at how many others something is
    missing."""
    sound, size = audio.mean(axis=0, dtype="f8"), template.size
    n = sound.size - size + 1
    if n < 1:
        return [], 0
    length = 1 << (sound.size + size - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(sound, length) * np.conj(np.fft.rfft(template, length)), length)[:n]
    energy = _sums(sound**2, size)
    mean = _sums(sound, size) / size
    spread = np.sqrt(np.maximum(energy - size * mean**2, 1e-12 * (1 + energy)))
    score = product / spread  # the template has no mean, and an energy of 1
    is_missing = _sums((gap != 0).astype("f8"), size) > 0
    score[is_missing] = 0
    hits = []
    while (at := int(score.argmax())) is not None and score[at] > above:
        hits.append((at, float(score[at])))
        score[max(0, at - size) : at + size] = 0
    return sorted(hits), int(is_missing.sum())


def _sums(values: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Of each `size` values in a row."""
    totals = np.concatenate([[0.0], np.cumsum(values)])
    sums: npt.NDArray[np.float64] = totals[size:] - totals[:-size]
    return sums


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("template", help="a sound file at the recorders' rate")
    parser.add_argument("start")
    parser.add_argument("end")
    parser.add_argument("--above", type=float, default=0.7, help="score from 0 to 1")
    parser.add_argument("--scheduler", help="address of a dask scheduler; without it workers of this machine")
    options = parser.parse_args()
    sound, rate = soundfile.read(options.template, always_2d=True)
    template = sound.mean(axis=1)
    template -= template.mean()
    template /= np.sqrt((template**2).sum())
    tree = chaos.fleet(options.url).select(options.start, options.end)
    asked: list[Any] = []
    where: list[tuple[Any, int]] = []
    for take in tree.leaves:
        if take.attrs["sample_rate"] != rate:
            print(f"{take.attrs['url']} has {take.attrs['sample_rate']} Hz and is left out", file=sys.stderr)
            continue
        step, n_frames = BLOCK_S * rate, take.sizes["frame"]
        for first in range(0, n_frames, step):  # each reaches into the next one by the template's length
            part = slice(first, min(first + step + template.size - 1, n_frames))
            audio, gap = take["audio"].data[:, part], take["gap"].data[part]
            asked.append(delayed(search)(audio, gap, template, options.above))
            where.append((take, first))
    with Client(options.scheduler):  # type: ignore[no-untyped-call]
        found = compute(*asked)  # type: ignore[no-untyped-call]
    rows = csv.writer(sys.stdout)
    rows.writerow(("host", "time", "earliest", "latest", "score"))
    n_missing = 0
    for (take, first), (hits, missing) in zip(where, found, strict=True):
        n_missing += missing
        for at, score in hits:
            time, bounds = (take[name].data[first + at].compute() for name in ("time", "time_bounds"))
            known = [str(each) if not np.isnat(each) else "" for each in bounds]
            rows.writerow((take.attrs["host"], time, *known, f"{score:.3f}"))
    if n_missing:
        print(f"{n_missing / rate:.3f} s were not searched: something is missing there", file=sys.stderr)


if __name__ == "__main__":
    main()
