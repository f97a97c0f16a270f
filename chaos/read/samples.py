"""Samples as numpy arrays (channels, frames)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chaos.store.objects import open_chunk
from chaos.terms.form import AudioForm
from chaos.terms.formats import SAMPLES

__all__ = ["DTYPES", "AudioContent", "Samples"]

Samples = npt.NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(sample.data_type).newbyteorder("<") for name, sample in SAMPLES.items()
}
"""How each sample format lies in slots and chunk files."""


class AudioContent:
    """Contract: `chaos.read.content.ArrayContent`. Arrays (channels, frames)."""

    def __init__(self, form: AudioForm) -> None:
        self.dtype = DTYPES[form.sample_format]
        self._form = form

    def staged(self, begin: int, end: int) -> tuple[int, int]:
        return begin, end

    def of_slot(self, raw: bytes, chunk: int, begin: int, end: int) -> Samples:
        return np.frombuffer(raw, self.dtype).reshape(self._form.channels, -1)

    def of_file(self, path: str, chunk: int, begin: int, end: int) -> Samples:
        """Mapped, read-only."""
        shape = self._form.channels, self._form.chunk_frames
        with open_chunk(Path(path)) as file:
            mapped: Samples = np.memmap(file, self.dtype, "r", shape=shape).view(np.ndarray)
        return mapped[:, begin:end]

    def nothing(self, n_frames: int) -> Samples:
        return np.zeros((self._form.channels, n_frames), self.dtype)

    def join(self, pieces: Sequence[Samples]) -> Samples:
        return np.concatenate(pieces, axis=1)

    def moved(self, piece: Samples, n_frames: int) -> Samples:
        return piece
