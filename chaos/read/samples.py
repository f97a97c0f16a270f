"""Samples as numpy arrays (channels, frames)."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from chaos.terms.form import AudioForm
from chaos.terms.formats import SAMPLES

__all__ = ["DTYPES", "AudioContent", "Missing", "Samples", "block_of", "check_missing", "silence"]

Samples = npt.NDArray[Any]

Missing = Literal["zeros", "nan", "error"]
"""What becomes of frames that a gap stands for: zeros, NaN (float recordings alone), or InvalidRange."""


def check_missing(missing: str) -> None:
    """Raises ValueError for what is not a `Missing`."""
    if missing not in get_args(Missing):
        raise ValueError(f'missing={missing!r}: use "zeros", "nan" or "error"')


DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(sample.data_type).newbyteorder("<") for name, sample in SAMPLES.items()
}
"""How each sample format lies in slots and chunk files."""


def block_of(form: AudioForm, raw: bytes | bytearray) -> Samples:
    """Frames as `StagingReader.read_chunk` gives them."""
    return np.frombuffer(raw, DTYPES[form.sample_format]).reshape(form.channels, -1)


def silence(form: AudioForm, n_frames: int) -> Samples:
    return np.zeros((form.channels, n_frames), DTYPES[form.sample_format])


class AudioContent:
    """Contract: `chaos.read.content.Content`. Arrays (channels, frames)."""

    def __init__(self, form: AudioForm) -> None:
        self.dtype = DTYPES[form.sample_format]
        self._form = form

    def staged(self, begin: int, end: int) -> tuple[int, int]:
        return begin, end

    def of_slot(self, raw: bytes, chunk: int, begin: int, end: int) -> Samples:
        return block_of(self._form, raw)

    def of_file(self, path: str, chunk: int, begin: int, end: int) -> Samples:
        """Mapped, read-only."""
        shape = self._form.channels, self._form.chunk_frames
        return np.memmap(path, self.dtype, "r", shape=shape).view(np.ndarray)[:, begin:end]

    def nothing(self, n_frames: int) -> Samples:
        return silence(self._form, n_frames)

    def join(self, pieces: list[Samples]) -> Samples:
        return np.concatenate(pieces, axis=1)

    def moved(self, piece: Samples, n_frames: int) -> Samples:
        return piece
