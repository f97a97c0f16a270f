"""What comes over connections before it is a message: libzmq gathers a message's frames until the last one is there."""

from __future__ import annotations

import ctypes
import math
import mmap
import select
import time
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path
from struct import unpack
from termios import FIONREAD
from typing import NamedTuple

__all__ = ["MAX_UNFINISHED_BYTES", "Arrivals", "in_kernel"]

MAX_UNFINISHED_BYTES = 64 << 20
_LOOK_AFTER_S = 0.02
_TRIM_AFTER_S = 0.2
_TRIM_AGAIN_AFTER_S = 2.0  # ZeroMQ frees what it has when its thread gets to it
_ROUNDS = 2
_LEVEL_LASTS_S = 5.0
_SMALL_BYTES = 4096
_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
_ONCE = select.EPOLLIN | select.EPOLLONESHOT


class Arrivals:
    """Tells of connections whose unfinished message fills the memory; on the socket's own thread.

    The kernel tells that something has come before ZeroMQ reads it: once, then again only after the next look, so that
    a busy client wakes nobody for each of its commands, and an idle one never. How much came is not told, but what the
    process holds is, and what of that are answers (`ours`, in bytes). Nobody is accused before all messages that were
    whole have been taken (`round`), nor at the first look, nor while the little that has come is still where it came:
    while many large answers are made, a small command may wait its turn, and ZeroMQ's thread be too busy to read it.
    Many may send a little each: what the process grows by from look to look is shared out among those who were heard
    meanwhile and whose message is not whole (`unfinished_bytes`). Where that is too much in sum, all go who have at
    least half of the mean.
    `watch` becomes readable, and `wait_ms` is how long to wait at most, for the next `greedy`.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._heard: set[int] = set()
        self._held_before: dict[int, _Held] = {}
        self._suspects: set[int] = set()
        self._shares: dict[int, float] = {}
        self._sharers: set[int] = set()
        self._level, self._level_at = _Level(0, 0), -math.inf
        self._round = 0
        self.ours: Callable[[], int] = lambda: 0
        self._look_at: float | None = None
        self._trim_at: float | None = None
        self._trims_again = False
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
        self._shares.pop(fd, None)
        self._suspects.discard(fd)
        self._sharers.discard(fd)

    def unfinished_bytes(self, fd: int) -> int:
        """About so much is kept of a message that is not whole yet."""
        return int(self._shares.get(fd, 0))

    def round(self) -> None:
        """Whatever message was whole at the last call has been taken."""
        self._round += 1

    def greedy(self) -> list[int]:
        """The descriptors of those who are in the midst of a message, if the process has grown by more than
        MAX_UNFINISHED_BYTES since it began, or messages in whose midst many are hold more than that together.
        """
        for fd, _ in self._epoll.poll(0):
            if not self._heard and time.monotonic() > self._level_at + _LEVEL_LASTS_S:
                self._find_level(_own_memory_bytes())
            self._heard.add(fd)
            if fd not in self._held_before:
                self._held_before[fd] = self._held(fd, min(_own_memory_bytes(), self._before_greed))
        now = time.monotonic()
        self._trim(now)
        if self._look_at is None:
            self._look_at = now + _LOOK_AFTER_S if self._heard else None
        if self._look_at is None or now < self._look_at:
            return []
        n_bytes = _own_memory_bytes()
        seen = {fd for fd in self._heard if fd in self._held_before and self._is_greedy(fd, n_bytes)}
        found = [fd for fd in seen if fd in self._suspects]
        self._suspects = seen
        if found:
            self._before_greed = min(self._held_before[fd].n_bytes for fd in found)
        found += self._many(n_bytes, set(found))
        if found:
            self._trim_at, self._trims_again = now + _TRIM_AFTER_S, True  # anew: they may still send
        for fd in self._heard:
            with suppress(OSError):
                self._epoll.modify(fd, _ONCE)
        self._heard.clear()
        self._look_at = None
        return found

    def trim_soon(self) -> None:
        """Much of what clients had us keep has been freed, or is about to be."""
        now = time.monotonic()
        self._trim_at = min(self._trim_at or math.inf, now + _TRIM_AFTER_S)
        self._trims_again = True

    def close(self) -> None:
        self._epoll.close()

    def _is_greedy(self, fd: int, n_bytes: int) -> bool:
        before, now = self._held_before[fd], self._held(fd, n_bytes)
        if before.in_kernel == now.in_kernel and 0 < now.in_kernel <= _SMALL_BYTES:
            self._held_before[fd] = now
            return False
        return before.is_greed(now)

    def _many(self, n_bytes: int, found: set[int]) -> list[int]:
        """Those, beside the ones found already, whose unfinished messages are too much together at two looks."""
        before, now = self._level, self._find_level(n_bytes)
        grown = now.n_bytes - before.n_bytes - max(0, now.ours - before.ours)
        senders = [fd for fd in self._heard if fd in self._held_before]
        if grown > 0:
            for fd in senders:
                self._shares[fd] = self._shares.get(fd, 0) + grown / len(senders)
        last = self._sharers
        self._sharers = set()
        n_shared = sum(self._shares.values())
        if n_shared <= MAX_UNFINISHED_BYTES:
            return []
        at_least = n_shared / len(self._shares) / 2
        for fd, share in self._shares.items():
            is_late = self._round >= self._held_before[fd].round + _ROUNDS
            if is_late and share >= at_least and fd not in found:
                self._sharers.add(fd)
        return [fd for fd in self._sharers if fd in last]

    def _find_level(self, n_bytes: int) -> _Level:
        self._level, self._level_at = _Level(n_bytes, self.ours()), time.monotonic()
        return self._level

    def _held(self, fd: int, n_bytes: float) -> _Held:
        return _Held(n_bytes, self.ours(), self._round, in_kernel(fd))

    def _trim(self, now: float) -> None:
        """Gives back what the allocator kept of what was freed: else each sender could add as much to it unseen."""
        if self._trim_at is not None and now >= self._trim_at:
            self._trim_at = now + _TRIM_AGAIN_AFTER_S if self._trims_again else None
            self._trims_again, self._before_greed = False, math.inf
            if _malloc_trim is not None:
                _malloc_trim(0)


class _Level(NamedTuple):
    """What the process holds, and how much of it are answers."""

    n_bytes: int
    ours: int


class _Held(NamedTuple):
    """What the process holds, how much of it are answers, the round that it is, and what ZeroMQ has yet to read."""

    n_bytes: float
    ours: int
    round: int
    in_kernel: int

    def is_greed(self, now: _Held) -> bool:
        """Less than a whole round may lie between two of them. What the allocator keeps of answers is not counted."""
        if now.round < self.round + _ROUNDS:
            return False
        return now.n_bytes - self.n_bytes - max(0, now.ours - self.ours) > MAX_UNFINISHED_BYTES


def in_kernel(fd: int) -> int:
    """How many bytes have come over a connection that nobody has read yet; 0 where it has just ended."""
    try:
        (n_bytes,) = unpack("i", ioctl(fd, FIONREAD, b"\0" * 4))
    except OSError:
        return 0
    return int(n_bytes)


def _own_memory_bytes() -> int:
    """The memory of this process that belongs to no file."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_bytes().split())
    return (resident - shared) * mmap.PAGESIZE
