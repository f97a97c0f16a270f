"""Events as a numpy record array: a row for each, with its frame, its kind and its bytes as they came."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from chaos.read.bounds import frames_of
from chaos.read.samples import Samples
from chaos.store.objects import open_chunk
from chaos.terms.form import MidiForm, records
from chaos.terms.messages import Message, messages_by_frame

__all__ = ["EVENT", "EventArray", "Events", "MidiContent"]

EVENT: Final = np.dtype([("frame", "<i8"), ("kind", "u1"), ("bytes", "O")])
"""`kind` is 2 for bytes of MIDI 1, 4 for words of the Universal MIDI Packet."""

EventArray = np.recarray[Any, np.dtype[Any]]


class MidiContent:
    """Contract: `chaos.read.content.ArrayContent`. Arrays of EVENT, by frame, events of one frame as they came."""

    def __init__(self, form: MidiForm) -> None:
        self.dtype = EVENT
        self._form = form

    def staged(self, begin: int, end: int) -> tuple[int, int]:
        return 0, self._form.chunk_frames

    def of_slot(self, raw: bytes, chunk: int, begin: int, end: int) -> Samples:
        origin = chunk * self._form.chunk_frames
        rows = [
            (origin + record.frame, record.kind, bytes(raw[record.data]))
            for record in records(raw)
            if begin <= record.frame < end
        ]
        found = np.array(rows, EVENT) if rows else np.empty(0, EVENT)
        if (np.diff(found["frame"]) < 0).any():
            found = found[np.argsort(found["frame"], kind="stable")]
        return found.view(np.recarray)

    def of_file(self, path: str, chunk: int, begin: int, end: int) -> Samples:
        with open_chunk(Path(path)) as file:
            raw = file.read(self._form.chunk_bytes)
        if len(raw) < self._form.chunk_bytes:
            raise ValueError(f"it has {len(raw)} bytes, not {self._form.chunk_bytes}")
        return self.of_slot(raw, chunk, begin, end)

    def nothing(self, n_frames: int) -> Samples:
        return np.empty(0, EVENT).view(np.recarray)

    def join(self, pieces: Sequence[Samples]) -> Samples:
        return np.concatenate(pieces).view(np.recarray)

    def moved(self, piece: Samples, n_frames: int) -> Samples:
        piece["frame"] += n_frames
        return piece


class _Source(Protocol):
    """What a recording gives; the contracts are those of `chaos.read.take.Recording`."""

    @property
    def n_frames(self) -> int: ...
    def read(self, first: int, last: int) -> Samples: ...
    def moment_of(self, frame: int) -> Any: ...


class Events:
    """The events of a recording: `recording.events[a:b]` are those of frames a to b, as an array of EVENT."""

    def __init__(self, source: _Source) -> None:
        self._source = source

    def __getitem__(self, frames: slice) -> EventArray:
        first, last = frames_of(frames, self._source.n_frames, "events are indexed", "recording.events[first:last]")
        found: EventArray = self._source.read(first, last)  # type: ignore[assignment]
        return found

    def __len__(self) -> int:
        return len(self[:])

    def messages(self, first: int, last: int) -> Iterator[Message]:
        """What these are in words of MIDI, by frame: a sysex stands where it began, whatever came before its end. Those
        of one frame are in the order in which they ended."""
        rows: npt.NDArray[Any] = self[first:last]
        return messages_by_frame((int(row["frame"]), int(row["kind"]), row["bytes"]) for row in rows)
