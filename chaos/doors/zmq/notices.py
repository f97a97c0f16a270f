"""What the log is told of clients that are disconnected: of many alike at once, one line with their number."""

from __future__ import annotations

import logging
import math
import re

from chaos.system.bursts import Bursts

__all__ = ["Notices"]

log = logging.getLogger(__name__)

_ONE_BURST_S = 1.0


class Notices:
    """The first of a burst is told at once, the others at the burst's end, a second later; on one thread.

    Reasons are alike if they differ in numbers alone.
    """

    def __init__(self) -> None:
        self._bursts = Bursts(_ONE_BURST_S)

    @property
    def wait_ms(self) -> int | None:
        """How long until `tell_the_rest` has something to do; None where that is not to be expected."""
        return None if (wait_s := self._bursts.wait_s) is None else math.ceil(wait_s * 1000)

    def disconnected(self, why: str) -> None:
        if self._bursts.begins(re.sub(r"\d+", "", why), why):
            log.warning("a client is disconnected: %s", why)

    def tell_the_rest(self, *, of_all: bool = False) -> None:
        """Of bursts that are over, or `of_all`."""
        for more in self._bursts.over(of_all=of_all):
            if more.n == 1:
                log.warning("one more client is disconnected: %s", more.latest)
            else:
                log.warning("%d more clients are disconnected, the last: %s", more.n, more.latest)
