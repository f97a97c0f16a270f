"""Samples as a file has them, from samples as a recording has them, and what that cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos._audio import interleave
from chaos.read.planes import Planes
from chaos.terms.containers import Subtype
from chaos.terms.formats import SampleFormat

if TYPE_CHECKING:
    from chaos.export.converting import Conversion

__all__ = ["BITS", "Encoding", "native_subtype"]

BITS: dict[Subtype, int] = {"FLOAT": 32, "PCM_32": 32, "PCM_24": 24, "PCM_16": 16}
_NATIVE: dict[SampleFormat, Subtype] = {"f32": "FLOAT", "s16": "PCM_16", "s32": "PCM_32"}


def native_subtype(sample_format: SampleFormat) -> Subtype:
    """The subtype that holds such samples as they are."""
    return _NATIVE[sample_format]


class Encoding:
    """From a plane per channel to the bytes of interleaved frames, good until the next call.

    24 bits stand in the upper ones of 32. `is_exact`, `max_error` and `clipped` tell what changed, which is nothing
    where the samples stay as they are.
    """

    def __init__(self, sample_format: SampleFormat, subtype: Subtype) -> None:
        self._buffer = bytearray()
        self._conversion: Conversion | None = None
        self.sample_bytes = 2 if BITS[subtype] == 16 else 4
        if subtype != native_subtype(sample_format):
            from chaos.export.converting import Conversion

            self._conversion = Conversion(sample_format, BITS[subtype])

    @property
    def is_exact(self) -> bool:
        return self._conversion is None or self._conversion.is_exact

    @property
    def max_error(self) -> float:
        return 0.0 if self._conversion is None else self._conversion.max_error

    @property
    def clipped(self) -> int:
        return 0 if self._conversion is None else self._conversion.clipped

    def __call__(self, planes: Planes) -> memoryview:
        n_bytes = len(planes) * len(planes[0]) * self.sample_bytes
        if len(self._buffer) < n_bytes:
            self._buffer = bytearray(n_bytes)
        frames = memoryview(self._buffer)[:n_bytes]
        interleave(frames, planes if self._conversion is None else self._conversion(planes), self.sample_bytes)
        return frames
