"""One file that a range of a recording is written to: what goes into it, and how.

Sample-exact wherever the container can be: float WAV for f32, 16 and 32 bit PCM for s16 and s32. FLAC has no floats;
what 24 bit integers cost is in the report. WAV says in `bext` when its first frame was and which chunks it is made
of, and has the gaps as cue points.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from chaos.export.encoding import Encoding
from chaos.export.report import SaveReport
from chaos.export.wav import Broadcast, Cue, WavFormat, header, needs_rf64
from chaos.read.recording import Recording
from chaos.read.samples import Samples
from chaos.store.slices import chunk_spans, gaps_in, root_hash
from chaos.store.timeline import wall_ns_at
from chaos.terms.containers import CONTAINERS, Container, GapFill
from chaos.terms.errors import FormatUnsupported, InvalidRange, InvalidRequest, StorageFailed, StorageFull
from chaos.terms.ledger import Gap, lost_frames

__all__ = ["OutFile", "checked_range"]

_FLAC_MAX_CHANNELS = 8
_FLAC_MAX_RATE = 655_350
_BLOCK_SAMPLES = 1 << 18
_PCM = {"f32": "FLOAT", "s16": "PCM_16", "s32": "PCM_32"}
_FLAC = {"f32": "PCM_24", "s16": "PCM_16", "s32": "PCM_24"}
_MODES = {1: "mono", 2: "stereo"}


def checked_range(recording: Recording, first_frame: int, n_frames: int | None) -> tuple[int, int]:
    length = recording.n_frames
    end = length if n_frames is None else first_frame + n_frames
    if not 0 <= first_frame <= end <= length:
        raise InvalidRange(
            f"{recording.uri} has {length} frames; {first_frame} to {end} reaches outside of it",
            hint=f"choose a range between 0 and {length}",
        )
    return first_frame, end


class OutFile:
    """One file to be written. What can't be is refused when it is made, as `save` says."""

    def __init__(
        self,
        recording: Recording,
        out: Path,
        first_frame: int,
        n_frames: int | None,
        gaps: GapFill,
        container: Container | None,
        aligned_by: str | None = None,
    ) -> None:
        self.recording = recording
        self.out = out
        self._first, self._end = first, end = checked_range(recording, first_frame, n_frames)
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
        self._encode = Encoding(sample_format, self._container)
        spans = chunk_spans(recording.info, first, end)
        self._n_chunks, self._root_hash = len(spans), root_hash(spans)
        self._wall_ns = wall_ns_at(recording.info, self._spans[0][0] if self._spans else first)
        self._aligned_by = aligned_by

    def _choose(self, container: Container | None) -> str:
        ending = self.out.suffix.lower().lstrip(".")
        chosen = container or (ending if ending in CONTAINERS else "wav")
        if not self.out.parent.is_dir():
            raise InvalidRequest(
                f"the folder {self.out.parent} does not exist", hint=f"create it with: mkdir -p {self.out.parent}"
            )
        if chosen not in CONTAINERS:
            raise InvalidRequest(f"unknown file type {chosen!r}", hint=f"use one of {', '.join(CONTAINERS)}")
        if chosen == "flac" and self._wav.channels > _FLAC_MAX_CHANNELS:
            raise FormatUnsupported(
                f"FLAC allows {_FLAC_MAX_CHANNELS} channels at most, and the recording has {self._wav.channels}",
                hint="save it as .wav",
            )
        if chosen == "flac" and self._wav.sample_rate > _FLAC_MAX_RATE:
            raise FormatUnsupported(f"FLAC allows {_FLAC_MAX_RATE} Hz at most", hint="save it as .wav")
        if self._gaps == "nan" and (chosen == "flac" or not self._wav.is_float):
            raise InvalidRequest("integer samples have no NaN", hint="use --gaps zeros or --gaps cut")
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
            f"{folder} has {n_free} bytes free, but the file needs {n_bytes}",
            hint="free some space there, save a shorter range, or save as .flac",
            details={"path": str(folder), "needed_bytes": n_bytes, "free_bytes": n_free},
        )


def _storage_error(hidden: Path, error: Exception) -> StorageFull | StorageFailed:
    """libsndfile doesn't tell why it couldn't write; the filesystem does. (A short write is an AssertionError of
    soundfile's.)"""
    folder = os.statvfs(hidden.parent)
    details = {"path": str(hidden.parent)}
    if folder.f_bavail * folder.f_frsize < 1 << 20:
        return StorageFull(f"the disk of {hidden.parent} is full", hint="free some space there", details=details)
    return StorageFailed(f"could not write to {hidden.parent}: {error}", details=details)
