"""Durations, sizes, latencies and what to keep, as people write them."""

from __future__ import annotations

import pytest

from chaos.terms.errors import InvalidRequest
from chaos.terms.units import Keep, parse_decibels, parse_duration_s, parse_keep, parse_latency_frames, parse_size

RATE = 48000


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("250ms", 0.25), ("1.5m", 90), ("2h", 7200), (".5s", 0.5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-3s", "3 days", "1e3", "nan", "inf", "\u0663s", " 7s", "7s\n", "7 s"])
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


@pytest.mark.parametrize("text", ["", "-1", "1.5M", "2X", "M", "\u0663M", "2M ", "2 M", "2\u212a"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(InvalidRequest, match="not a valid size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["\u0663d", "7d ", " 7d", "7 d", "7d\n", "\u0663GB", "7\u212aB"])
def test_what_to_keep_is_written_in_ascii_without_blanks(text: str) -> None:
    with pytest.raises(InvalidRequest, match="neither an age nor a size"):
        parse_keep(text)


@pytest.mark.parametrize("text", ["0d", "0.0h", "000GB", "0B", "0.0000000001s", "0.000000001d"])
def test_to_keep_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="keep nothing"):
        parse_keep(text)


def test_latencies_are_frames_or_times() -> None:
    assert parse_latency_frames("256", None) == 256
    assert parse_latency_frames("5ms", RATE) == 240
    with pytest.raises(InvalidRequest, match="sample rate"):
        parse_latency_frames("5ms", None)
    with pytest.raises(InvalidRequest, match="not a valid duration"):
        parse_latency_frames("\u0662\u0665\u0666", RATE)


@pytest.mark.parametrize("text", ["30", "1.5"])
def test_a_duration_needs_its_unit(text: str) -> None:
    with pytest.raises(InvalidRequest, match="has no unit") as caught:
        parse_duration_s(text)
    assert f"{text.strip()}s" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "keep"),
    [
        ("7d", Keep(7 * 86400, None)),
        ("12h", Keep(12 * 3600, None)),
        ("90min", Keep(5400, None)),
        ("1.5h", Keep(5400, None)),
        ("200GB", Keep(None, 200 << 30)),
        ("500MB", Keep(None, 500 << 20)),
        ("2TiB", Keep(None, 2 << 40)),
    ],
)
def test_what_to_keep_is_an_age_or_a_size(text: str, keep: Keep) -> None:
    assert parse_keep(text) == keep


@pytest.mark.parametrize(
    "text", ["30", "500m", "500M", "", "d", "7 weeks", "-7d", "1.5GB", "250ms", "9" * 400 + "d", "5iB"]
)
def test_what_to_keep_is_never_guessed(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_keep(text)
    assert "min" in caught.value.hint


@pytest.mark.parametrize(("text", "expected"), [("-40dB", -40.0), ("-6.5 dBFS", -6.5), ("-3", -3.0)])
def test_levels_as_people_write_them(text: str, expected: float) -> None:
    assert parse_decibels(text) == expected


@pytest.mark.parametrize("text", ["40dB", "0", "loud", "-", "-40dBm", ""])
def test_what_is_no_level_below_full_scale_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_decibels(text)
