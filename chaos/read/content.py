"""What a recording's chunks hold, as arrays: what `chaos.read.take` asks, of samples and of events alike."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from chaos.read.events import MidiContent
from chaos.read.samples import AudioContent, Samples
from chaos.terms.form import AudioForm, MidiForm

__all__ = ["Content", "content_of"]


class Content(Protocol):
    """Of one form. What it gives has the frames [begin, end) of a chunk, counted within it; frames in what it gives
    count from the recording's first where they are told at all."""

    dtype: np.dtype[Any]

    def staged(self, begin: int, end: int) -> tuple[int, int]:
        """Which frames of a slot to ask for."""

    def of_slot(self, raw: bytes, chunk: int, begin: int, end: int) -> Samples:
        """Of what a slot gave for these."""

    def of_file(self, path: str, chunk: int, begin: int, end: int) -> Samples:
        """Of a sealed chunk's file. Raises OSError; ValueError where it is too short."""

    def nothing(self, n_frames: int) -> Samples:
        """So many frames of a gap."""

    def join(self, pieces: list[Samples]) -> Samples:
        """One array of these, which follow each other; at least one."""

    def moved(self, piece: Samples, n_frames: int) -> Samples:
        """The same, with frames so much later."""


def content_of(form: AudioForm | MidiForm) -> Content:
    return MidiContent(form) if isinstance(form, MidiForm) else AudioContent(form)
