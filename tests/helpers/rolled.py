"""A stream of several takes, as tests of streams want it."""

from __future__ import annotations

from pathlib import Path

from recorded import START_NS, Rotator, definition

from chaos.store.store import Store
from chaos.store.writer import RecordingWriter

__all__ = ["URI", "begin", "three_takes"]

URI = "stream://mic/1"


def begin(store: Path, take: str, begins_at: int, seed: int, **more: object) -> Rotator:
    """A take of URI that begins at this frame of its timeline, by its clock."""
    started_ns = START_NS + begins_at * 1_000_000_000 // 48000
    shape = definition(f"stream://mic/{take}", started_wall_ns=started_ns, **more)  # type: ignore[arg-type]
    return Rotator(RecordingWriter.create(Store(store), shape), seed)


def three_takes(store: Path) -> list[Rotator]:
    """Frames 0 to 40; their neighbours up to 77, with a gap of 7 in them; a crash, and 48 frames later 30 more, which
    go on."""
    first = begin(store, "1", 0, 1)
    first.write(40)
    first.stop()
    second = begin(store, "1.0002", 40, 2, continues=URI)
    second.write(20)
    second.gap(7)
    second.write(10)
    second.stop(clean=False)
    third = begin(store, "1.0003", 125, 3, follows=f"{URI}.0002", away_ns=1_000_000)
    third.write(30)
    return [first, second, third]
