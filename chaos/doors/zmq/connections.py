"""Who is connected to a socket of ours: which connection a message came over, when it ends, how many there may be."""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Any

import zmq

from chaos.doors.zmq.arrivals import MAX_UNFINISHED_BYTES, Arrivals
from chaos.doors.zmq.notices import Notices
from chaos.system.monitor import read_monitor

__all__ = ["Connection", "Connections", "endpoint_of", "is_at", "shut"]

log = logging.getLogger(__name__)

_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED
_HELD_ANSWERS = 2  # by ZeroMQ, where its queue has room for one: that, and the one that it is about to send
_WORTH_A_TRIM_BYTES = 1 << 20
_AT_ONCE = 1 << 20


class Connection:
    """One client's connection. `waits` are futures that end with it; `n_prefixes` and `prefix_bytes` are what it
    has subscribed to.
    `user` is the key that it came in with, None until it has said something, and where there are no keys. `took_at` is
    when ZeroMQ last took an answer for it (time.monotonic).
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.is_open = True
        self.user: str | None = None
        self.waits: set[Future[Any]] = set()
        self.n_prefixes = 0
        self.prefix_bytes = 0
        self.took_at = time.monotonic()
        self.latest_bytes: deque[int] = deque(maxlen=_HELD_ANSWERS)

    def took(self, n_bytes: int) -> None:
        """ZeroMQ has taken an answer for this client."""
        self.took_at = time.monotonic()
        self.latest_bytes.append(n_bytes)

    def unread_bytes(self) -> int:
        """At most so much does ZeroMQ hold for this client; 0 where the kernel has nothing left to give it."""
        return sum(self.latest_bytes) if self.latest_bytes and self.has_unread() else 0

    def has_unread(self) -> bool:
        """Whether the kernel holds something for this client."""
        try:
            return ioctl(self.fd, TIOCOUTQ, b"\0\0\0\0") != b"\0\0\0\0"
        except OSError:  # it has just ended
            return False

    def end(self) -> None:
        self.is_open = False
        for wait in self.waits:
            wait.cancel()


class Connections:
    """The connections of one bound socket, on the socket's own thread.

    ZeroMQ tells of them by file descriptor, and messages carry the descriptor they came over. The kernel gives a
    descriptor again once it is closed; ZeroMQ has told of the end before that, so whoever reads what is told before
    looking a connection up is not deceived. To be made before the socket is bound.

    `may_open()` says whether one more may stay; those beyond it are closed at once: libzmq ends the whole process
    when it finds no descriptor for a client. A burst can't outrun that by more than about a thousand connections:
    then ZeroMQ's thread waits until what it has told is read. `admits(key)` is set where clients have keys: of those
    that have said nothing yet, who may be strangers, only the newest `max_silent` stay then. A client whose
    message does not end is dropped. `read` is to be called again after `wait_ms`.
    """

    def __init__(self, bound: zmq.Socket[bytes], name: str, may_open: Callable[[], bool], arrivals: Arrivals) -> None:
        self.watch = bound.get_monitor_socket(_EVENTS, f"inproc://{name}")
        self._bound = bound
        self._may_open = may_open
        self._arrivals = arrivals
        self.admits: Callable[[str], bool] | None = None
        self.max_silent = 0
        self._open: dict[int, Connection] = {}
        self._is_refusing = False
        self._notices = Notices()
        self._forgotten_bytes = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def wait_ms(self) -> int | None:
        """None where nothing is due."""
        due = [wait for wait in (self._arrivals.wait_ms, self._notices.wait_ms) if wait is not None]
        return min(due) if due else None

    def __iter__(self) -> Iterator[Connection]:
        """Those that have not been told to end."""
        return (each for each in self._open.values() if each.is_open)

    def read(self) -> None:
        """Takes note of all that ZeroMQ has told."""
        while int(self.watch.get(zmq.EVENTS)) & zmq.POLLIN:
            event, fd = read_monitor(self.watch)
            self._close(fd)
            if event == zmq.EVENT_ACCEPTED:
                self._accept(fd)
        self._notices.tell_the_rest()
        for fd in self._arrivals.greedy():
            if (connection := self._open.get(fd)) is not None:
                why = f"what is not a whole message yet, of it and others, took more than {MAX_UNFINISHED_BYTES} bytes"
                self.drop(connection, why)

    def of(self, frame: zmq.Frame) -> Connection | None:
        """The connection that a message's frame came over, None when it has ended."""
        self.read()
        try:
            connection = self._open.get(int(frame.get(zmq.SRCFD)))
            if connection is not None and self.admits is not None and connection.user is None:
                connection.user = str(frame.get("User-Id"))
                self._check(connection)
        except zmq.ZMQError:  # ZeroMQ itself speaks, for a client that has gone
            return None
        return connection

    def is_admitted(self, frame: zmq.Frame) -> bool:
        """Whether who sent a message's frame is still to be heard, also where its connection has ended since."""
        try:
            return self.admits is None or self.admits(str(frame.get("User-Id")))
        except zmq.ZMQError:
            return False

    def end(self) -> None:
        """Nothing more is to be expected: what the log was not told of yet, it is."""
        self._notices.tell_the_rest(of_all=True)

    def finished(self, fd: int) -> None:
        """A whole message has come over this connection."""
        self._arrivals.finished(fd)

    def forgot(self, n_bytes: int) -> None:
        """So much of what was made for clients is not kept any more; before long it is given back to the system."""
        self._forgotten_bytes += n_bytes
        if self._forgotten_bytes > _WORTH_A_TRIM_BYTES:
            self._forgotten_bytes = 0
            self._arrivals.trim_soon()

    def look(self) -> None:
        """Drops whoever is not admitted any more."""
        for connection in list(self._open.values()):
            self._check(connection)

    def drop(self, connection: Connection, why: str) -> None:
        """Closes a client's connection, and says so in the log. What ZeroMQ has read of it already still comes."""
        if connection.is_open:
            self._notices.disconnected(why)
            connection.end()
            self._shut(connection.fd)

    def _check(self, connection: Connection) -> None:
        if self.admits is not None and connection.user is not None and not self.admits(connection.user):
            self.drop(connection, f"the key {connection.user} is not authorized any more")

    def _accept(self, fd: int) -> None:
        if self.admits is not None:
            silent = [each for each in self if each.user is None]
            for each in silent[: max(0, len(silent) + 1 - self.max_silent)]:
                log.info("a client that has said nothing yet makes room for another")
                each.end()
                self._shut(each.fd)
        if self._may_open():
            self._open[fd] = Connection(fd)
            self._is_refusing = False
            self._arrivals.opened(fd)
            return
        if not self._is_refusing:
            self._is_refusing = True
            log.warning(
                "new clients are turned away: %d are connected, more would use up the files that may be open", len(self)
            )
        self._shut(fd)

    def _close(self, fd: int) -> None:
        connection = self._open.pop(fd, None)
        if connection is not None:
            connection.end()
            self.forgot(sum(connection.latest_bytes) + self._arrivals.unfinished_bytes(fd))
        self.finished(fd)

    def _shut(self, fd: int) -> None:
        shut(fd, endpoint_of(self._bound))


def shut(fd: int, endpoint: str) -> None:
    """Has ZeroMQ see the end of a connection that was accepted at `endpoint`, and nothing of what it has not read yet.

    A descriptor that now belongs to something else is left alone.
    """
    with suppress(OSError):
        peer = socket.socket(fileno=fd)
        try:
            if is_at(peer.getsockname(), endpoint):
                peer.shutdown(socket.SHUT_RDWR)
                while peer.recv(_AT_ONCE, socket.MSG_DONTWAIT):
                    pass
        finally:
            peer.detach()


def endpoint_of(bound: zmq.Socket[bytes]) -> str:
    """Where a socket is bound, as ZeroMQ says it."""
    endpoint = bound.last_endpoint
    assert isinstance(endpoint, bytes)
    return endpoint.rstrip(b"\0").decode(errors="surrogateescape")


def is_at(name: Any, endpoint: str) -> bool:
    """Whether a connection's own address is the endpoint that it was accepted at."""
    if isinstance(name, tuple):
        return str(name[1]) == endpoint.rpartition(":")[2]
    return f"ipc://{name}" == endpoint
