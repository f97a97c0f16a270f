"""How fast the uploader may send, and how long it waits after a refusal."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

__all__ = ["Backoff", "Pace"]

_FIRST_S = 1.0
_LONGEST_S = 60.0


class Pace:
    """Holds what is sent to `bytes_per_s` on average (None: no limit). `ahead` is called before each put, from any
    thread, and waits; once `stop` is set it does no more."""

    def __init__(self, bytes_per_s: int | None, stop: threading.Event) -> None:
        self._bytes_per_s = bytes_per_s
        self._stop = stop
        self._lock = threading.Lock()
        self._free_at = 0.0

    def ahead(self, n_bytes: int) -> None:
        if self._bytes_per_s is None:
            return
        with self._lock:
            now = time.monotonic()
            begin = max(now, self._free_at)
            self._free_at = begin + n_bytes / self._bytes_per_s
        if begin > now:
            self._stop.wait(begin - now)


class Backoff:
    """1 s after the first refusal, twice as long after each further one, a minute at most; each by chance up to half
    shorter, so that a thousand recorders don't come back at once."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._next_s = _FIRST_S

    def reset(self) -> None:
        self._next_s = _FIRST_S

    def wait_s(self) -> float:
        wait_s = self._next_s * (1 - self._chance() / 2)
        self._next_s = min(2 * self._next_s, _LONGEST_S)
        return wait_s
