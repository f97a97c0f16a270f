"""How late a device says that its port is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

__all__ = ["Latency"]

Amount = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Latency(msgspec.Struct, frozen=True):
    """As PipeWire tells it, the largest: so many quanta, frames and nanoseconds together. ALSA's MIDI is one quantum
    late by design. It is kept beside the frames, which are those at which the graph had them."""

    quanta: Annotated[float, msgspec.Meta(ge=0)]
    frames: Amount
    ns: Amount

    @property
    def is_late(self) -> bool:
        return bool(self.quanta or self.frames or self.ns)

    @classmethod
    def largest(cls, latencies: Iterable[Latency]) -> Latency:
        """Of all the largest quanta, frames and nanoseconds; of none that of a port that isn't late."""
        each = list(latencies)
        return cls(
            max((one.quanta for one in each), default=0.0),
            max((one.frames for one in each), default=0),
            max((one.ns for one in each), default=0),
        )

    @classmethod
    def from_text(cls, text: str) -> Latency:
        """Of the three numbers, with spaces between them. ValueError if they make no sense."""
        quanta, frames, ns = text.split()
        return msgspec.convert({"quanta": float(quanta), "frames": int(frames), "ns": int(ns)}, cls)
