"""Durations, sizes, latencies and places as people write them."""

from __future__ import annotations

import datetime as dt

import pytest

from chaos.terms.errors import InvalidRange, InvalidRequest
from chaos.terms.units import parse_duration_s, parse_keep, parse_latency_frames, parse_place, parse_size

RATE = 48000
BEGIN = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


def frame_of(moment: float | dt.datetime) -> int:
    return round((moment if isinstance(moment, float) else (moment - BEGIN).total_seconds()) * RATE)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("250ms", 0.25), ("1.5m", 90), ("2h", 7200), ("90", 90), (".5s", 0.5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-3s", "3 days", "1e3", "nan", "inf"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(InvalidRequest, match="not a valid duration"):
        parse_duration_s(text)


@pytest.mark.parametrize("text", ["9" * 400 + "d", "9" * 5000 + "d", "36501d"])
def test_durations_beyond_reason(text: str) -> None:
    with pytest.raises(InvalidRequest, match="too long"):
        parse_duration_s(text)


@pytest.mark.parametrize("text", ["9" * 400 + "d", "9" * 5000 + "d", "9" * 5000, "9" * 5000 + "GB"])
def test_what_to_keep_beyond_reason(text: str) -> None:
    with pytest.raises(InvalidRequest, match="neither an age nor a size"):
        parse_keep(text)


@pytest.mark.parametrize(
    ("text", "n_bytes"), [("65536", 65536), ("64k", 65536), ("2M", 2 << 20), ("2MiB", 2 << 20)]
)
def test_sizes(text: str, n_bytes: int) -> None:
    assert parse_size(text) == n_bytes


@pytest.mark.parametrize("text", ["", "-1", "1.5M", "2X", "M"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(InvalidRequest, match="not a valid size"):
        parse_size(text)


def test_latencies_are_frames_or_times() -> None:
    assert parse_latency_frames("256", None) == 256
    assert parse_latency_frames("5ms", RATE) == 240
    with pytest.raises(InvalidRequest, match="sample rate"):
        parse_latency_frames("5ms", None)


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
    ],
)
def test_places(text: str, frame: int) -> None:
    assert parse_place(text, 10 * RATE, frame_of) == frame


@pytest.mark.parametrize("text", ["", "begin", "-", "12:00", "2026-01-31", "2026-13-31T12:00:00Z"])
def test_places_that_are_none(text: str) -> None:
    with pytest.raises(InvalidRange, match="not a place"):
        parse_place(text, 10 * RATE, frame_of)
