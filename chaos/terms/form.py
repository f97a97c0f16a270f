"""What a stream's frames are, and how they lie in a chunk: in a slot, a part file, a chunk file alike.

Everything that stores, recovers or reads chunks asks the form where frames are, and knows no more of them than that.
There are two: audio, and events (MIDI).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from chaos.terms.formats import MIDI, SAMPLES, RecordedFormat, SampleFormat

__all__ = ["MIDI_CODE", "AudioForm", "Form", "MidiForm", "Record", "form_of", "records"]

MIDI_CODE: Final = 16
_FORMATS: dict[int, SampleFormat] = {sample.code: name for name, sample in SAMPLES.items()}
_RECORD = struct.Struct("<Q")  # read as the callback writes it, in one: by halves it could be of two moments
_FRAME_MASK = (1 << 32) - 1
_SIZE_MASK = (1 << 24) - 1

Content = bytes | bytearray | memoryview


class Form(Protocol):
    """What the store asks of a form. `folder` is where chunk files lie in a recording, each named by its number;
    `code`, `channels` and `sample_bytes` stand for it in staging files."""

    @property
    def chunk_frames(self) -> int: ...
    @property
    def chunk_bytes(self) -> int: ...
    @property
    def folder(self) -> str: ...
    @property
    def code(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def sample_bytes(self) -> int: ...

    def spans(self, first: int, end: int, chunk: Content) -> Iterator[slice]:
        """Where the bytes of frames [first, end) of this chunk lie in it, in order. Both are 0, the chunk's end, or
        where frames were committed up to."""

    def whole(self, data: bytes, n_frames: int) -> bytes:
        """The chunk with zeros behind its first `n_frames`: what stood there was never committed."""


@dataclass(frozen=True, slots=True)
class AudioForm:
    """Planar samples: a chunk is (channels, chunk_frames) in C order."""

    channels: int
    chunk_frames: int
    sample_format: SampleFormat

    @property
    def folder(self) -> str:
        return "audio/c/0"

    @property
    def code(self) -> int:
        return SAMPLES[self.sample_format].code

    @property
    def sample_bytes(self) -> int:
        return SAMPLES[self.sample_format].n_bytes

    @property
    def chunk_bytes(self) -> int:
        return self.channels * self.chunk_frames * self.sample_bytes

    def spans(self, first: int, end: int, chunk: Content = b"") -> Iterator[slice]:
        width = self.sample_bytes
        for plane in range(0, self.chunk_bytes, self.chunk_frames * width):
            yield slice(plane + first * width, plane + end * width)

    def whole(self, data: bytes, n_frames: int) -> bytes:
        if n_frames == self.chunk_frames:
            return data
        plane = self.chunk_frames * self.sample_bytes
        return b"".join(data[span].ljust(plane, b"\0") for span in self.spans(0, n_frames))


@dataclass(frozen=True, slots=True)
class MidiForm:
    """Events: a chunk is its records one behind the other, in the order in which they came, then zeros.

    Cycle follows cycle; within one the graph may have had events in any order. `chunk_bytes` is what fits in.
    """

    chunk_frames: int
    chunk_bytes: int

    @property
    def folder(self) -> str:
        return "events/raw/c"

    @property
    def code(self) -> int:
        return MIDI_CODE

    @property
    def channels(self) -> int:
        return 1

    @property
    def sample_bytes(self) -> int:
        return 1

    def spans(self, first: int, end: int, chunk: Content) -> Iterator[slice]:
        begin: int | None = None
        stop = 0
        for record in records(chunk):
            if record.frame >= end:
                break
            if record.frame >= first and begin is None:
                begin = record.at
            stop = record.end
        if begin is not None:
            yield slice(begin, stop)

    def whole(self, data: bytes, n_frames: int) -> bytes:
        if n_frames == self.chunk_frames:
            return data.ljust(self.chunk_bytes, b"\0")
        return b"".join(data[span] for span in self.spans(0, n_frames, data)).ljust(self.chunk_bytes, b"\0")


class Record(NamedTuple):
    """One event in a chunk: 32 bits of its frame within the chunk, 24 of how many bytes it has, 8 of its kind, the
    bytes, and zeros up to a multiple of 8. Kind 0 is none: there the records end. `at` is where it begins."""

    at: int
    frame: int
    kind: int
    size: int

    @property
    def data(self) -> slice:
        return slice(self.at + _RECORD.size, self.at + _RECORD.size + self.size)

    @property
    def end(self) -> int:
        return self.at + _RECORD.size + -(-self.size // 8) * 8


def records(chunk: Content) -> Iterator[Record]:
    """The records of a chunk of events, whatever bytes it has: where one would not fit in, they end."""
    at, n_bytes = 0, len(chunk)
    while at + _RECORD.size <= n_bytes:
        (word,) = _RECORD.unpack_from(chunk, at)
        record = Record(at, word & _FRAME_MASK, word >> 56, word >> 32 & _SIZE_MASK)
        if not record.kind or record.end > n_bytes:
            return
        yield record
        at = record.end


def form_of(
    what: int | RecordedFormat, *, channels: int, chunk_frames: int, chunk_bytes: int | None
) -> AudioForm | MidiForm:
    """The form that a staging file's code or a recording's `sample_format` stands for. ValueError if it is none."""
    if what in (MIDI, MIDI_CODE):
        return MidiForm(chunk_frames, chunk_bytes or 0)
    if isinstance(what, int):
        if what not in _FORMATS:
            raise ValueError(f"{what} stands for no form")
        what = _FORMATS[what]
    return AudioForm(channels, chunk_frames, what)  # type: ignore[arg-type]
