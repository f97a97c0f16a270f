"""Places and ranges in a recording, as people write them: one rule, and what was meant is said."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator

import pytest

from chaos.terms.errors import InvalidRange, InvalidRequest
from chaos.terms.places import Range, Timeline, parse_place, parse_range

RATE = 48000
BEGIN = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


def timeline(n_seconds: float, begin: dt.datetime = BEGIN) -> Timeline:
    def frame_of(moment: float | dt.datetime) -> int:
        return round((moment if isinstance(moment, float) else (moment - begin).total_seconds()) * RATE)

    return Timeline(round(n_seconds * RATE), frame_of, lambda frame: begin + dt.timedelta(seconds=frame / RATE))


TEN = timeline(10)


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is UTC+1, from 2026-03-29 on UTC+2, from 2026-10-25 on UTC+1 again."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ("start", 0),
        ("head", 10 * RATE),
        ("4800", 4800),
        ("2s", 2 * RATE),
        ("-2s", 8 * RATE),
        ("-1h", 0),
        ("1h", 10 * RATE),
        ("2026-01-31T12:00:03Z", 3 * RATE),
        ("2026-01-31T13:00:00.5+01:00", RATE // 2),
        ("2026-01-31T11:00:00Z", 0),
        ("13:00:03", 3 * RATE),
        ("13:00", 0),
        ("13:00:00.25", RATE // 4),
        ("2026-01-31 13:00:04", 4 * RATE),
        ("2026-01-31T13:00:04", 4 * RATE),
    ],
)
def test_places(text: str, frame: int) -> None:
    assert parse_place(text, TEN) == frame


@pytest.mark.parametrize("text", ["", "begin", "-", "25:00", "2026-13-31T12:00:00Z", "3.5", "-480000"])
def test_places_that_are_none(text: str) -> None:
    with pytest.raises(InvalidRange, match="not a place"):
        parse_place(text, TEN)


def test_a_range_says_nothing_of_what_was_not_asked() -> None:
    assert parse_range(None, None, None, TEN) == Range(None, None)
    assert parse_range(None, "30", None, TEN) == Range(30, None)
    assert parse_range("2s", None, None, TEN) == Range(8 * RATE, 10 * RATE)


def test_a_number_alone_is_a_frame_and_never_seconds() -> None:
    with pytest.raises(InvalidRequest, match="has no unit") as caught:
        parse_range("30", None, None, TEN)
    assert "30s" in caught.value.hint


def test_local_times_are_said_with_their_zone() -> None:
    asked = parse_range(None, "13:00:02", "2026-01-31T12:00:04Z", TEN)
    assert asked[:2] == (2 * RATE, 4 * RATE)
    assert asked.notes == (
        "13:00:02 is 2026-01-31 13:00:02 CET",
        "2026-01-31T12:00:04Z is 2026-01-31 13:00:04 CET",
    )


def test_what_lies_outside_is_moved_and_said() -> None:
    asked = parse_range(None, "12:59", "13:00:05", TEN)
    assert asked[:2] == (0, 5 * RATE)
    assert "12:59 is before the recording begins; the recording has 480000 frames" in asked.notes[-1]
    asked = parse_range("1h", None, None, TEN)
    assert asked[:2] == (0, 10 * RATE)
    assert "less than 1h" in asked.notes[0]
    with pytest.raises(InvalidRange, match="nothing was recorded") as caught:
        parse_range(None, "14:00", "15:00", TEN)
    assert "from 2026-01-31 13:00:00 CET to 2026-01-31 13:00:10 CET" in caught.value.hint


def test_a_day_can_be_named() -> None:
    today = dt.datetime.now().astimezone().date()
    noon = dt.datetime.combine(today - dt.timedelta(days=1), dt.time(12)).astimezone()
    days = timeline(2 * 86400, noon - dt.timedelta(hours=13))
    assert parse_place("yesterday 14:03", days) == round((15 * 3600 + 180) * RATE)
    assert parse_place("Yesterday 14:03:30.5", days) == round((15 * 3600 + 210.5) * RATE)
    assert parse_place("today 00:30", days) == round((25 * 3600 + 1800) * RATE)
    with pytest.raises(InvalidRange, match="not a place"):
        parse_place("tomorrow 14:03", days)


def test_errors_name_the_day_that_was_meant() -> None:
    with pytest.raises(InvalidRange, match="14:00 is 2026-01-31 14:00:00 CET; 14:10 is 2026-01-31 14:10:00 CET"):
        parse_range(None, "14:00", "14:10", TEN)
    with pytest.raises(InvalidRange, match="13:00:02 is 2026-01-31 13:00:02 CET") as refused:
        parse_range(None, "5s", "13:00:02", TEN)
    assert "before it begins" in refused.value.message


@pytest.mark.parametrize("first", [None, "start", "2s"])
def test_an_end_before_a_short_take_is_moved_to_its_start(first: str | None) -> None:
    with pytest.raises(InvalidRange) as refused:
        parse_range(None, first, "-1m", TEN)
    if first == "2s":
        assert "the range ends at -1m" in refused.value.message
    else:
        assert "nothing was recorded in that range: -1m is before the recording begins" in refused.value.message


def test_a_recording_over_midnight_has_most_times_once() -> None:
    night = timeline(30 * 3600, dt.datetime(2026, 1, 31, 19, tzinfo=dt.UTC))  # 20:00 to 02:00, two days later
    assert parse_place("04:00", night) == 8 * 3600 * RATE
    with pytest.raises(InvalidRange, match="2 times") as caught:
        parse_place("21:00", night)
    assert "2026-01-31T21:00" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "says"), [("2026-10-25T02:30", "twice"), ("2026-03-29T02:30", "never was"), ("2026-10-25T02:30+01:00", "")]
)
def test_where_the_clocks_change_the_person_chooses(text: str, says: str) -> None:
    if says:
        with pytest.raises(InvalidRange, match=says):
            parse_place(text, TEN)
    else:
        assert parse_place(text, TEN) == 10 * RATE


def test_the_range_is_in_order() -> None:
    for last, first, end in [(None, "head", "start"), ("1s", "start", None)]:
        with pytest.raises((InvalidRange, InvalidRequest)):
            parse_range(last, first, end, TEN)
