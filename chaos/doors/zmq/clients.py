"""What clients are owed: answers to what they have asked, in bounds."""

from __future__ import annotations

import sys
import time
from collections import deque

import zmq

from chaos.doors.zmq.connections import Connection, Connections
from chaos.terms.errors import InvalidRequest

__all__ = ["MAX_BYTES_IN_ALL", "MAX_PENDING", "MAX_QUEUED_BYTES", "Clients"]

MAX_PENDING = 1024
MAX_QUEUED_BYTES = 32 << 20
MAX_BYTES_IN_ALL = 128 << 20
_LOOK_AFTER_BYTES = 8 << 20


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
    that lets it grow beyond MAX_QUEUED_BYTES is dropped. ZeroMQ counts messages, whatever their size, so the router is
    to have room for one (SNDHWM 1). What all clients together have not read, there and here, is at most
    MAX_BYTES_IN_ALL: beyond it those are dropped who have left the most unread for the longest time. Answers to clients
    that have gone are forgotten.
    """

    def __init__(self, router: zmq.Socket[bytes], connections: Connections) -> None:
        self._router = router
        self._connections = connections
        self._clients: dict[bytes, _Client] = {}
        self._waiting: set[bytes] = set()
        self._unlooked_bytes = 0

    @property
    def is_behind(self) -> bool:
        """Whether answers are queued here: `retry` is to be called before long."""
        return bool(self._waiting)

    @property
    def kept_bytes(self) -> int:
        """Of answers, here and in ZeroMQ, for those clients that are behind."""
        behind = [self._clients[routing_id] for routing_id in self._waiting]
        return sum(each.queued_bytes + (sum(each.connection.latest_bytes) if each.connection else 0) for each in behind)

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

    def send(self, envelope: list[bytes], answer: bytes, connection: Connection | None) -> None:
        """`connection` is the one that the command came over; its client may have come back over another."""
        routing_id = envelope[0]
        frames = [*envelope, answer]
        client = self._clients.get(routing_id)
        if client is not None and client.connection is not None and client.connection.is_open:
            connection = client.connection
        if connection is not None and not connection.is_open:
            self._forget(routing_id, frames)
            return
        try:
            if client is not None and client.queue:
                self._queue(routing_id, client, frames)
            else:
                self._hand_over(frames, connection)
        except zmq.Again:
            client = self._clients.setdefault(routing_id, _Client())
            client.connection = connection
            self._queue(routing_id, client, frames)
        except zmq.ZMQError:  # EHOSTUNREACH: it has gone
            self._forget(routing_id, frames)
            return
        self._unlooked_bytes += _size(frames)
        if self._unlooked_bytes > _LOOK_AFTER_BYTES:
            self._look()

    def retry(self) -> bool:
        """Hands to ZeroMQ what it now takes. False where that is nothing."""
        is_moving = False
        for routing_id in list(self._waiting):
            client = self._clients[routing_id]
            try:
                while client.queue:
                    self._hand_over(client.queue[0], client.connection)
                    client.queued_bytes -= _size(client.queue.popleft())
                    is_moving = True
            except zmq.Again:
                continue
            except zmq.ZMQError:
                pass
            self._forget_queue(routing_id)
        return is_moving

    def _hand_over(self, frames: list[bytes], connection: Connection | None) -> None:
        self._router.send_multipart(frames, zmq.NOBLOCK)
        if connection is not None:
            connection.took(_size(frames))

    def _look(self) -> None:
        """Drops whoever has left the most unread for the longest time, until the rest is within bounds."""
        self._unlooked_bytes = 0
        unread = {connection: connection.unread_bytes() for connection in self._connections}
        for client in self._clients.values():
            if client.connection in unread:
                unread[client.connection] += client.queued_bytes
        n_bytes, now = sum(unread.values()), time.monotonic()
        for connection in sorted(unread, key=lambda each: unread[each] * (each.took_at - now)):
            if n_bytes <= MAX_BYTES_IN_ALL - _LOOK_AFTER_BYTES:
                break
            why = f"it does not read its answers: {unread[connection]} of {n_bytes} bytes that all clients left unread"
            self._connections.drop(connection, why)
            n_bytes -= unread[connection]
        for routing_id in list(self._waiting):
            gone = self._clients[routing_id].connection
            if gone is not None and not gone.is_open:
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

    def _forget(self, routing_id: bytes, frames: list[bytes]) -> None:
        """An answer that nobody is there for. Commands that came before their client went are still done."""
        self._connections.forgot(_size(frames))
        self._forget_queue(routing_id)

    def _forget_queue(self, routing_id: bytes) -> None:
        self._waiting.discard(routing_id)
        client = self._clients.get(routing_id)
        if client is not None:
            self._connections.forgot(client.queued_bytes)
            client.queue.clear()
            client.queued_bytes = 0
            self._forget_if_done(routing_id)

    def _forget_if_done(self, routing_id: bytes) -> None:
        client = self._clients[routing_id]
        if not client.n_pending and not client.queue:
            del self._clients[routing_id]


def _size(frames: list[bytes]) -> int:
    """With what Python needs to keep them, which is more than a short answer itself."""
    return sum(map(sys.getsizeof, frames), sys.getsizeof(frames))
