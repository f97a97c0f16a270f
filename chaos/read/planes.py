"""Samples as a memoryview of each channel: what a save takes that leaves them as they are. It needs no numpy, which
takes longer to load than many a save."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from chaos.store.objects import open_chunk
from chaos.terms.form import AudioForm
from chaos.terms.formats import SampleFormat

__all__ = ["TYPECODES", "PlaneContent", "Planes", "planes_of", "silence"]

Planes: TypeAlias = list[Any]
"""A memoryview per channel, all of one length, a sample an item."""

TYPECODES: dict[SampleFormat, Literal["f", "h", "i"]] = {"f32": "f", "s16": "h", "s32": "i"}
"""What `memoryview.cast` and `array` call a sample."""


def planes_of(form: AudioForm, raw: bytes | bytearray | memoryview) -> Planes:
    """Of samples that lie one channel behind the other, as in a chunk."""
    whole = memoryview(raw).cast("B").cast(TYPECODES[form.sample_format])
    n_frames = len(whole) // form.channels
    return [whole[k * n_frames : (k + 1) * n_frames] for k in range(form.channels)]


def silence(form: AudioForm, n_frames: int) -> Planes:
    return planes_of(form, bytes(form.channels * n_frames * form.sample_bytes))


class PlaneContent:
    """Contract: `chaos.read.content.Content`."""

    def __init__(self, form: AudioForm) -> None:
        self._form = form

    def staged(self, begin: int, end: int) -> tuple[int, int]:
        return begin, end

    def of_slot(self, raw: bytes, chunk: int, begin: int, end: int) -> Planes:
        return planes_of(self._form, raw)

    def of_file(self, path: str, chunk: int, begin: int, end: int) -> Planes:
        """Mapped, read-only."""
        with open_chunk(Path(path)) as file:
            mapped = mmap.mmap(file.fileno(), self._form.chunk_bytes, access=mmap.ACCESS_READ)
        return [plane[begin:end] for plane in planes_of(self._form, memoryview(mapped))]

    def nothing(self, n_frames: int) -> Planes:
        return silence(self._form, n_frames)

    def join(self, pieces: Sequence[Planes]) -> Planes:
        channels = range(self._form.channels)
        return planes_of(self._form, b"".join(piece[k] for k in channels for piece in pieces))

    def moved(self, piece: Planes, n_frames: int) -> Planes:
        return piece
