"""Events: each has a struct, PROTOCOL.md lists the same ones with the same fields, and the wire carries them."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.protocol.codec import make_event
from chaos.protocol.events import COMMON_FIELDS, EVENTS, StreamError, StreamGap, StreamState
from chaos.terms.errors import ForeignLink
from chaos.terms.ledger import Cause, Confidence, Gap

PROTOCOL = (Path(__file__).parents[2] / "docs" / "PROTOCOL.md").read_text()
EVENTS_TEXT = PROTOCOL.partition("\n## Events\n")[2].partition("\n## ")[0]


def documented() -> dict[str, tuple[str, ...]]:
    rows = re.findall(r"^\| `(\w+)` \| (?:`([^`]*)`)? ?\|", EVENTS_TEXT, re.MULTILINE)
    return {name: tuple(fields.split(", ")) if fields else () for name, fields in rows}


def test_the_page_lists_every_event_and_no_other() -> None:
    assert sorted(documented()) == sorted(EVENTS)


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_the_page_lists_its_fields_and_no_other(name: str) -> None:
    assert documented()[name] == EVENTS[name].__struct_fields__


def test_the_page_lists_the_common_fields() -> None:
    said = re.search(r"a JSON object with at least\n`\{([^}]*)\}`", PROTOCOL)
    assert said is not None
    assert tuple(re.findall(r'"(\w+)"', said[1])) == COMMON_FIELDS


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_no_field_of_an_event_hides_a_common_one(name: str) -> None:
    assert not {*COMMON_FIELDS, "stream_uri"} & set(EVENTS[name].__struct_fields__)


def test_each_moment_of_the_wall_clock_also_stands_as_text() -> None:
    for kind in EVENTS.values():
        fields = kind.__struct_fields__
        for field in fields:
            if field.endswith("_wall_ns"):
                assert field.replace("_wall_ns", "_utc") in fields


@given(st.none() | st.just("stream://desk/take"), st.integers(1, 2**53), st.integers(1, 2**53))
def test_events_carry_topic_and_common_fields(uri: str | None, seq: int, topic_seq: int) -> None:
    made = make_event(
        StreamState(state="paused", reason=""), seq=seq, topic_seq=topic_seq, run_id="r", stream_uri=uri
    )
    event: dict[str, Any] = msgspec.json.decode(made.payload)
    assert made.topic.decode() == ("stream_state" if uri is None else f"stream_state {uri}")
    assert list(event) == [*COMMON_FIELDS, *["stream_uri"] * (uri is not None), "state", "reason"]
    assert (event["type"], event["seq"], event["topic_seq"], event["run_id"]) == ("stream_state", seq, topic_seq, "r")
    assert event.get("stream_uri") == uri
    assert event["monotonic_ns"] > 0
    digits = re.fullmatch(r"(.*)\.(\d{9})Z", event["utc"])
    assert digits is not None
    seconds = int(dt.datetime.fromisoformat(f"{digits[1]}+00:00").timestamp())
    assert seconds * 1_000_000_000 + int(digits[2]) == event["wall_ns"]


def test_an_open_gap_has_no_length() -> None:
    gap = Gap(7, 3, Cause.DEVICE_AWAY, Confidence.CLOCK)
    closed = StreamGap.of(gap)
    assert msgspec.structs.asdict(closed) == gap.to_wire()
    assert msgspec.structs.replace(closed, n_frames=None) == StreamGap.of(gap, is_open=True)
    assert b'"n_frames":null' in msgspec.json.encode(StreamGap.of(gap, is_open=True))


def test_an_error_is_told_as_an_answer_would() -> None:
    error = ForeignLink("x was linked", hint="don't")
    event = StreamError.of(error, recoverable=True)
    assert (event.error, event.recoverable) == (error.to_wire(), True)
