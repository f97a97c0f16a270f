"""One file that a range of a recording is written to: which container, which samples, which channels."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

from chaos.export.account import Account, clipped_gap
from chaos.export.encoding import Encoding, native_subtype
from chaos.export.report import SaveReport
from chaos.export.source import Source
from chaos.export.wav import SPEAKERS
from chaos.read.planes import Planes
from chaos.terms.containers import CONTAINERS, SUBTYPES, Container, GapFill, Subtype
from chaos.terms.counting import counted
from chaos.terms.errors import FormatUnsupported, InvalidRequest, StorageFull
from chaos.terms.formats import SampleFormat
from chaos.terms.ledger import Cause, lost_frames
from chaos.terms.moments import utc_text
from chaos.terms.visible import visible

__all__ = ["OutFile", "Wanted", "check_room", "checked_container"]

_MAX_CHANNELS: dict[Container, int] = {"flac": 8, "opus": 2}
_FLAC_MAX_RATE = 655_350
_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
_SUBTYPES: dict[Container, tuple[Subtype, ...]] = {"flac": ("PCM_24", "PCM_16")}
_SPLIT = "save it as .wav, or one file per channel with --split-channels"


class Wanted(NamedTuple):
    """How a file is to be written. None: the container by the name's ending, the subtype by the samples.
    `tempo` (beats a minute) gives a MIDI file bars; without it one tick is one frame."""

    container: Container | None = None
    subtype: Subtype | None = None
    aligned_by: str | None = None
    tempo: float | None = None


class OutFile(ABC):
    """A file that takes blocks as they are read. What can't be written is refused when it is made.

    `channel` (from 0) picks one of the recording's; None takes all. Raises InvalidRequest or FormatUnsupported.
    """

    def __init__(self, source: Source, out: Path, container: Container, wanted: Wanted, channel: int | None) -> None:
        definition = source.recording.definition
        self.source = source
        self.out = out
        self.fd = -1
        self.container = container
        sample_format = definition.audio.sample_format
        self.subtype = _chosen_subtype(container, sample_format, wanted.subtype, source.fill)
        positions = list(definition.positions) or [str(k + 1) for k in range(definition.channels)]
        self._order = [channel] if channel is not None else _channel_order(container, positions)
        self._is_reordered = self._order != list(range(definition.channels))
        self._channel = channel
        self.positions = [positions[k] for k in self._order]
        self._encode = Encoding(sample_format, self.subtype)
        self.account = Account(source, self.subtype, self.channels)
        self._aligned_by = wanted.aligned_by
        _check_limits(container, self.channels, definition.sample_rate)

    @property
    def channels(self) -> int:
        return len(self._order)

    @property
    def is_lossy(self) -> bool:
        return self.container == "opus"

    @abstractmethod
    def begin(self, fd: int) -> None:
        """Opens it on an empty file, which stays the caller's. Raises OSError, StorageFull or StorageFailed."""

    @abstractmethod
    def take(self, frames: memoryview) -> None:
        """Writes the bytes of interleaved samples, as `Encoding` gives them."""

    @abstractmethod
    def end(self) -> None:
        """Writes what the source can tell now that it was read."""

    def write(self, block: Planes) -> None:
        """Writes a block of the recording's. Raises as `begin` does."""
        if self._channel is not None:
            block = block[self._channel : self._channel + 1]
        elif self._is_reordered:
            block = [block[k] for k in self._order]
        self.take(self._encode(block))

    def report(self) -> SaveReport:
        source, encoded = self.source, self._encode
        first, end = source.recorded
        inside = [clipped_gap(gap, first, end) for gap in source.gaps]
        missing = sum(gap.n_frames for gap in inside)
        lost = lost_frames(inside)
        return SaveReport(
            path=str(self.out),
            uri=source.recording.uri,
            container=self.container,
            subtype="OPUS" if self.is_lossy else self.subtype,
            sample_rate=source.recording.sample_rate,
            channels=self.channels,
            positions=self.positions,
            first_frame=first,
            n_frames=end - first,
            n_written=source.n_frames,
            started_utc=utc_text(self.account.wall_ns),
            gaps=[gap.to_wire() for gap in source.gaps],
            missing_frames=missing,
            lost_frames=lost,
            retired_frames=sum(gap.n_frames for gap in inside if gap.cause is Cause.RETIRED),
            damaged=list(source.damaged),
            is_exact=encoded.is_exact and not self.is_lossy and not source.damaged,
            max_error=None if self.is_lossy else encoded.max_error,
            clipped=encoded.clipped,
            n_chunks=source.n_chunks,
            root_hash=source.root_hash,
            channel=None if self._channel is None else self._channel + 1,
            aligned_by=self._aligned_by,
            frames_before=first - source.first,
            frames_after=source.end - end,
        )


def checked_container(out: Path, container: str | None, otherwise: Container = "wav") -> Container:
    """The container of a file of this name: the one that is asked for, else by the ending, else `otherwise`.

    Raises InvalidRequest for one that is unknown.
    """
    ending = out.suffix.lower().lstrip(".")
    chosen = container or ending or otherwise
    known = ", ".join(CONTAINERS)
    for each in CONTAINERS:
        if each == chosen:
            return each
    if container:
        raise InvalidRequest(f"unknown file type {visible(container)!r}", hint=f"use one of {known}")
    endings = ", ".join(f".{each}" for each in CONTAINERS)
    raise InvalidRequest(
        f"cannot write a .{visible(ending)} file",
        hint=f"use one of the endings {endings}, or say what the file shall be with --container",
    )


def check_room(folder: Path, n_bytes: int) -> None:
    """Raises StorageFull if so much does not fit into the folder's file system. One that is held by descriptor is told
    by its name."""
    room = os.statvfs(folder)
    n_free = room.f_bavail * room.f_frsize
    if n_bytes > n_free:
        folder = folder.resolve()
        raise StorageFull(
            f"{folder} has {counted(n_free, 'byte')} free, but the file needs {n_bytes}",
            hint="free some space there, save a shorter range, or save as .flac",
            details={"path": str(folder), "needed_bytes": n_bytes, "free_bytes": n_free},
        )


def _chosen_subtype(
    container: Container, sample_format: SampleFormat, asked: Subtype | None, fill: GapFill
) -> Subtype:
    if container == "opus":
        if asked is not None:
            raise InvalidRequest("Opus has no subtypes", hint="leave out --subtype, or save as .flac or .wav")
        return _refuse_nan("PCM_16" if sample_format == "s16" else "FLOAT", container, fill)
    possible = _SUBTYPES.get(container, SUBTYPES)
    native = native_subtype(sample_format)
    chosen = asked or (native if native in possible else possible[0])
    if chosen not in possible:
        raise FormatUnsupported(
            f"{container} cannot hold {visible(chosen)} samples", hint=f"use --subtype {' or '.join(possible)}"
        )
    if chosen == "FLOAT" and native != "FLOAT":
        raise FormatUnsupported(
            f"the recording has integer samples ({sample_format}), which are not converted to float",
            hint=f"leave out --subtype: they are saved as {native}",
        )
    return _refuse_nan(chosen, container, fill)


def _refuse_nan(subtype: Subtype, container: Container, fill: GapFill) -> Subtype:
    if fill == "nan" and (subtype != "FLOAT" or container == "opus"):
        raise InvalidRequest("NaN needs float samples", hint="use --gaps zeros or --gaps cut")
    return subtype


def _channel_order(container: Container, positions: list[str]) -> list[int]:
    """Which channel of the recording stands where in the file.

    FLAC has them in the order of the speakers' bits, and readers take more than two for speakers whatever they are.
    """
    as_recorded = list(range(len(positions)))
    if container != "flac" or len(positions) > _MAX_CHANNELS["flac"]:
        return as_recorded
    if len(set(positions)) == len(positions) and all(position in SPEAKERS for position in positions):
        return sorted(as_recorded, key=lambda k: SPEAKERS.index(positions[k]))
    if len(positions) > 2:
        raise FormatUnsupported(
            f"FLAC would claim that these {len(positions)} channels are loudspeakers: {visible(', '.join(positions))}",
            hint=_SPLIT,
        )
    return as_recorded


def _check_limits(container: Container, channels: int, sample_rate: int) -> None:
    most = _MAX_CHANNELS.get(container, channels)
    if channels > most:
        raise FormatUnsupported(
            f"{container} allows {counted(most, 'channel')} at most, and the recording has {channels}", hint=_SPLIT
        )
    if container == "flac" and sample_rate > _FLAC_MAX_RATE:
        raise FormatUnsupported(f"flac allows {_FLAC_MAX_RATE} Hz at most", hint="save it as .wav")
    if container == "opus" and sample_rate not in _OPUS_RATES:
        rates = ", ".join(map(str, _OPUS_RATES))
        raise FormatUnsupported(
            f"Opus has only the rates {rates} Hz, and the recording has {sample_rate} Hz", hint="save it as .flac"
        )


assert set(_MAX_CHANNELS) | set(_SUBTYPES) <= set(CONTAINERS)
