"""A ZeroMQ socket that knows when its connection is lost, which ZeroMQ itself keeps to itself."""

from __future__ import annotations

import itertools
import math
import time
from typing import NamedTuple

import zmq

from chaos.system.monitor import read_monitor

__all__ = ["WATCHED", "ConnectionLost", "Curve", "NotAdmitted", "WatchedSocket", "own_context", "watch_name"]

_names = itertools.count(1)
_MAX_SOCKETS = 65_535
WATCHED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_DISCONNECTED


class _Context(zmq.Context[zmq.Socket[bytes]]):
    """Apart from `zmq.Context.instance`, which belongs to the program that we may be part of."""

    _instance = None
    _instance_pid = None


def own_context() -> zmq.Context[zmq.Socket[bytes]]:
    """One for all clients of this process, which stays. A client's own would wait without end for that client's sockets
    where the garbage collector takes it before them."""
    context = _Context.instance()
    if context.max_sockets != _MAX_SOCKETS:
        context.max_sockets = _MAX_SOCKETS
    return context


def watch_name() -> str:
    """For a monitor. From a counter: libzmq frees a monitor's address later than Python frees an object's id."""
    return f"inproc://watch-{next(_names)}"


class ConnectionLost(Exception):
    """The other side has gone, and all it had sent before is read."""


class NotAdmitted(Exception):
    """The other side does not let our key in."""


class Curve(NamedTuple):
    """Keys for one connection, in Z85: our own pair, and the other side's public one."""

    public: str
    secret: str
    server: str


class WatchedSocket:
    """A socket connected to one endpoint, and a watch over that connection; for one thread at a time.

    `socket` is there to set options and to send. A connection counts as made once both sides have shaken hands.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], kind: int, endpoint: str, curve: Curve | None = None
    ) -> None:
        self.socket = context.socket(kind)
        self.socket.linger = 0
        if curve is not None:
            self.socket.curve_publickey = curve.public.encode()
            self.socket.curve_secretkey = curve.secret.encode()
            self.socket.curve_serverkey = curve.server.encode()
        self._watch = self.socket.get_monitor_socket(WATCHED, watch_name())
        self._poller = zmq.Poller()
        self._poller.register(self.socket, zmq.POLLIN)
        self._poller.register(self._watch, zmq.POLLIN)
        self.socket.connect(endpoint)

    def receive(self, deadline: float) -> list[bytes] | None:
        """The next message, None if none came by `deadline` (of time.monotonic). Raises ConnectionLost."""
        lost = False
        while True:
            try:
                return self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                if lost:
                    raise ConnectionLost from None
            ready = dict(self._poller.poll(_milliseconds_until(deadline)))
            if not ready:
                return None
            if self._watch in ready:
                lost = read_monitor(self._watch)[0] == zmq.EVENT_DISCONNECTED or lost

    def await_connection(self, deadline: float) -> bool:
        """Whether the connection was made by `deadline`. Raises NotAdmitted where the other side refuses our key."""
        while self._watch.poll(_milliseconds_until(deadline)):
            event = read_monitor(self._watch)[0]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                return True
            if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                raise NotAdmitted
        return False

    def close(self) -> None:
        """Closing twice is harmless."""
        if self.socket.closed:
            return
        self.socket.disable_monitor()
        self.socket.close()
        self._watch.close()


def _milliseconds_until(deadline: float) -> int | None:
    return None if deadline == math.inf else max(0, math.ceil((deadline - time.monotonic()) * 1000))
