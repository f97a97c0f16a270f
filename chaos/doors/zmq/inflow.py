"""What subscribers pour in: libzmq takes in all that has come, and goes on while more comes, before it gives us a word.

It keeps prefixes byte by byte, in about 46 bytes of memory each, and reads a connection until nothing is left of it,
which ZeroMQ's other thread fills up again meanwhile. No option bounds that.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from chaos.doors.zmq.arrivals import in_kernel
from chaos.doors.zmq.connections import is_at, shut

__all__ = ["Inflow"]

log = logging.getLogger(__name__)

_LOOK_AFTER_S = 0.02
_LOOK_AGAIN_AFTER_S = 0.01
_MAX_CALL_S = 0.04
_MAX_WORK_S = 0.15
_SHARE = 2


@dataclass
class _Work:
    """Of libzmq, since all that had come was last taken: processor time of calls that have ended, begin of the one that
    is under way.
    """

    spent_s: float = 0.0
    began_s: float | None = None

    def is_too_much(self, clock: int) -> bool:
        began_s = self.began_s
        this_one_s = time.clock_gettime(clock) - began_s if began_s is not None else 0.0
        return this_one_s > _MAX_CALL_S or this_one_s + self.spent_s > _MAX_WORK_S


class _Unread(NamedTuple):
    n_bytes: int
    fd: int


class Inflow:
    """Disconnects those who keep libzmq from coming to an end, while they do.

    The socket's thread makes each call that may take in what subscribers say `with inflow.watched()`, which costs a
    word to a sleeping thread at most, and says when nothing is left (`caught_up`). That thread looks at the processor
    time that the call has taken, or all of them until then (not at the time that has passed: the machine may be busy).
    Where that is too much it looks at what the kernel still holds for each connection: whoever has at least half as
    much there as the one with the most is cut off, and what is left of it is thrown away. Who listens, and says nothing
    more, has nothing there.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._clock: int | None = None
        self._work = _Work()
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="inflow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A call of libzmq; on the socket's own thread, always the same one."""
        if self._clock is None:
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
        work = self._work
        work.began_s = began_s = time.thread_time()
        if not self._wake.is_set():
            self._wake.set()
        try:
            yield
        finally:
            work.spent_s += time.thread_time() - began_s
            work.began_s = None

    def caught_up(self) -> None:
        """All that had come is taken."""
        self._work = _Work()

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            time.sleep(_LOOK_AFTER_S)  # many calls may pass meanwhile, and wake nobody
            try:
                self._see_to(self._work)
            except Exception:
                log.exception("what subscribers pour in could not be looked at")

    def _see_to(self, work: _Work) -> None:
        n_cut = 0
        while not self._closed and self._work is work and (work.spent_s or work.began_s is not None):
            if self._clock is not None and work.is_too_much(self._clock):
                n_cut += self._cut_off()
            time.sleep(_LOOK_AGAIN_AFTER_S)
        if n_cut:
            log.warning("clients disconnected for subscribing faster than can be taken in: %d", n_cut)

    def _cut_off(self) -> int:
        unread = sorted(_unread_at(self._endpoint), reverse=True)
        worst = [each for each in unread if each.n_bytes and each.n_bytes * _SHARE >= unread[0].n_bytes]
        for each in worst:
            shut(each.fd, self._endpoint)
        return len(worst)


def _unread_at(endpoint: str) -> list[_Unread]:
    """What the kernel holds for the connections accepted at an endpoint, those that we weren't told of yet included."""
    found = []
    for name in (path.name for path in Path("/proc/self/fd").iterdir()):
        with suppress(OSError):
            peer = socket.socket(fileno=int(name))
            try:
                if is_at(peer.getsockname(), endpoint):
                    found.append(_Unread(in_kernel(peer.fileno()), int(name)))
            finally:
                peer.detach()
    return found
