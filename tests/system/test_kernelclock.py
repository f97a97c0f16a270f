"""What the kernel tells of the wall clock, and that somebody sets it."""

from __future__ import annotations

import ctypes
import os
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.system import kernelclock, pump
from chaos.system.kernelclock import clock_quality, judged, rearm_clock_watch, wall_offset_ns, watch_clock
from chaos.system.pump import Pump
from chaos.terms.ledger import ClockState


@pytest.mark.parametrize(
    ("told", "has_timesyncd", "expected"),
    [
        ((0, 0x2001, 1500, 300), False, (ClockState.SYNCHRONIZED, 1_500_000, 300_000)),
        ((0, 0x2001, 0, 0), False, (ClockState.SYNCHRONIZED, 0, 0)),
        ((0, 0x2001, 0, 0), True, (ClockState.TIMESYNCD, None, None)),
        ((5, 0x2041, 16_000_000, 16_000_000), False, (ClockState.UNSYNCHRONIZED, None, None)),
        ((0, 0x0040, 10, 10), True, (ClockState.UNSYNCHRONIZED, None, None)),
        ((5, 0, 10, 10), False, (ClockState.UNSYNCHRONIZED, None, None)),
        ((-1, 0, 0, 0), False, (ClockState.UNKNOWN, None, None)),
    ],
)
def test_what_the_kernels_word_is_worth(
    told: tuple[int, int, int, int], has_timesyncd: bool, expected: tuple[ClockState, int | None, int | None]
) -> None:
    assert judged(*told, has_timesyncd=has_timesyncd) == expected


def test_the_real_kernel_is_asked(tmp_path: Path) -> None:
    """Held against the same call made by hand: the fields stand behind `modes` and two longs."""
    raw = (ctypes.c_long * 80)()
    state = ctypes.CDLL(None).adjtimex(raw)
    status = int(ctypes.c_int.from_buffer(raw, 5 * ctypes.sizeof(ctypes.c_long)).value)
    found = clock_quality(tmp_path / "none")
    assert found.state is judged(state, status, 0, 0, has_timesyncd=False).state
    if found.state is ClockState.SYNCHRONIZED:
        assert found.max_error_ns == pytest.approx(raw[3] * 1000, abs=10**7)
    (tmp_path / "synchronized").touch()
    assert clock_quality(tmp_path / "synchronized").max_error_ns is None


def test_a_thread_that_is_put_off_between_two_clocks_is_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    true_ns = time.time_ns() - time.monotonic_ns()
    late = iter([0.02, 0.02, 0.0])
    now_ns = time.time_ns

    def delayed() -> int:
        threading.Event().wait(next(late, 0.0))
        return now_ns()

    monkeypatch.setattr(time, "time_ns", delayed)
    assert wall_offset_ns() == pytest.approx(true_ns, abs=5_000_000)


def test_the_real_watch_is_silent_while_nobody_sets_the_clock() -> None:
    fd = watch_clock()
    try:
        for _ in range(3):
            assert select.select([fd], [], [], 0) == ([], [], [])
            rearm_clock_watch(fd)
    finally:
        os.close(fd)


@pytest.fixture
def notices(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Stands for the kernel's watch: readable once written to, and silent once read."""
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    monkeypatch.setattr(pump, "watch_clock", lambda: fd)
    monkeypatch.setattr(pump, "rearm_clock_watch", os.eventfd_read)
    yield fd
    with pytest.raises(OSError, match="Bad file"):
        os.close(fd)


def test_all_who_asked_are_told_each_time(notices: int, caplog: pytest.LogCaptureFixture) -> None:
    waiting = Pump()
    waiting.start()
    told, others = threading.Semaphore(0), threading.Semaphore(0)
    waiting.on_clock_set("broken", lambda: 1 / 0)
    waiting.on_clock_set("one", told.release)
    waiting.on_clock_set("other", others.release)
    for _ in range(3):
        os.eventfd_write(notices, 1)
        assert told.acquire(timeout=60)
        assert others.acquire(timeout=60)
    waiting.forget_clock("other")
    waiting.forget_clock("other")
    os.eventfd_write(notices, 1)
    assert told.acquire(timeout=60)
    waiting.close()
    assert not others.acquire(blocking=False)
    assert caplog.text.count("a callback of the pump failed") == 4


def test_a_kernel_that_can_not_tell_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(pump, "watch_clock", refused)
    waiting = Pump()
    waiting.start()
    waiting.on_clock_set("one", lambda: None)
    called = threading.Event()
    waiting.after("soon", 0, called.set)
    assert called.wait(60)
    waiting.close()


def test_a_descriptor_that_can_not_be_armed_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def failing(fd: int) -> None:
        opened.append(fd)
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(kernelclock, "rearm_clock_watch", failing)
    with pytest.raises(OSError, match="Invalid"):
        watch_clock()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(opened[0])
