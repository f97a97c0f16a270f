"""How late a device says that its port is."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["Latency"]

Amount = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Latency(msgspec.Struct, frozen=True):
    """As PipeWire tells it, the largest: so many quanta, frames and nanoseconds together. ALSA's MIDI is one quantum
    late by design. It is kept beside the frames, which are those at which the graph had the events."""

    quanta: Annotated[float, msgspec.Meta(ge=0)]
    frames: Amount
    ns: Amount

    @classmethod
    def from_text(cls, text: str) -> Latency:
        """Of the three numbers, with spaces between them. ValueError if they make no sense."""
        quanta, frames, ns = text.split()
        return msgspec.convert({"quanta": float(quanta), "frames": int(frames), "ns": int(ns)}, cls)
