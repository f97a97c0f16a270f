"""Samples as a file has them, from samples as a recording has them, and what that cost."""

from __future__ import annotations

import numpy as np

from chaos.read.samples import Samples
from chaos.terms.containers import Subtype

__all__ = ["BITS", "Encoding", "native_subtype"]

BITS: dict[Subtype, int] = {"FLOAT": 32, "PCM_32": 32, "PCM_24": 24, "PCM_16": 16}
_NATIVE: dict[str, Subtype] = {"f32": "FLOAT", "s16": "PCM_16", "s32": "PCM_32"}
_SOURCE_BITS = {"s16": 16, "s32": 32}
_SKEW = 16


def native_subtype(sample_format: str) -> Subtype:
    """The subtype that holds such samples as they are."""
    return _NATIVE[sample_format]


class Encoding:
    """From planar samples (channels, frames) to interleaved ones (frames, channels), good until the next call.

    24 bits stand in the upper ones of an int32. Values are rounded to the nearest, without dither, and clipped at full
    scale; NaN becomes 0. `is_exact`, `max_error` and `clipped` tell what changed.

    Planes that lie a power of two apart fall into the same lines of the cache: they are set apart by `_SKEW` first,
    which makes 64 channels four times as fast.
    """

    def __init__(self, sample_format: str, subtype: Subtype) -> None:
        self._planes: Samples = np.empty((0, 0))
        self._frames: Samples = np.empty((0, 0))
        self.is_exact = True
        self.max_error = 0.0
        self.clipped = 0
        self._bits = BITS[subtype]
        self._as_is = subtype == native_subtype(sample_format)
        self._source_bits = _SOURCE_BITS.get(sample_format, 0)

    def __call__(self, block: Samples) -> Samples:
        if not self._as_is:
            block = self._from_integer(block) if self._source_bits else self._from_float(block)
        channels, n_frames = block.shape
        if len(self._frames) < n_frames:
            self._planes = np.empty((channels, n_frames + _SKEW), block.dtype)
            self._frames = np.empty((n_frames, channels), block.dtype)
        planes, frames = self._planes[:, :n_frames], self._frames[:n_frames]
        planes[:] = block
        frames[:] = planes.T
        return frames

    def _from_float(self, block: Samples) -> Samples:
        full = 1 << (self._bits - 1)
        scaled = block.astype(np.float64) * full
        rounded = np.rint(np.nan_to_num(scaled, posinf=np.finfo(np.float64).max))
        clipped = np.clip(rounded, -full, full - 1)
        self.clipped += int(np.count_nonzero(clipped != rounded))
        if not np.array_equal(clipped, scaled):
            self.is_exact = False
            errors = np.abs(scaled - clipped)
            self._book(float(errors[np.isfinite(errors)].max(initial=0)) / full)
        return self._placed(clipped.astype(np.int64))

    def _from_integer(self, block: Samples) -> Samples:
        values = block.astype(np.int64)
        surplus = self._source_bits - self._bits
        if surplus <= 0:
            return self._placed(values << -surplus)
        full = 1 << (self._bits - 1)
        rounded = (values + (1 << (surplus - 1))) >> surplus
        kept = np.minimum(rounded, full - 1)
        self.clipped += int(np.count_nonzero(kept != rounded))
        error = int(np.abs((kept << surplus) - values).max(initial=0))
        if error:
            self.is_exact = False
            self._book(error / (1 << (self._source_bits - 1)))
        return self._placed(kept)

    def _placed(self, values: Samples) -> Samples:
        if self._bits == 16:
            return values.astype(np.int16)
        return (values << (32 - self._bits)).astype(np.int32)

    def _book(self, error: float) -> None:
        self.max_error = max(self.max_error, error)
