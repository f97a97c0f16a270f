"""How loud it was at every recorder, hour by hour, and its spectrum of a day: one pass over the samples, by dask.

    python fleet_levels.py s3://bucket/prefix 2026-11-26 --scheduler tcp://cluster:8786

Prints for each host and hour the level (dBFS, RMS of a second) that was exceeded 90, 50 and 10 % of the time, and how
much of the hour was there; --spectra FILE.npz keeps the power spectral density of each host. What is missing is left
out.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from dask.base import compute
from dask.delayed import delayed
from distributed import Client

import chaos

N_FFT = 1024
FULL_SCALE = {"f": 1.0, "i2": 2.0**15, "i4": 2.0**31}


class Part(NamedTuple):
    """Of one block: each second's level (dBFS) and hour, the sum of periodograms, and how many these are."""

    levels: npt.NDArray[np.float64]
    hours: npt.NDArray[np.int64]
    power: npt.NDArray[np.float64]
    n_spectra: int


def of_block(audio: npt.NDArray[Any], gap: npt.NDArray[np.uint8], time: npt.NDArray[Any], rate: int) -> Part:
    """On a worker. Seconds in which something is missing, or whose time is not known, are left out."""
    scale = FULL_SCALE["f" if audio.dtype.kind == "f" else audio.dtype.str[1:]]
    sound = audio.mean(axis=0, dtype="f8") / scale
    levels, hours = [], []
    for first in range(0, sound.size - rate // 2, rate):
        second = slice(first, first + rate)
        if gap[second].any() or np.isnat(time[first]):
            continue
        levels.append(10 * np.log10(np.mean(sound[second] ** 2) + 1e-20))
        hours.append(int(time[first].astype("M8[h]").astype("i8")))
    whole = sound.size // N_FFT * N_FFT
    frames = sound[:whole].reshape(-1, N_FFT)[~gap[:whole].reshape(-1, N_FFT).any(axis=1)]
    window = np.hanning(N_FFT)
    power = (np.abs(np.fft.rfft(frames * window, axis=1)) ** 2).sum(axis=0) / (rate * (window**2).sum())
    power[1:-1] *= 2
    return Part(np.array(levels), np.array(hours, "i8"), power, len(frames))


def jobs(tree: Any) -> tuple[list[Any], list[tuple[str, int]]]:
    """A task for each block of a selection, and each one's host and rate."""
    asked: list[Any] = []
    whose: list[tuple[str, int]] = []
    for take in tree.leaves:
        rate = int(take.attrs["sample_rate"])
        blocks = (take[name].data.to_delayed().ravel() for name in ("audio", "gap", "time"))
        for block in zip(*blocks, strict=True):
            asked.append(delayed(of_block)(*block, rate))
            whose.append((take.attrs["host"], rate))
    return asked, whose


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("day", help="2026-11-26, in UTC")
    parser.add_argument("--scheduler", help="address of a dask scheduler; without it workers of this machine")
    parser.add_argument("--hosts", nargs="*")
    parser.add_argument("--spectra", metavar="FILE.npz")
    options = parser.parse_args()
    day = datetime.fromisoformat(options.day).replace(tzinfo=UTC)
    tree = chaos.fleet(options.url).select(day, day + timedelta(days=1), options.hosts)
    asked, whose = jobs(tree)
    with Client(options.scheduler):  # type: ignore[no-untyped-call]
        parts: list[Part] = list(compute(*asked))  # type: ignore[no-untyped-call]
    levels: dict[tuple[str, int], list[float]] = defaultdict(list)
    spectra: dict[tuple[str, int], tuple[Any, int]] = {}
    for key, part in zip(whose, parts, strict=True):
        for hour, level in zip(part.hours, part.levels, strict=True):
            levels[key[0], int(hour)].append(float(level))
        power, n = spectra.get(key, (0.0, 0))
        spectra[key] = power + part.power, n + part.n_spectra
    rows = csv.writer(sys.stdout)
    rows.writerow(("host", "hour", "L90", "L50", "L10", "seconds"))
    for (host, hour), loud in sorted(levels.items()):
        at = datetime.fromtimestamp(hour * 3600, UTC)
        rows.writerow((host, f"{at:%Y-%m-%dT%H}Z", *(f"{np.percentile(loud, q):.1f}" for q in (10, 50, 90)), len(loud)))
    if options.spectra:
        told = {f"{host} {rate} Hz": power / n for (host, rate), (power, n) in spectra.items() if n}
        np.savez(options.spectra, **told)


if __name__ == "__main__":
    main()
