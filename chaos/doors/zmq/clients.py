"""What clients are owed: answers to what they have asked, in bounds."""

from __future__ import annotations

from collections import deque

import zmq

from chaos.doors.zmq.connections import Connection, Connections
from chaos.terms.errors import InvalidRequest

__all__ = ["MAX_PENDING", "MAX_QUEUED_BYTES", "Clients"]

MAX_PENDING = 1024
MAX_QUEUED_BYTES = 32 << 20


class _Client:
    """A client that is owed something. `queue` is what ZeroMQ did not take yet."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.n_pending = 0
        self.queue: deque[list[bytes]] = deque()
        self.queued_bytes = 0


class Clients:
    """Those who are owed answers on a ROUTER socket, by their routing id; on the socket's own thread.

    An answer goes to ZeroMQ at once where it has room, else into a queue here, which is counted in bytes: a client
    that lets it grow beyond MAX_QUEUED_BYTES is dropped. Answers to clients that have gone are forgotten.
    """

    def __init__(self, router: zmq.Socket[bytes], connections: Connections) -> None:
        self._router = router
        self._connections = connections
        self._clients: dict[bytes, _Client] = {}
        self._waiting: set[bytes] = set()

    @property
    def is_behind(self) -> bool:
        """Whether answers are queued here: `retry` is to be called before long."""
        return bool(self._waiting)

    def asks(self, routing_id: bytes, connection: Connection | None) -> None:
        """Counts a command that is to be answered. Raises InvalidRequest beyond MAX_PENDING."""
        client = self._clients.setdefault(routing_id, _Client())
        client.connection = connection
        if client.n_pending >= MAX_PENDING:
            raise InvalidRequest(
                f"{MAX_PENDING} commands of this client have not been answered yet", hint="read the answers first"
            )
        client.n_pending += 1

    def answered(self, routing_id: bytes) -> None:
        """The opposite of `asks`; the answer itself is sent with `send`."""
        self._clients[routing_id].n_pending -= 1
        self._forget_if_done(routing_id)

    def send(self, envelope: list[bytes], answer: bytes) -> None:
        routing_id = envelope[0]
        frames = [*envelope, answer]
        client = self._clients.get(routing_id)
        if client is not None and client.connection is not None and not client.connection.is_open:
            self._forget_queue(routing_id)
            return
        if client is not None and client.queue:
            self._queue(routing_id, client, frames)
            return
        try:
            self._router.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            self._queue(routing_id, self._clients.setdefault(routing_id, _Client()), frames)
        except zmq.ZMQError:  # EHOSTUNREACH: it has gone
            self._forget_queue(routing_id)

    def retry(self) -> None:
        """Hands to ZeroMQ what it now takes."""
        for routing_id in list(self._waiting):
            client = self._clients[routing_id]
            try:
                while client.queue:
                    self._router.send_multipart(client.queue[0], zmq.NOBLOCK)
                    client.queued_bytes -= _size(client.queue.popleft())
            except zmq.Again:
                continue
            except zmq.ZMQError:
                pass
            self._forget_queue(routing_id)

    def _queue(self, routing_id: bytes, client: _Client, frames: list[bytes]) -> None:
        client.queue.append(frames)
        client.queued_bytes += _size(frames)
        self._waiting.add(routing_id)
        if client.queued_bytes > MAX_QUEUED_BYTES:
            if client.connection is not None:
                why = f"it does not read its answers, and {client.queued_bytes} bytes of them are queued"
                self._connections.drop(client.connection, why)
            self._forget_queue(routing_id)

    def _forget_queue(self, routing_id: bytes) -> None:
        self._waiting.discard(routing_id)
        client = self._clients.get(routing_id)
        if client is not None:
            client.queue.clear()
            client.queued_bytes = 0
            self._forget_if_done(routing_id)

    def _forget_if_done(self, routing_id: bytes) -> None:
        client = self._clients[routing_id]
        if not client.n_pending and not client.queue:
            del self._clients[routing_id]


def _size(frames: list[bytes]) -> int:
    return sum(map(len, frames))
