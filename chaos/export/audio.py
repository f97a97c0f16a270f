"""Exports: a range of a recording as WAV, RF64, FLAC or raw samples.

Sample-exact wherever the container can be: float WAV for f32, 16 and 32 bit PCM for s16 and s32. FLAC has no floats;
what 24 bit integers cost is in the report. WAV says in `bext` when its first frame was and which chunks it is made
of, and has the gaps as cue points. A file appears under its name when it is whole.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
import numpy as np

from chaos.export.wav import Broadcast, Cue, WavFormat, header, needs_rf64
from chaos.read.recording import Recording
from chaos.read.samples import Samples
from chaos.store.slices import chunk_spans, gaps_in, root_hash
from chaos.store.timeline import align, wall_ns_at
from chaos.system.files import storage_errors, sync_folder
from chaos.terms.errors import FormatUnsupported, InvalidRange, InvalidRequest, StorageFailed, StorageFull
from chaos.terms.ledger import Gap, lost_frames

__all__ = ["CONTAINERS", "Gaps", "SaveReport", "save", "save_aligned", "save_to"]

Gaps = Literal["zeros", "cut", "nan"]
Progress = Callable[[int, int], None]

CONTAINERS = ("wav", "rf64", "flac", "raw")
_FLAC_MAX_CHANNELS = 8
_FLAC_MAX_RATE = 655_350
_BLOCK_SAMPLES = 1 << 18
_SKEW = 16
_PCM = {"f32": "FLOAT", "s16": "PCM_16", "s32": "PCM_32"}
_FLAC = {"f32": "PCM_24", "s16": "PCM_16", "s32": "PCM_24"}
_MODES = {1: "mono", 2: "stereo"}


class SaveReport(msgspec.Struct, frozen=True):
    """What was saved. `n_frames` of the recording from `first_frame` on became `n_written` in the file.

    `is_exact` is False where a sample's value had to change (float or 32 bit to FLAC): `max_error` is by how much at
    most (1.0 is full scale), `clipped` counts samples beyond full scale. `gaps` (as on the wire) reach into the range;
    `lost_frames` counts within it. `root_hash` is that of the `n_chunks` sealed chunks that the range touches.
    `aligned_by` says which clock aligned several recordings.
    """

    path: str
    uri: str
    container: str
    subtype: str
    sample_rate: int
    channels: int
    first_frame: int
    n_frames: int
    n_written: int
    started_utc: str
    gaps: list[dict[str, Any]]
    lost_frames: int
    is_exact: bool
    max_error: float
    clipped: int
    n_chunks: int
    root_hash: str
    aligned_by: str | None = None


def save(
    recording: Recording,
    out: Path,
    first_frame: int = 0,
    n_frames: int | None = None,
    gaps: Gaps = "zeros",
    container: str | None = None,
    progress: Progress | None = None,
) -> SaveReport:
    """Writes `n_frames` (None: up to the end) from `first_frame` on, block by block, into `out`.

    The container goes by the name's ending (.wav, .rf64, .flac, .raw), else WAV; WAV becomes RF64 by itself where 4 GiB
    would overflow. Gaps become zeros, NaN (float containers) or are cut out. `progress` is called with frames done and
    frames in all. A file of that name is replaced at the end, and stays as it was when anything fails.

    Raises InvalidRange, InvalidRequest, FormatUnsupported, StorageFull or StorageFailed.
    """
    task = _Task(recording, out.absolute(), first_frame, n_frames, gaps, container)
    (report,) = _save_all([task], progress)
    return report


def save_aligned(
    recordings: Sequence[Recording],
    folder: Path,
    first_frame: int = 0,
    n_frames: int | None = None,
    gaps: Gaps = "zeros",
    container: str | None = None,
    progress: Progress | None = None,
) -> list[SaveReport]:
    """Writes the same moments of several recordings, one file each (NAME-TAKE.wav), all of equal length.

    The range is of the first recording; what not all of them have is left out. The folder is made if need be. No file
    appears before all are whole. Gaps can't be cut, which would undo the alignment. Raises what `save` raises, and
    RateMismatch.
    """
    if gaps == "cut":
        raise InvalidRequest("gaps can't be cut out of aligned recordings", hint="take zeros or nan")
    first, end = _range(recordings[0], first_frame, n_frames)
    lengths = [recording.n_frames for recording in recordings]
    aligned = align([recording.info for recording in recordings], lengths, first, end)
    folder = folder.absolute()
    with storage_errors("make the folder", folder):
        folder.mkdir(parents=True, exist_ok=True)
    tasks = []
    for recording, first in zip(recordings, aligned.first_frames, strict=True):
        stem = recording.uri.removeprefix("stream://").replace("/", "-")
        out = folder / f"{stem}.{container or 'wav'}"
        tasks.append(_Task(recording, out, first, aligned.n_frames, gaps, container, aligned.by))
    if len({task.out for task in tasks}) != len(tasks):
        raise InvalidRequest("the same recording was named twice", hint="name each one once")
    return _save_all(tasks, progress)


def save_to(
    recording: Recording,
    stream: BinaryIO,
    first_frame: int = 0,
    n_frames: int | None = None,
    gaps: Gaps = "zeros",
    container: str = "raw",
    progress: Progress | None = None,
) -> SaveReport:
    """Like `save`, into an open stream that need not seek: raw (interleaved, little-endian), WAV or RF64."""
    if container == "flac":
        raise FormatUnsupported("FLAC can't be written into a stream", hint="save raw, wav or rf64, or name a file")
    task = _Task(recording, Path("-"), first_frame, n_frames, gaps, container)
    with storage_errors("write", task.out):
        task.write_plain(stream, _total(progress, task.n_written))
        stream.flush()
    return task.report()


def _save_all(tasks: Sequence[_Task], progress: Progress | None) -> list[SaveReport]:
    """Writes all under hidden names, then brings them under their own."""
    advance = _total(progress, sum(task.n_written for task in tasks))
    with ExitStack() as stack:
        written = []
        for task in tasks:
            hidden = task.out.with_name(f".{task.out.name}.{secrets.token_hex(4)}.part")
            stack.callback(hidden.unlink, missing_ok=True)
            with storage_errors("write", task.out):
                task.write(hidden, advance)
            written.append(hidden)
        for task, hidden in zip(tasks, written, strict=True):
            with storage_errors("write", task.out):
                hidden.replace(task.out)
                sync_folder(task.out.parent)
    return [task.report() for task in tasks]


def _total(progress: Progress | None, n_all: int) -> Callable[[int], None]:
    """From frames done since the last call to frames done of all."""
    n_done = 0

    def advance(n_frames: int) -> None:
        nonlocal n_done
        n_done += n_frames
        if progress:
            progress(n_done, n_all)

    advance(0)
    return advance


def _range(recording: Recording, first_frame: int, n_frames: int | None) -> tuple[int, int]:
    length = recording.n_frames
    end = length if n_frames is None else first_frame + n_frames
    if not 0 <= first_frame <= end <= length:
        raise InvalidRange(
            f"frames {first_frame} to {end} are not all in {recording.uri}, which has {length}",
            hint="ask for a range from 0 up to its end",
        )
    return first_frame, end


class _Task:
    """One file to be written. What can't be is refused when it is made, as `save` says."""

    def __init__(
        self,
        recording: Recording,
        out: Path,
        first_frame: int,
        n_frames: int | None,
        gaps: Gaps,
        container: str | None,
        aligned_by: str | None = None,
    ) -> None:
        self.recording = recording
        self.out = out
        self._first, self._end = first, end = _range(recording, first_frame, n_frames)
        self._gaps = gaps
        recording.refresh()
        self._inside = gaps_in(recording.gaps, first, end)
        self._spans = list(_without(self._inside, first, end)) if gaps == "cut" else [(first, end)]
        self.n_written = sum(stop - begin for begin, stop in self._spans)
        self._wav = WavFormat(
            channels=recording.channels,
            sample_rate=recording.sample_rate,
            sample_bits=recording.dtype.itemsize * 8,
            is_float=recording.dtype.kind == "f",
            positions=recording.definition.positions,
        )
        self._container = self._choose(container)
        sample_format = recording.definition.sample_format
        self._subtype = (_FLAC if self._container == "flac" else _PCM)[sample_format]
        self._encode = _Encoding(sample_format, self._container)
        spans = chunk_spans(recording.info, first, end)
        self._n_chunks, self._root_hash = len(spans), root_hash(spans)
        self._wall_ns = wall_ns_at(recording.info, self._spans[0][0] if self._spans else first)
        self._aligned_by = aligned_by

    def _choose(self, container: str | None) -> str:
        ending = self.out.suffix.lower().lstrip(".")
        chosen = container or (ending if ending in CONTAINERS else "wav")
        if not self.out.parent.is_dir():
            raise InvalidRequest(f"there is no folder {self.out.parent}", hint="make it first")
        if chosen not in CONTAINERS:
            raise InvalidRequest(f"{chosen!r} is no container", hint=f"one of {', '.join(CONTAINERS)}")
        if chosen == "flac" and self._wav.channels > _FLAC_MAX_CHANNELS:
            raise FormatUnsupported(
                f"FLAC has at most {_FLAC_MAX_CHANNELS} channels, the recording {self._wav.channels}",
                hint="save it as WAV",
            )
        if chosen == "flac" and self._wav.sample_rate > _FLAC_MAX_RATE:
            raise FormatUnsupported(f"FLAC ends at {_FLAC_MAX_RATE} Hz", hint="save it as WAV")
        if self._gaps == "nan" and (chosen == "flac" or not self._wav.is_float):
            raise InvalidRequest("only float samples can hold NaN", hint="gaps as zeros, or cut")
        return "rf64" if chosen == "wav" and needs_rf64(self._wav, self.n_written) else chosen

    def write(self, path: Path, advance: Callable[[int], None]) -> None:
        """Writes the file under this name, durably. Raises OSError, StorageFull or StorageFailed."""
        if self._container == "flac":
            self._write_flac(path, advance)
        else:
            _check_room(path.parent, self.n_written * self._wav.frame_bytes)
            with path.open("wb", buffering=0) as file:
                self.write_plain(file, advance)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def write_plain(self, file: Any, advance: Callable[[int], None]) -> None:
        """Header and samples in one go, into anything that has `write`."""
        if self._container != "raw":
            _write_fully(file, self._header())
        for block in self._blocks():
            _write_fully(file, self._encode(block).data.cast("B"))
            advance(block.shape[1])

    def _write_flac(self, path: Path, advance: Callable[[int], None]) -> None:
        import soundfile

        try:
            with soundfile.SoundFile(
                path, "w", self._wav.sample_rate, self._wav.channels, self._subtype, format="FLAC"
            ) as file:
                file.title = self.recording.uri
                file.software = self.recording.definition.software
                file.date = _utc(self._wall_ns)
                file.comment = self._history().strip()
                for block in self._blocks():
                    file.write(self._encode(block))
                    advance(block.shape[1])
        except (soundfile.SoundFileError, AssertionError) as error:
            raise _storage_error(path, error) from error

    def _blocks(self) -> Iterator[Samples]:
        size = max(1024, _BLOCK_SAMPLES // self._wav.channels)
        missing: Literal["nan", "zeros"] = "nan" if self._gaps == "nan" else "zeros"
        for first, last in self._spans:
            for begin in range(first, last, size):
                yield self.recording.read(begin, min(begin + size, last), missing)

    def _header(self) -> bytes:
        definition = self.recording.definition
        device = definition.device.get("description") or definition.device.get("name") or "unknown device"
        broadcast = Broadcast(
            description=f"{definition.uri}, frames {self._first} to {self._end}; {device}",
            originator=definition.software,
            reference=definition.run_id,
            wall_ns=self._wall_ns,
            history=self._history(),
        )
        is_rf64 = self._container == "rf64"
        return header(self._wav, self.n_written, broadcast, self._cues(), "rf64" if is_rf64 else "wav")

    def _history(self) -> str:
        """Two lines of coding history (EBU R 98): what the samples are, and what vouches for them."""
        mode = _MODES.get(self._wav.channels, f"{self._wav.channels} channels")
        coding = f"A=PCM,F={self._wav.sample_rate},W={self._wav.sample_bits},M={mode}"
        kind = "float" if self._wav.is_float else "integer"
        origin = f"{self.recording.definition.software}; {kind}; gaps {self._gaps}; times UTC"
        root = f"BLAKE3 root of {self._n_chunks} chunks {self._root_hash}"
        return f"{coding},T={origin}\r\n{coding},T={root}\r\n"

    def _cues(self) -> list[Cue]:
        cues = []
        for gap in self._inside:
            label = f"gap: {gap.n_frames} frames {gap.cause.label} ({gap.confidence.label})"
            begin = max(gap.first_frame, self._first)
            if self._gaps == "cut":
                kept = sum(max(0, min(last, begin) - first) for first, last in self._spans)
                cues.append(Cue(kept, 0, f"{label}, cut out"))
            else:
                cues.append(Cue(begin - self._first, min(gap.end_frame, self._end) - begin, label))
        return cues

    def report(self) -> SaveReport:
        return SaveReport(
            path=str(self.out),
            uri=self.recording.uri,
            container=self._container,
            subtype=self._subtype,
            sample_rate=self._wav.sample_rate,
            channels=self._wav.channels,
            first_frame=self._first,
            n_frames=self._end - self._first,
            n_written=self.n_written,
            started_utc=_utc(self._wall_ns),
            gaps=[gap.to_wire() for gap in self._inside],
            lost_frames=lost_frames(_clip(gap, self._first, self._end) for gap in self._inside),
            is_exact=self._encode.is_exact,
            max_error=self._encode.max_error,
            clipped=self._encode.clipped,
            n_chunks=self._n_chunks,
            root_hash=self._root_hash,
            aligned_by=self._aligned_by,
        )


def _clip(gap: Gap, first: int, end: int) -> Gap:
    begin = max(gap.first_frame, first)
    return msgspec.structs.replace(gap, first_frame=begin, n_frames=min(gap.end_frame, end) - begin)


def _without(gaps: Iterable[Gap], first: int, end: int) -> Iterator[tuple[int, int]]:
    """The range without its gaps."""
    for gap in gaps:
        if first < gap.first_frame:
            yield first, gap.first_frame
        first = gap.end_frame
    if first < end:
        yield first, end


def _utc(wall_ns: int) -> str:
    return f"{datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%S}.{wall_ns % 1_000_000_000:09d}Z"


class _Encoding:
    """From planar samples to interleaved ones, good until the next call, and what that cost.

    Planes that lie a power of two apart fall into the same lines of the cache: they are set apart by `_SKEW` first,
    which makes 64 channels four times as fast.
    """

    def __init__(self, sample_format: str, container: str) -> None:
        self._planes: Samples = np.empty((0, 0))
        self._frames: Samples = np.empty((0, 0))
        self.is_exact = True
        self.max_error = 0.0
        self.clipped = 0
        self._to_24_bit = container == "flac" and sample_format != "s16"

    def __call__(self, block: Samples) -> Samples:
        if self._to_24_bit:
            block = self._from_float(block) if block.dtype.kind == "f" else self._from_integer(block)
        channels, n_frames = block.shape
        if len(self._frames) < n_frames:
            self._planes = np.empty((channels, n_frames + _SKEW), block.dtype)
            self._frames = np.empty((n_frames, channels), block.dtype)
        planes, frames = self._planes[:, :n_frames], self._frames[:n_frames]
        planes[:] = block
        frames[:] = planes.T
        return frames

    def _from_float(self, block: Samples) -> Samples:
        scaled = block.astype(np.float64) * (1 << 23)
        rounded = np.rint(np.nan_to_num(scaled, posinf=np.finfo(np.float64).max))
        clipped = np.clip(rounded, -(1 << 23), (1 << 23) - 1)
        self.clipped += int(np.count_nonzero(clipped != rounded))
        if not np.array_equal(clipped, scaled):
            self.is_exact = False
            errors = np.abs(scaled - clipped)
            self._book(float(errors[np.isfinite(errors)].max(initial=0)) / (1 << 23))
        return clipped.astype(np.int32) << 8

    def _from_integer(self, block: Samples) -> Samples:
        rest = int((block & 0xFF).max(initial=0))
        if rest:
            self.is_exact = False
            self._book(rest / (1 << 31))
        return block

    def _book(self, error: float) -> None:
        self.max_error = max(self.max_error, error)


def _write_fully(file: Any, data: bytes | memoryview) -> None:
    with memoryview(data) as view:
        n_done = 0
        while n_done < view.nbytes:
            n_done += file.write(view[n_done:])


def _check_room(folder: Path, n_bytes: int) -> None:
    room = os.statvfs(folder)
    n_free = room.f_bavail * room.f_frsize
    if n_bytes > n_free:
        raise StorageFull(
            f"{folder} has {n_free} bytes free, and the file needs {n_bytes}",
            hint="free some space there, or save a shorter range or FLAC",
            details={"path": str(folder), "needed_bytes": n_bytes, "free_bytes": n_free},
        )


def _storage_error(hidden: Path, error: Exception) -> StorageFull | StorageFailed:
    """libsndfile doesn't tell why it couldn't write; the filesystem does. (A short write is an AssertionError of
    soundfile's.)"""
    folder = os.statvfs(hidden.parent)
    details = {"path": str(hidden.parent)}
    if folder.f_bavail * folder.f_frsize < 1 << 20:
        return StorageFull(f"{hidden.parent} is full", hint="free some space there", details=details)
    return StorageFailed(f"could not write to {hidden.parent}: {error}", details=details)
