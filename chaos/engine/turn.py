"""Storage that neither takes nor refuses what is written: told by those who don't wait for it, since who does can't."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from chaos.protocol import events
from chaos.protocol.answers import SignalStatus
from chaos.staging.owner import Staging
from chaos.terms.errors import ChaosError, StorageFailed
from chaos.terms.ledger import Cause, Gap

__all__ = ["HANGS_NS", "Progress", "Turn"]

log = logging.getLogger(__name__)

HANGS_NS = 5_000_000_000


class Progress(msgspec.Struct, frozen=True):
    """What a rotator has done so far."""

    n_chunks_sealed: int = 0
    drift_ppm: float | None = None
    signal: SignalStatus | None = None
    sealed_frame: int = 0


class Turn:
    """What one rotator is at: it takes turns, one per message, and `look` tells of one that does not end.

    `emit` publishes an event of the stream, from any thread.
    """

    def __init__(self, staging: Staging, store: Path, emit: Callable[[events.Event], None]) -> None:
        self._staging = staging
        self._store = store
        self._emit = emit
        self._since_ns = 0  # of the turn that is being taken; 0 between two
        self._is_told = False
        self.progress = Progress()
        """Put in place whole by the rotator and read by any thread: nobody is woken for what nobody asks for."""
        self.refused: ChaosError | None = None  # why storage takes nothing, while it does not
        self.told_open = -1  # first frame of the open gap that was told last

    @contextmanager
    def taken(self) -> Iterator[None]:
        self._since_ns = time.monotonic_ns()
        try:
            yield
        finally:
            self._since_ns = 0

    def hangs_for_s(self, now_ns: int) -> int:
        """Since how many seconds storage has not answered; 0 where it does. `now_ns`: CLOCK_MONOTONIC."""
        since_ns = self._since_ns
        return (now_ns - since_ns) // 1_000_000_000 if since_ns and now_ns - since_ns >= HANGS_NS else 0

    def look(self, now_ns: int) -> None:
        """Tells, once, that storage hangs, and that all that waited is stored; meanwhile of the gap that begins."""
        hangs = self.hangs_for_s(now_ns) > 0
        if not (hangs or self._is_told):
            return
        try:
            stats = self._staging.slots.stats()
        except ValueError:  # closed
            return
        if hangs and not self._is_told:
            self._is_told = True
            error = StorageFailed(
                f"storage ({self._store}) has not answered for {HANGS_NS // 1_000_000_000} s",
                hint="frames wait in memory; those that find no room there are lost, and the ledger tells of them",
            )
            log.warning("%s", error.message)
            self._emit(events.StreamError.of(error, recoverable=True))
            self._emit(events.StorageFailed(error=error.to_wire()))
        elif not hangs and not stats["slots_full"]:
            self._is_told = False
            self._emit(events.StorageRestored(path=str(self._store)))
        first = stats["gap_first"]
        if hangs and first >= 0 and first != self.told_open and stats["first_ns"]:
            self.told_open = first
            self._emit(events.StreamGap.of(Gap.open(first, first, Cause(stats["gap_cause"])), is_open=True))
