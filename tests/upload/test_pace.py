"""How fast an uploader sends, and how long it waits after a refusal: by a clock of the test's own."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.upload import pace
from chaos.upload.pace import Backoff, Pace


class Clock(threading.Event):
    """What is waited for passes at once."""

    now_s = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.now_s += timeout
        return False


@given(
    sizes=st.lists(st.integers(1, 1 << 24), min_size=2, max_size=30),
    idle_s=st.lists(st.floats(0, 100), min_size=30, max_size=30),
    limit=st.integers(1000, 10**9),
)
def test_no_more_is_sent_than_the_limit_lets(sizes: list[int], idle_s: list[float], limit: int) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pace.time, "monotonic", lambda: clock.now_s)
        paced, put = Pace(limit, clock), []
        for n_bytes, pause_s in zip(sizes, idle_s, strict=False):
            clock.now_s += pause_s
            paced.ahead(n_bytes)
            put.append((clock.now_s, n_bytes))
    for first in range(len(put)):
        for last in range(first + 1, len(put)):
            elapsed_s = put[last][0] - put[first][0]
            sent = sum(n_bytes for _, n_bytes in put[first:last])
            assert sent <= elapsed_s * limit + 1e-3 * limit, "all but the last has had its time when that begins"


def test_without_a_limit_and_after_the_end_nothing_waits() -> None:
    clock = Clock()
    Pace(None, clock).ahead(1 << 40)
    assert clock.now_s == 0
    stop = threading.Event()
    stop.set()
    paced = Pace(1, stop)
    for _ in range(3):
        paced.ahead(1 << 20)  # which would take days


def test_after_each_refusal_it_waits_longer_up_to_a_minute_and_not_all_alike() -> None:
    longest, shortest = Backoff(lambda: 0.0), Backoff(lambda: 1.0)
    assert [longest.wait_s() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [shortest.wait_s() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    longest.reset()
    assert longest.wait_s() == 1
