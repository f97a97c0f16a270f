"""The events of a run: numbered, published, and the latest kept for whoever missed some."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from chaos.protocol.codec import make_event

__all__ = ["EventHistory"]


class EventHistory:
    """Keeps at most `max_events`, and of them the latest that have `max_bytes` together.

    `publish(topic, payload)` sends an event. `seq` is the last event's number; they count up by one from 1.
    """

    def __init__(
        self, run_id: str, max_events: int, max_bytes: int, publish: Callable[[bytes, bytes], None]
    ) -> None:
        self.seq = 0
        self._run_id = run_id
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._publish = publish
        self._kept: deque[tuple[int, bytes]] = deque()
        self._kept_bytes = 0

    def add(self, kind: str, uri: str | None, fields: dict[str, Any]) -> None:
        """An event that happens now. Raises ValueError where it isn't as the protocol has it."""
        topic, payload = make_event(kind, seq=self.seq + 1, run_id=self._run_id, stream_uri=uri, **fields)
        self.seq += 1
        self._kept.append((self.seq, payload))
        self._kept_bytes += len(payload)
        while len(self._kept) > self._max_events or self._kept_bytes > self._max_bytes:
            self._kept_bytes -= len(self._kept.popleft()[1])
        self._publish(topic, payload)

    def since(self, seq: int, limit: int) -> dict[str, Any]:
        """The answer to `events_since`."""
        found = [msgspec.Raw(payload) for number, payload in self._kept if number > seq][:limit]
        return {"events": found, "oldest_seq": self._kept[0][0] if self._kept else self.seq}
