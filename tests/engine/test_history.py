"""The events that are kept: how many, how much, and what somebody who missed some is given."""

from __future__ import annotations

from typing import Any

import msgspec

from chaos.engine.history import EventHistory
from chaos.protocol.events import DaemonStarted, Published, StreamState

STARTED = DaemonStarted(version="1", pid=7)
PAUSED = StreamState(state="paused", reason="")


def kept(history: EventHistory, seq: int = 0, limit: int = 1000) -> tuple[list[int], int]:
    answer: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(history.since(seq, limit)))
    return [event["seq"] for event in answer["events"]], answer["oldest_seq"]


def test_events_are_numbered_published_and_kept() -> None:
    sent: list[Published] = []
    history = EventHistory("run", 10, 1 << 20, sent.append)
    assert kept(history) == ([], 0)
    history.add(STARTED)
    history.add(PAUSED, "stream://a/b")
    assert [each.topic for each in sent] == [b"daemon_started", b"stream_state stream://a/b"]
    assert [msgspec.json.decode(each.payload)["seq"] for each in sent] == [1, 2]
    assert [each.event for each in sent] == [STARTED, PAUSED]
    assert (history.seq, kept(history)) == (2, ([1, 2], 1))


def test_each_topic_is_counted_by_itself_until_its_stream_has_ended() -> None:
    sent: list[Published] = []
    history = EventHistory("run", 10, 1 << 20, sent.append)
    for uri in ("stream://a/b", "stream://a/c", "stream://a/b", None):
        history.add(PAUSED if uri else STARTED, uri)
    history.forget("stream://a/b")
    for uri in ("stream://a/b", "stream://a/c"):
        history.add(PAUSED, uri)
    assert [each.topic_seq for each in sent] == [1, 1, 2, 1, 1, 2]
    assert [msgspec.json.decode(each.payload)["topic_seq"] for each in sent] == [1, 1, 2, 1, 1, 2]


def test_the_latest_are_kept() -> None:
    history = EventHistory("run", 3, 1 << 20, lambda made: None)
    for _ in range(5):
        history.add(STARTED)
    assert kept(history) == ([3, 4, 5], 3)
    assert kept(history, seq=3) == ([4, 5], 3)
    assert kept(history, seq=1, limit=2) == ([3, 4], 3)
    assert kept(history, seq=5) == ([], 3)


def test_they_take_no_more_than_they_may() -> None:
    sent: list[bytes] = []
    history = EventHistory("run", 1000, 1000, lambda made: sent.append(made.payload))
    for _ in range(50):
        history.add(STARTED)
    found, oldest = kept(history)
    assert found == list(range(oldest, 51))
    sizes = [len(payload) for payload in sent]
    assert sum(sizes[oldest - 1 :]) <= 1000 < sum(sizes[oldest - 2 :])
