"""Exports: a range of a recording as WAV, RF64 or FLAC.

Sample-exact wherever the container can be: float WAV for f32, 16 and 32 bit PCM for s16 and s32. FLAC has no
floats; what 24 bit integers cost is in the report. A file appears under its name when it is whole.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import soundfile

from chaos.errors import FormatUnsupported, InvalidRange, InvalidRequest, StorageFailed, StorageFull
from chaos.files import storage_errors, sync_folder
from chaos.ledger import Gap, lost_frames
from chaos.reader import Recording, Samples

__all__ = ["CONTAINERS", "Gaps", "SaveReport", "save"]

Gaps = Literal["zeros", "cut", "nan"]

CONTAINERS = ("wav", "rf64", "flac")
_WAV_LIMIT_BYTES = (1 << 32) - (1 << 16)
_FLAC_MAX_CHANNELS = 8
_BLOCK_SAMPLES = 1 << 18
_PCM = {"f32": "FLOAT", "s16": "PCM_16", "s32": "PCM_32"}
_FLAC = {"f32": "PCM_24", "s16": "PCM_16", "s32": "PCM_24"}


class SaveReport(msgspec.Struct, frozen=True):
    """What was saved. `n_frames` of the recording from `first_frame` on became `n_written` in the file.

    `is_exact` is False where a sample's value had to change (float or 32 bit to FLAC), `clipped` counts
    samples beyond full scale. `gaps` (as on the wire) reach into the range; `lost_frames` counts within it.
    """

    path: str
    container: str
    subtype: str
    sample_rate: int
    channels: int
    first_frame: int
    n_frames: int
    n_written: int
    gaps: list[dict[str, Any]]
    lost_frames: int
    is_exact: bool
    clipped: int


def save(
    recording: Recording,
    out: Path,
    first_frame: int = 0,
    n_frames: int | None = None,
    gaps: Gaps = "zeros",
    container: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SaveReport:
    """Writes `n_frames` (None: up to the end) from `first_frame` on, block by block, into `out`.

    The container goes by the name's ending (.wav, .rf64, .flac), else WAV; WAV becomes RF64 by itself where
    4 GiB would overflow. Gaps become zeros, NaN (float containers) or are cut out. `progress` is called with
    frames done and frames in all. A file of that name is replaced at the end, and stays as it was when
    anything fails.

    Raises InvalidRange, InvalidRequest, FormatUnsupported, StorageFull or StorageFailed.
    """
    end = recording.n_frames if n_frames is None else first_frame + n_frames
    if not 0 <= first_frame <= end <= recording.n_frames:
        raise InvalidRange(
            f"frames {first_frame} to {end} are not all in {recording.uri}, which has {recording.n_frames}",
            hint="ask for a range from 0 up to its end",
        )
    out = out.absolute()
    spans = _kept(recording, first_frame, end) if gaps == "cut" else [(first_frame, end)]
    n_written = sum(last - first for first, last in spans)
    chosen, subtype = _choose(recording, out, n_written, gaps, container)
    work = _Encoding(recording.definition.sample_format, chosen)
    hidden = out.with_name(f".{out.name}.{secrets.token_hex(4)}.part")
    try:
        with storage_errors("write", out):
            _write(recording, hidden, chosen, subtype, spans, gaps, work, progress)
            hidden.replace(out)
            sync_folder(out.parent)
    finally:
        hidden.unlink(missing_ok=True)
    inside = recording.gaps_between(first_frame, end)
    return SaveReport(
        path=str(out),
        container=chosen,
        subtype=subtype,
        sample_rate=recording.sample_rate,
        channels=recording.channels,
        first_frame=first_frame,
        n_frames=end - first_frame,
        n_written=n_written,
        gaps=[gap.to_wire() for gap in inside],
        lost_frames=lost_frames(_clip(gap, first_frame, end) for gap in inside),
        is_exact=work.is_exact,
        clipped=work.clipped,
    )


def _clip(gap: Gap, first: int, end: int) -> Gap:
    begin = max(gap.first_frame, first)
    return msgspec.structs.replace(gap, first_frame=begin, n_frames=min(gap.end_frame, end) - begin)


def _kept(recording: Recording, first: int, end: int) -> list[tuple[int, int]]:
    """The range without its gaps."""
    spans = []
    for gap in recording.gaps_between(first, end):
        spans.append((first, gap.first_frame))
        first = gap.end_frame
    spans.append((first, end))
    return [(begin, last) for begin, last in spans if begin < last]


def _choose(
    recording: Recording, out: Path, n_frames: int, gaps: Gaps, container: str | None
) -> tuple[str, str]:
    """Container and libsndfile's subtype. Raises what `save` says of requests that can't be met."""
    if not out.parent.is_dir():
        raise InvalidRequest(f"there is no folder {out.parent}", hint="make it first")
    ending = out.suffix.lower().lstrip(".")
    chosen = container or (ending if ending in CONTAINERS else "wav")
    if chosen not in CONTAINERS:
        raise InvalidRequest(f"{chosen!r} is no container", hint=f"one of {', '.join(CONTAINERS)}")
    if chosen == "flac" and recording.channels > _FLAC_MAX_CHANNELS:
        raise FormatUnsupported(
            f"FLAC has at most {_FLAC_MAX_CHANNELS} channels, the recording {recording.channels}",
            hint="save it as WAV",
        )
    if gaps == "nan" and (chosen == "flac" or recording.dtype.kind != "f"):
        raise InvalidRequest("only float WAV and RF64 can hold NaN", hint="gaps as zeros, or cut")
    sample_format = recording.definition.sample_format
    if chosen == "wav" and n_frames * recording.channels * recording.dtype.itemsize > _WAV_LIMIT_BYTES:
        chosen = "rf64"
    return chosen, (_FLAC if chosen == "flac" else _PCM)[sample_format]


class _Encoding:
    """From planar samples to the interleaved ones that libsndfile takes, and what that cost."""

    def __init__(self, sample_format: str, container: str) -> None:
        self.is_exact = True
        self.clipped = 0
        self._to_24_bit = container == "flac" and sample_format != "s16"

    def __call__(self, block: Samples) -> Samples:
        if self._to_24_bit:
            block = self._from_float(block) if block.dtype.kind == "f" else self._from_integer(block)
        return np.ascontiguousarray(block.T)

    def _from_float(self, block: Samples) -> Samples:
        scaled = block.astype(np.float64) * (1 << 23)
        rounded = np.rint(np.nan_to_num(scaled, posinf=np.finfo(np.float64).max))
        clipped = np.clip(rounded, -(1 << 23), (1 << 23) - 1)
        self.clipped += int(np.count_nonzero(clipped != rounded))
        self.is_exact = self.is_exact and bool(np.array_equal(clipped, scaled))
        return clipped.astype(np.int32) << 8

    def _from_integer(self, block: Samples) -> Samples:
        self.is_exact = self.is_exact and not np.any(block & 0xFF)
        return block


def _blocks(recording: Recording, spans: list[tuple[int, int]], gaps: Gaps) -> Iterator[Samples]:
    size = max(1024, _BLOCK_SAMPLES // recording.channels)
    for first, last in spans:
        for begin in range(first, last, size):
            yield recording.read(begin, min(begin + size, last), "nan" if gaps == "nan" else "zeros")


def _write(
    recording: Recording,
    hidden: Path,
    container: str,
    subtype: str,
    spans: list[tuple[int, int]],
    gaps: Gaps,
    encode: Callable[[Samples], Samples],
    progress: Callable[[int, int], None] | None,
) -> None:
    n_all, n_done = sum(last - first for first, last in spans), 0
    try:
        with soundfile.SoundFile(
            hidden, "w", recording.sample_rate, recording.channels, subtype, format=container.upper()
        ) as file:
            for block in _blocks(recording, spans, gaps):
                if progress:
                    progress(n_done, n_all)
                file.write(encode(block))
                n_done += block.shape[1]
    except (soundfile.SoundFileError, AssertionError) as error:
        raise _storage_error(hidden, error) from error
    if progress:
        progress(n_all, n_all)
    fd = os.open(hidden, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _storage_error(hidden: Path, error: Exception) -> StorageFull | StorageFailed:
    """libsndfile doesn't tell why it couldn't write; the filesystem does. (A short write is an AssertionError
    of soundfile's.)"""
    folder = os.statvfs(hidden.parent)
    details = {"path": str(hidden.parent)}
    if folder.f_bavail * folder.f_frsize < 1 << 20:
        return StorageFull(f"{hidden.parent} is full", hint="free some space there", details=details)
    return StorageFailed(f"could not write to {hidden.parent}: {error}", details=details)
