"""What subscribers listen for, as far as the engine has to know it."""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from chaos.doors.zmq.connections import Connection, Connections

__all__ = ["MAX_BYTES", "MAX_PREFIXES", "MAX_PREFIX_BYTES", "MAX_STEPS", "Subscriptions"]

MAX_PREFIXES = 10_000
MAX_PREFIX_BYTES = 512
MAX_STEPS = 16 << 20
MAX_BYTES = 1 << 20
_HEADS = b"stream_head_position"
_MANY = 1000


class Subscriptions:
    """Counts the prefixes on an XPUB socket that let head positions through; keeps none of them.

    ZeroMQ tells of each subscriber's prefixes (XPUB_VERBOSER). A client with more than MAX_PREFIXES is dropped. ZeroMQ
    keeps them byte by byte, and for each subscriber that leaves it goes through those of all: where all together have
    more than MAX_BYTES (some 50 MB of memory), or would take more than MAX_STEPS to leave (half a second), those with
    the most bytes are dropped.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._n_heads = 0
        self._n_gone = 0
        self._looked_at = (0, 0)
        self._n_bytes_told = 0

    @property
    def want_heads(self) -> bool:
        return self._n_heads > 0

    def have_many_gone(self) -> bool:
        """Whether over a thousand prefixes have gone since this was last true."""
        if self._n_gone <= _MANY:
            return False
        self._n_gone = 0
        return True

    def take(self, message: Sequence[zmq.Frame]) -> None:
        """Takes what came over the socket; what is not about a subscription is ignored."""
        connection = self._connections.of(message[0])
        if connection is not None:
            self._connections.finished(connection.fd)
        for frame in message:
            told = frame.bytes
            if told[:1] not in (b"\0", b"\1"):
                continue
            step = 1 if told[:1] == b"\1" else -1
            self._n_gone += step == -1
            prefix = told[1:]
            if _HEADS.startswith(prefix) or prefix.startswith(_HEADS):
                self._n_heads += step
            if connection is not None:
                self._count(connection, len(frame), step)

    def look(self) -> None:
        """Drops those with the most, until the rest is within bounds."""
        seen = (len(self._connections), self._n_bytes_told)
        if seen == self._looked_at:
            return
        self._looked_at = seen
        left = sorted(self._connections, key=lambda each: each.prefix_bytes)
        n_bytes = sum(each.prefix_bytes for each in left)
        while left and (n_bytes > MAX_BYTES or n_bytes * len(left) > MAX_STEPS):
            most = left.pop()
            n_bytes -= most.prefix_bytes
            why = f"it subscribed to {most.prefix_bytes} bytes, the most of {len(left) + 1} clients"
            self._connections.drop(most, why)

    def _count(self, connection: Connection, n_bytes: int, step: int) -> None:
        connection.n_prefixes += step
        connection.prefix_bytes += step * n_bytes
        self._n_bytes_told += n_bytes
        if connection.n_prefixes > MAX_PREFIXES:
            connection.n_prefixes = 0
            self._connections.drop(connection, f"it subscribed to more than {MAX_PREFIXES} prefixes")
