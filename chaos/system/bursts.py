"""What happens many times alike: the first of a burst is told at once, the others together when it is over."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Bursts", "More"]


@dataclass
class _Burst:
    until: float
    latest: str
    n_more: int = 0


class More(NamedTuple):
    """What a burst had behind its first one: how many, and the last of them."""

    kind: str
    n: int
    latest: str


class Bursts:
    """Counts what is of one kind for `lasts_s` from its first one on. From any thread."""

    def __init__(self, lasts_s: float) -> None:
        self._lasts_s = lasts_s
        self._lock = threading.Lock()
        self._open: dict[str, _Burst] = {}

    @property
    def wait_s(self) -> float | None:
        """How long until the next burst is over; None while there is none."""
        with self._lock:
            ends = [burst.until for burst in self._open.values()]
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def begins(self, kind: str, what: str) -> bool:
        """Whether this is the first of a burst, and so is to be told now."""
        with self._lock:
            if (burst := self._open.get(kind)) is None:
                self._open[kind] = _Burst(time.monotonic() + self._lasts_s, what)
                return True
            burst.n_more += 1
            burst.latest = what
            return False

    def over(self, *, of_all: bool = False) -> list[More]:
        """Forgets the bursts that are over, or all; gives those that had more than their first."""
        now = time.monotonic()
        with self._lock:
            kinds = [kind for kind, burst in self._open.items() if of_all or now >= burst.until]
            ended = [(kind, self._open.pop(kind)) for kind in kinds]
        return [More(kind, burst.n_more, burst.latest) for kind, burst in ended if burst.n_more]
