"""The wall clock of a recording, also where somebody set it in the middle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.terms.ledger import ClockAnchor
from chaos.terms.wallclock import Step, WallClock, is_step

RATE = 48_000
S = 1_000_000_000
DAY = 86_400 * S


def anchors(*offsets_s: float, every_s: int = 10) -> list[ClockAnchor]:
    """An anchor each ten seconds, with the wall clock so far ahead of CLOCK_MONOTONIC then."""
    return [
        ClockAnchor(n * every_s * RATE, n * every_s * RATE, n * every_s * S, n * every_s * S + round(offset_s * S))
        for n, offset_s in enumerate(offsets_s)
    ]


def clock(*offsets_s: float) -> WallClock:
    return WallClock(anchors(*offsets_s), RATE, len(offsets_s) * 10 * RATE)


def test_between_anchors_drift_is_followed_and_outside_the_nominal_rate_counts() -> None:
    wall = WallClock([ClockAnchor(0, 0, 0, 100 * S), ClockAnchor(96_000, 0, 4 * S, 104 * S)], RATE, 144_000)
    assert wall.frames(99 * S) == [-48_000]
    assert wall.frames(100 * S) == [0]
    assert wall.frames(102 * S) == [48_000]
    assert wall.frames(105 * S) == [144_000]
    assert wall.wall_ns(48_000) == 102 * S
    assert wall.steps == []


def test_without_anchors_there_is_no_clock() -> None:
    with pytest.raises(ValueError, match="no clock anchors"):
        WallClock([], RATE, 0)


def test_a_step_forward_leaves_moments_that_never_were() -> None:
    """+200 days at frame 20 s."""
    wall = clock(1000, 1000, 1000 + 200 * 86_400, 1000 + 200 * 86_400)
    assert wall.steps == [Step(20 * RATE, 200 * DAY)]
    assert wall.wall_ns(15 * RATE) == 1015 * S, "no date between the two is made up"
    assert wall.wall_ns(25 * RATE) == 1025 * S + 200 * DAY
    assert wall.frames(1015 * S) == [15 * RATE]
    assert wall.frames(1025 * S + 200 * DAY) == [25 * RATE]
    assert wall.frames(1000 * S + 100 * DAY) == []
    assert wall.frames(990 * S) == [-10 * RATE]


def test_a_step_back_makes_moments_that_were_twice() -> None:
    """An hour back at frame 20 s, and so beside everything that came before; 15 s back, and so into it."""
    hour = clock(10_000, 10_000, 6_400, 6_400)
    for frame_s in (5, 15, 25, 35):
        assert hour.frames(hour.wall_ns(frame_s * RATE)) == [frame_s * RATE]
    wall = clock(1000, 1000, 985, 985)
    assert wall.frames(1010 * S) == [10 * RATE, 25 * RATE]
    assert wall.frames(1002 * S) == [2 * RATE]
    assert wall.frames(1022 * S) == [37 * RATE]


@given(offsets=st.lists(st.integers(-100_000, 100_000), min_size=1, max_size=12))
def test_every_frame_is_among_those_that_its_moment_gives(offsets: list[int]) -> None:
    wall = clock(*(1_000_000 + offset for offset in offsets))
    for second in range(len(offsets) * 10):
        assert any(abs(found - second * RATE) <= 1 for found in wall.frames(wall.wall_ns(second * RATE)))


def test_what_a_correction_does_is_no_step() -> None:
    assert not is_step(S // 3, 0, 10 * S)
    assert not is_step(3 * S, 0, 3600 * S)
    assert is_step(S, 0, 10 * S)
    assert is_step(-S, 0, 10 * S)
