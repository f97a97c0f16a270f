"""The events of a run: numbered, published, and the latest kept for whoever missed some."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from chaos.protocol.answers import KeptEvents
from chaos.protocol.codec import make_event, topic_of
from chaos.protocol.events import Event, Published

__all__ = ["EventHistory"]


class EventHistory:
    """Keeps at most `max_events`, and of them the latest that have `max_bytes` together.

    `publish` sends an event. `seq` is the last event's number; they count up by one from 1, and by themselves for each
    topic, until `forget`.
    """

    def __init__(
        self, run_id: str, max_events: int, max_bytes: int, publish: Callable[[Published], None]
    ) -> None:
        self.seq = 0
        self._run_id = run_id
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._publish = publish
        self._topic_seqs: dict[str | None, dict[str, int]] = {}
        self._kept: deque[tuple[int, bytes]] = deque()
        self._kept_bytes = 0

    def add(self, event: Event, uri: str | None = None) -> None:
        """An event that happens now; `uri` is that of its stream."""
        topic = topic_of(event, uri)
        topic_seqs = self._topic_seqs.setdefault(uri, {})
        topic_seq = topic_seqs.get(topic, 0) + 1
        made = make_event(event, seq=self.seq + 1, topic_seq=topic_seq, run_id=self._run_id, stream_uri=uri)
        self.seq += 1
        topic_seqs[topic] = topic_seq
        self._kept.append((self.seq, made.payload))
        self._kept_bytes += len(made.payload)
        while len(self._kept) > self._max_events or self._kept_bytes > self._max_bytes:
            self._kept_bytes -= len(self._kept.popleft()[1])
        self._publish(made)

    def forget(self, uri: str) -> None:
        """A stream has ended: its topics are counted from 1 again, should it come back."""
        self._topic_seqs.pop(uri, None)

    def since(self, seq: int, limit: int) -> KeptEvents:
        """The answer to `events_since`."""
        found = [msgspec.Raw(payload) for number, payload in self._kept if number > seq][:limit]
        return KeptEvents(found, self._kept[0][0] if self._kept else self.seq)
