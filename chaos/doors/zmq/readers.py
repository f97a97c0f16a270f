"""Events that subscribers leave unread: what ZeroMQ keeps of them, in bytes."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.doors.zmq.connections import Connection, Connections

__all__ = ["MAX_BYTES", "Readers"]

MAX_BYTES = 128 << 20
_LOOK_AFTER_BYTES = 1 << 20
_OVERHEAD = 128  # two frames in a pipe


@dataclass
class _Behind:
    """Since when (in events and bytes sent to all until then) something lies unread, and how much that may be."""

    n_events: int
    n_bytes: int
    unread_bytes: int = 0


class Readers:
    """Who reads its events, as far as the kernel tells: it has nothing left for whoever has read all.

    ZeroMQ keeps `max_events` for each that doesn't read, the first ones since it began not to, and counts no bytes.
    Where all together may hold more than MAX_BYTES, those with the most are dropped. What several hold in common counts
    for each of them.
    """

    def __init__(self, connections: Connections, max_events: int) -> None:
        self._connections = connections
        self._max_events = max_events
        self._n_events = 0
        self._n_bytes = 0
        self._looked_at = 0
        self._behind: dict[Connection, _Behind] = {}

    def sent(self, n_bytes: int) -> None:
        """Counts an event that went to all who listen for it."""
        self._n_events += 1
        self._n_bytes += n_bytes + _OVERHEAD
        if self._n_bytes - self._looked_at > _LOOK_AFTER_BYTES:
            self._look()

    def _look(self) -> None:
        before, before_at = self._behind, self._looked_at
        self._behind, self._looked_at = {}, self._n_bytes
        for each in self._connections:
            if not each.has_unread():
                continue
            behind = self._behind[each] = before.get(each) or _Behind(self._n_events, before_at)
            if self._n_events - behind.n_events <= self._max_events:
                behind.unread_bytes = self._n_bytes - behind.n_bytes
        n_bytes = sum(behind.unread_bytes for behind in self._behind.values())
        for each, behind in sorted(self._behind.items(), key=lambda item: -item[1].unread_bytes):
            if n_bytes <= MAX_BYTES:
                break
            n_bytes -= behind.unread_bytes
            self._connections.drop(each, f"it does not read its events, of which {behind.unread_bytes} bytes are kept")
