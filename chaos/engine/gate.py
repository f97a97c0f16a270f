"""Where streams that belong together wait for each other before their first frame."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Final

from chaos._slots import Slots

__all__ = ["Gate"]

_NEVER: Final = (1 << 64) - 1
_SOON_NS: Final = 1_000_000_000  # behind the moment at which they begin: as long as a stream is not said to stall


class Gate:
    """Shut until `open_at`. Streams come to it from threads of their own, before their callbacks run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ns = _NEVER
        self._waiting: list[Slots] = []

    def holds(self, monotonic_ns: int) -> bool:
        """Whether takes that wait here need not have begun at this moment: it is shut, or was just opened."""
        with self._lock:
            return self._ns == _NEVER or monotonic_ns < self._ns + _SOON_NS

    def admit(self, slots: Slots) -> None:
        """Has a take wait here for its first frame."""
        with self._lock:
            slots.begin_at(self._ns)
            self._waiting.append(slots)

    def open_at(self, monotonic_ns: int) -> None:
        """All takes, also those still to come, begin with the first cycle of that time, or later."""
        with self._lock:
            self._ns = monotonic_ns
            waiting, self._waiting = self._waiting, []
            for slots in waiting:
                with suppress(ValueError):  # its stream has ended meanwhile
                    slots.begin_at(monotonic_ns)
