"""Samples of another type than the recording's, and what that cost. Here is numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from chaos.read.planes import Planes
from chaos.terms.formats import SampleFormat

__all__ = ["Conversion"]

Values = npt.NDArray[Any]

_SOURCE_BITS = {"s16": 16, "s32": 32}


class Conversion:
    """To integers of so many bits; 24 stand in the upper ones of 32.

    Values are rounded to the nearest, without dither, and clipped at full scale; NaN becomes 0. `is_exact`, `max_error`
    and `clipped` tell what changed.
    """

    def __init__(self, sample_format: SampleFormat, bits: int) -> None:
        self.is_exact = True
        self.max_error = 0.0
        self.clipped = 0
        self._bits = bits
        self._source_bits = _SOURCE_BITS.get(sample_format, 0)

    def __call__(self, planes: Planes) -> Planes:
        convert = self._from_integer if self._source_bits else self._from_float
        return [self._placed(convert(np.asarray(plane))).data for plane in planes]

    def _from_float(self, samples: Values) -> Values:
        full = 1 << (self._bits - 1)
        scaled = samples.astype(np.float64) * full
        rounded = np.rint(np.nan_to_num(scaled, posinf=np.finfo(np.float64).max))
        clipped = np.clip(rounded, -full, full - 1)
        self.clipped += int(np.count_nonzero(clipped != rounded))
        if not np.array_equal(clipped, scaled):
            self.is_exact = False
            errors = np.abs(scaled - clipped)
            self._book(float(errors[np.isfinite(errors)].max(initial=0)) / full)
        return clipped.astype(np.int64)

    def _from_integer(self, samples: Values) -> Values:
        values = samples.astype(np.int64)
        surplus = self._source_bits - self._bits
        if surplus <= 0:
            return values << -surplus
        full = 1 << (self._bits - 1)
        rounded = (values + (1 << (surplus - 1))) >> surplus
        kept: Values = np.minimum(rounded, full - 1)
        self.clipped += int(np.count_nonzero(kept != rounded))
        error = int(np.abs((kept << surplus) - values).max(initial=0))
        if error:
            self.is_exact = False
            self._book(error / (1 << (self._source_bits - 1)))
        return kept

    def _placed(self, values: Values) -> Values:
        if self._bits == 16:
            return values.astype(np.int16)
        placed: Values = values << (32 - self._bits)
        return placed.astype(np.int32)

    def _book(self, error: float) -> None:
        self.max_error = max(self.max_error, error)
