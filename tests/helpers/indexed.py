"""What the tests of the fleet share: takes of recorders whose clocks are a little off, uploaded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from recorded import START_NS, Rotator
from uploading import record, upload

from chaos.store.store import Store
from chaos.terms.ledger import ClockAnchor, ClockState

__all__ = ["DAY_NS", "begun", "moment", "one_take"]

DAY_NS = 86_400 * 1_000_000_000
RATE = 48_000


def moment(seconds: float, day: int = 0) -> datetime:
    """After the first frame of the first day's takes."""
    return datetime.fromtimestamp(START_NS // 1_000_000_000, UTC) + timedelta(days=day, seconds=seconds)


def begun(
    root: Path, host: str = "rig1", *, day: int = 0, error_ns: int | None = 1_000_000, seed: int = 0, **how: Any
) -> tuple[Store, Rotator]:
    """A take of `host` that goes on: 4,000 frames, a gap of 4,100, 3,000 frames, in chunks of 1,600."""
    store, began_ns = Store(root / host), START_NS + day * DAY_NS
    uri = f"stream://mic/take{day}"
    rotator = record(store, uri, seed, **{"chunk_frames": 1600, "started_wall_ns": began_ns, "boot_id": host, **how})

    def anchor() -> None:
        elapsed_ns = rotator.frame * 1_000_000_000 // RATE
        state = ClockState.UNKNOWN if error_ns is None else ClockState.SYNCHRONIZED
        rotator.writer.anchor(
            ClockAnchor(rotator.frame, rotator.frame, elapsed_ns, began_ns + elapsed_ns, 5, error_ns, error_ns, state)
        )

    anchor()
    rotator.write(4000)
    rotator.gap(4100)
    rotator.write(3000)
    anchor()
    rotator.writer.flush()
    return store, rotator


def one_take(root: Path, url: str, host: str = "rig1", **how: Any) -> Rotator:
    """The same, finished and uploaded."""
    store, rotator = begun(root, host, **how)
    rotator.stop()
    upload(store, url, recorder=host)
    return rotator
