"""Samples as numpy arrays (channels, frames)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from chaos.terms.form import AudioForm
from chaos.terms.formats import SAMPLES

__all__ = ["DTYPES", "Missing", "Samples", "block_of", "chunk_of", "silence"]

Samples = npt.NDArray[Any]

Missing = Literal["zeros", "nan", "error"]
"""What becomes of frames that a gap stands for: zeros, NaN (float recordings alone), or InvalidRange."""

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(sample.data_type).newbyteorder("<") for name, sample in SAMPLES.items()
}
"""How each sample format lies in slots and chunk files."""


def block_of(form: AudioForm, raw: bytes | bytearray) -> Samples:
    """Frames as `StagingReader.read_chunk` gives them."""
    return np.frombuffer(raw, DTYPES[form.sample_format]).reshape(form.channels, -1)


def chunk_of(form: AudioForm, path: str) -> Samples:
    """A whole chunk, mapped from its file, read-only. Raises OSError; ValueError where the file is too short."""
    whole = np.memmap(path, DTYPES[form.sample_format], "r", shape=(form.channels, form.chunk_frames))
    return whole.view(np.ndarray)


def silence(form: AudioForm, n_frames: int) -> Samples:
    return np.zeros((form.channels, n_frames), DTYPES[form.sample_format])
