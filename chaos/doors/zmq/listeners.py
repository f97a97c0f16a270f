"""The events' socket (XPUB), on a thread of its own: ZeroMQ works there on what subscribers say and leave behind, which
takes seconds where they had many long prefixes, and commands don't wait for it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import zmq

from chaos.doors.zmq.arrivals import Arrivals
from chaos.doors.zmq.connections import Connections, endpoint_of
from chaos.doors.zmq.curve import Gate
from chaos.doors.zmq.inflow import Inflow
from chaos.doors.zmq.readers import Readers
from chaos.doors.zmq.subscriptions import Subscriptions

__all__ = ["Listeners"]

log = logging.getLogger(__name__)

_SUBSCRIPTIONS_AT_ONCE = 256


class Listeners:
    """Who listens to events: unborn until `start`, alive until `close`. The socket is bound, and stays its owner's.

    `on_heads(wanted)` is called on this thread whenever the first client begins to listen for
    `stream_head_position`, and when the last one has stopped; `on_freed()` when much may have been freed.
    """

    def __init__(
        self,
        bound: zmq.Socket[bytes],
        connections: Connections,
        arrivals: Arrivals,
        gate: Gate | None,
        on_heads: Callable[[bool], object],
        on_freed: Callable[[], object],
    ) -> None:
        self._bound = bound
        self._connections = connections
        self._arrivals = arrivals
        self._gate = gate
        self._on_heads = on_heads
        self._on_freed = on_freed
        self._subscriptions = Subscriptions(connections)
        self._readers = Readers(connections, int(bound.sndhwm))
        self._inflow = Inflow(endpoint_of(bound))
        self._n_connected = 0
        self._has_more = False
        self._outbox: deque[tuple[bytes, bytes]] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._inflow.start()
        self._thread = threading.Thread(target=self._run, name="listeners", daemon=True)
        self._thread.start()

    def publish(self, topic: bytes, payload: bytes) -> None:
        """Send an event; from any thread, never waiting. Events leave in the order of these calls."""
        with self._lock:
            if not self._closed:
                self._outbox.append((topic, payload))
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Send what was handed in, and end. To be called once."""
        with self._lock:
            self._closed = True
            os.eventfd_write(self._wake, 1)
        if self._thread is not None:
            self._thread.join()
        self._inflow.close()
        os.close(self._wake)

    def _run(self) -> None:
        poller = zmq.Poller()  # of the socket only the descriptor: all that ZeroMQ itself does is to be watched
        for waited in (self._wake, self._arrivals.watch, self._connections.watch, int(self._bound.get(zmq.FD))):
            poller.register(waited, zmq.POLLIN)
        while not self._closed or self._outbox:
            try:
                self._turn(dict(poller.poll(0 if self._has_more else self._connections.wait_ms)))
            except Exception:
                log.exception("the events' socket failed, and goes on")
        self._connections.end()

    def _turn(self, ready: dict[object, int]) -> None:
        self._connections.read()
        if self._gate is not None:
            self._gate.look(self._connections)
        self._listen()
        self._subscriptions.look()
        if self._subscriptions.have_many_gone() or len(self._connections) < self._n_connected:
            self._on_freed()
        self._n_connected = len(self._connections)
        if self._wake in ready:
            os.eventfd_read(self._wake)
            while self._outbox:
                due = [self._outbox.popleft() for _ in range(len(self._outbox))]
                # Who subscribed before these were handed in gets them: a send alone looks for that now and then.
                self._listen()
                for each in due:
                    with self._inflow.watched():
                        self._bound.send_multipart(each)
                    self._readers.sent(sum(map(len, each)))
        with self._inflow.watched():  # the descriptor tells of what comes after this
            self._has_more = bool(self._bound.poll(0))
        if not self._has_more:
            self._inflow.caught_up()
            self._arrivals.round()

    def _listen(self) -> None:
        """Many at a time: ZeroMQ queues what subscribers say without end, and events wait meanwhile."""
        was_wanted = self._subscriptions.want_heads
        with suppress(zmq.Again):
            for _ in range(_SUBSCRIPTIONS_AT_ONCE):
                with self._inflow.watched():
                    told = self._bound.recv_multipart(zmq.NOBLOCK, copy=False)
                self._subscriptions.take(told)
        if self._subscriptions.want_heads != was_wanted:
            self._on_heads(not was_wanted)
