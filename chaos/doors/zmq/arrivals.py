"""What comes over connections before it is a message: libzmq gathers a message's frames until the last one is there."""

from __future__ import annotations

import ctypes
import math
import mmap
import select
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["MAX_UNFINISHED_BYTES", "Arrivals"]

MAX_UNFINISHED_BYTES = 64 << 20
_LOOK_AFTER_S = 0.02
_TRIM_AFTER_S = 0.2
_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
_ONCE = select.EPOLLIN | select.EPOLLONESHOT


class Arrivals:
    """Tells of connections whose unfinished message fills the memory; on the socket's own thread.

    The kernel tells that something has come before ZeroMQ reads it: once, then again only after the next look, so that
    a busy client wakes nobody for each of its commands, and an idle one never. How much came is not told, but what the
    process holds is. `watch` becomes readable, and `wait_ms` is how long to wait at most, for the next `greedy`.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._heard: set[int] = set()
        self._held_before: dict[int, float] = {}
        self._look_at: float | None = None
        self._trim_at: float | None = None
        self._before_greed = math.inf

    @property
    def watch(self) -> int:
        return self._epoll.fileno()

    @property
    def wait_ms(self) -> int | None:
        """None where nothing is due."""
        due = [at for at in (self._look_at, self._trim_at) if at is not None]
        return max(0, math.ceil((min(due) - time.monotonic()) * 1000)) if due else None

    def opened(self, fd: int) -> None:
        with suppress(OSError):  # it has ended already; where the descriptor is another client's now, that one is told
            self._epoll.register(fd, _ONCE)

    def finished(self, fd: int) -> None:
        """A message is whole, or the connection has ended: that the kernel notices by itself."""
        self._held_before.pop(fd, None)

    def greedy(self) -> list[int]:
        """The descriptors of those who are in the midst of a message, if the process has grown by more than
        MAX_UNFINISHED_BYTES since it began.
        """
        for fd, _ in self._epoll.poll(0):
            self._heard.add(fd)
            if fd not in self._held_before:
                self._held_before[fd] = min(_own_memory_bytes(), self._before_greed)
        now = time.monotonic()
        self._trim(now)
        if self._look_at is None:
            self._look_at = now + _LOOK_AFTER_S if self._heard else None
        if self._look_at is None or now < self._look_at:
            return []
        held = _own_memory_bytes()
        found = [fd for fd in self._heard if held - self._held_before.get(fd, held) > MAX_UNFINISHED_BYTES]
        if found:
            self._before_greed = min(self._held_before[fd] for fd in found)
            self._trim_at = now + _TRIM_AFTER_S  # anew: they may still send
        for fd in self._heard:
            with suppress(OSError):
                self._epoll.modify(fd, _ONCE)
        self._heard.clear()
        self._look_at = None
        return found

    def trim_soon(self) -> None:
        """Much of what clients had us keep has been freed, or is about to be."""
        if self._trim_at is None:
            self._trim_at = time.monotonic() + _TRIM_AFTER_S

    def close(self) -> None:
        self._epoll.close()

    def _trim(self, now: float) -> None:
        """Gives back what the allocator kept of what was freed: else each sender could add as much to it unseen."""
        if self._trim_at is not None and now >= self._trim_at:
            self._trim_at, self._before_greed = None, math.inf
            if _malloc_trim is not None:
                _malloc_trim(0)


def _own_memory_bytes() -> int:
    """The memory of this process that belongs to no file."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_bytes().split())
    return (resident - shared) * mmap.PAGESIZE
