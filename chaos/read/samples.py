"""Samples as numpy arrays (channels, frames)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["DTYPES", "Missing", "Samples"]

Samples = npt.NDArray[Any]

Missing = Literal["zeros", "nan", "error"]
"""What becomes of frames that a gap stands for: zeros, NaN (float recordings alone), or InvalidRange."""

DTYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype("<f4"), "s16": np.dtype("<i2"), "s32": np.dtype("<i4")}
"""How each sample format lies in slots and chunk files."""
