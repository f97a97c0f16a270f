"""When takes end: after a day by themselves, after `roll`, or on the hour."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chaos.engine.rolling import ROLL_S, next_roll_s, roll_period_s
from chaos.protocol.requests import StreamStart
from chaos.terms.formats import AudioFormat


def start(uri: str = "stream://mic/1", **more: object) -> StreamStart:
    return StreamStart(uri=uri, device_identity="mic", format=AudioFormat(), **more)  # type: ignore[arg-type]


def test_a_stream_rolls_after_a_day_unless_it_was_told_otherwise() -> None:
    assert roll_period_s(start()) == ROLL_S
    assert roll_period_s(start(roll="1h")) == 3600
    assert roll_period_s(start(chunk_path="/x/y")) is None
    assert roll_period_s(start("stream://mic/" + "x" * 64)) is None, "its URI has no room for a take's number"


@pytest.mark.parametrize(
    ("period_s", "at", "expected"),
    [
        (3600, "14:03:00", 57 * 60),
        (3600, "14:00:00", 3600),
        (3600, "13:59:59.9", 3600.1),
        (900, "14:03:00", 12 * 60),
        (86400, "14:00:00", 10 * 3600),
        (7 * 3600, "22:00:00", 2 * 3600),
    ],
)
def test_aligned_takes_begin_on_the_hour(period_s: float, at: str, expected: float) -> None:
    now = datetime.fromisoformat(f"2026-11-26T{at}").replace(tzinfo=UTC)
    assert next_roll_s(period_s, True, now) == pytest.approx(expected)


def test_what_is_not_aligned_rolls_after_its_time() -> None:
    assert next_roll_s(3600, False, datetime(2026, 11, 26, 14, 3, tzinfo=UTC)) == 3600
