"""What a stream's frames are, and how they lie in a chunk: in a slot, a part file, a chunk file alike.

Everything that stores, recovers or reads chunks asks the form where frames are, and knows no more of them than that.
Audio is the only form so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from chaos.terms.formats import SAMPLES, SampleFormat

__all__ = ["AudioForm", "Form"]


class Form(Protocol):
    """What the store asks of a form. `folder` is where chunk files lie in a recording, each named by its number."""

    @property
    def chunk_frames(self) -> int: ...
    @property
    def chunk_bytes(self) -> int: ...
    @property
    def folder(self) -> str: ...

    def spans(self, first: int, end: int) -> Iterator[slice]:
        """Where the bytes of frames [first, end) of a chunk lie in it, in order."""

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
    def sample_bytes(self) -> int:
        return SAMPLES[self.sample_format].n_bytes

    @property
    def chunk_bytes(self) -> int:
        return self.channels * self.chunk_frames * self.sample_bytes

    def spans(self, first: int, end: int) -> Iterator[slice]:
        width = self.sample_bytes
        for plane in range(0, self.chunk_bytes, self.chunk_frames * width):
            yield slice(plane + first * width, plane + end * width)

    def whole(self, data: bytes, n_frames: int) -> bytes:
        if n_frames == self.chunk_frames:
            return data
        plane = self.chunk_frames * self.sample_bytes
        return b"".join(data[span].ljust(plane, b"\0") for span in self.spans(0, n_frames))
