"""What the log is told of clients that are disconnected: of many alike at once, one line with their number."""

from __future__ import annotations

import logging
import math
import re
import time
from dataclasses import dataclass

__all__ = ["Notices"]

log = logging.getLogger(__name__)

_ONE_BURST_S = 1.0


@dataclass
class _Burst:
    until: float
    latest: str
    n_more: int = 0


class Notices:
    """The first of a burst is told at once, the others at the burst's end, a second later; on one thread.

    Reasons are alike if they differ in numbers alone.
    """

    def __init__(self) -> None:
        self._bursts: dict[str, _Burst] = {}

    @property
    def wait_ms(self) -> int | None:
        """How long until `tell_the_rest` has something to do; None where that is not to be expected."""
        due = [burst.until for burst in self._bursts.values()]
        return max(0, math.ceil((min(due) - time.monotonic()) * 1000)) if due else None

    def disconnected(self, why: str) -> None:
        kind = re.sub(r"\d+", "", why)
        if (burst := self._bursts.get(kind)) is None:
            log.warning("a client is disconnected: %s", why)
            self._bursts[kind] = _Burst(time.monotonic() + _ONE_BURST_S, why)
            return
        burst.n_more += 1
        burst.latest = why

    def tell_the_rest(self, *, of_all: bool = False) -> None:
        """Of bursts that are over, or `of_all`."""
        if not self._bursts:
            return
        now = time.monotonic()
        for kind, burst in list(self._bursts.items()):
            if of_all or now >= burst.until:
                del self._bursts[kind]
                if burst.n_more == 1:
                    log.warning("one more client is disconnected: %s", burst.latest)
                elif burst.n_more:
                    log.warning("%d more clients are disconnected, the last: %s", burst.n_more, burst.latest)
