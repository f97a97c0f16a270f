"""What a recording's chunks hold: what `chaos.read.take` asks, of samples and of events alike.

numpy comes with the arrays: only who asks for those waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from chaos.terms.form import AudioForm, MidiForm

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ArrayContent", "Content", "Piece", "content_of"]

Piece = TypeVar("Piece")


class Content(Protocol[Piece]):
    """Of one form, in pieces of one kind: arrays, or planes (`chaos.read.planes`). What it gives has the frames
    [begin, end) of a chunk, counted within it; frames in what it gives count from the recording's first where they are
    told at all."""

    def staged(self, begin: int, end: int) -> tuple[int, int]:
        """Which frames of a slot to ask for."""

    def of_slot(self, raw: bytes, chunk: int, begin: int, end: int) -> Piece:
        """Of what a slot gave for these."""

    def of_file(self, path: str, chunk: int, begin: int, end: int) -> Piece:
        """Of a sealed chunk's file. Raises OSError; ValueError where it is too short."""

    def nothing(self, n_frames: int) -> Piece:
        """So many frames of a gap."""

    def join(self, pieces: Sequence[Piece]) -> Piece:
        """One piece of these, which follow each other; at least one."""

    def moved(self, piece: Piece, n_frames: int) -> Piece:
        """The same, with frames so much later."""


class ArrayContent(Content[Any], Protocol):
    """Its pieces are `chaos.read.samples.Samples`."""

    dtype: np.dtype[Any]


def content_of(form: AudioForm | MidiForm) -> ArrayContent:
    if isinstance(form, MidiForm):
        from chaos.read.events import MidiContent

        return MidiContent(form)
    from chaos.read.samples import AudioContent

    return AudioContent(form)
