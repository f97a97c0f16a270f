"""The events that are kept: how many, how much, and what somebody who missed some is given."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from chaos.engine.history import EventHistory


def kept(history: EventHistory, seq: int = 0, limit: int = 1000) -> tuple[list[int], int]:
    answer: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(history.since(seq, limit)))
    return [event["seq"] for event in answer["events"]], answer["oldest_seq"]


def test_events_are_numbered_published_and_kept() -> None:
    sent: list[tuple[bytes, bytes]] = []
    history = EventHistory("run", 10, 1 << 20, lambda topic, payload: sent.append((topic, payload)))
    assert kept(history) == ([], 0)
    history.add("daemon_started", None, {})
    history.add("stream_started", "stream://a/b", {})
    assert [topic for topic, _ in sent] == [b"daemon_started", b"stream_started stream://a/b"]
    assert [msgspec.json.decode(payload)["seq"] for _, payload in sent] == [1, 2]
    assert (history.seq, kept(history)) == (2, ([1, 2], 1))


def test_an_event_that_breaks_the_protocol_takes_no_number() -> None:
    history = EventHistory("run", 10, 1 << 20, lambda topic, payload: None)
    with pytest.raises(ValueError, match="stream_state"):
        history.add("stream_state", None, {})
    history.add("daemon_started", None, {})
    assert kept(history) == ([1], 1)


def test_the_latest_are_kept() -> None:
    history = EventHistory("run", 3, 1 << 20, lambda topic, payload: None)
    for _ in range(5):
        history.add("daemon_started", None, {})
    assert kept(history) == ([3, 4, 5], 3)
    assert kept(history, seq=3) == ([4, 5], 3)
    assert kept(history, seq=1, limit=2) == ([3, 4], 3)
    assert kept(history, seq=5) == ([], 3)


def test_they_take_no_more_than_they_may() -> None:
    sent: list[bytes] = []
    history = EventHistory("run", 1000, 1000, lambda topic, payload: sent.append(payload))
    for _ in range(50):
        history.add("daemon_started", None, {})
    found, oldest = kept(history)
    assert found == list(range(oldest, 51))
    sizes = [len(payload) for payload in sent]
    assert sum(sizes[oldest - 1 :]) <= 1000 < sum(sizes[oldest - 2 :])
