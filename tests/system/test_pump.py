"""The thread that waits."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.system.pump import Pump


@pytest.fixture
def pump() -> Iterator[Pump]:
    made = Pump()
    made.start()
    yield made
    made.close()
    made.close()


def test_a_written_eventfd_calls_back_and_is_reset(pump: Pump) -> None:
    fd, called = os.eventfd(0, os.EFD_NONBLOCK), threading.Event()
    pump.watch(fd, called.set, is_eventfd=True)
    os.eventfd_write(fd, 3)
    assert called.wait(60)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(fd)
    pump.unwatch(fd)
    pump.unwatch(fd)
    os.close(fd)


def test_timers_come_when_due_and_not_after_they_are_cancelled(pump: Pump) -> None:
    order: list[str] = []
    done = threading.Event()
    pump.after("late", 0.10, lambda: (order.append("late"), done.set()))
    pump.after("soon", 0.02, lambda: order.append("soon"))
    pump.after("never", 0.05, lambda: order.append("never"))
    pump.cancel("never")
    assert done.wait(60)
    assert order == ["soon", "late"]


def test_a_cancelled_timer_wakes_nobody() -> None:
    """Once it is cancelled the thread sleeps without an end, also where it slept until that timer before."""
    pump = Pump()
    asleep: queue.SimpleQueue[float | None] = queue.SimpleQueue()
    epoll = pump._epoll

    class Watched:
        register, unregister, close = epoll.register, epoll.unregister, epoll.close

        def poll(self, wait_s: float | None) -> list[tuple[int, int]]:
            asleep.put(wait_s)
            return epoll.poll(wait_s)

    pump._epoll = Watched()  # type: ignore[assignment]
    pump.start()
    assert asleep.get(timeout=60) is None
    pump.after("late", 3000, lambda: None)
    assert 2900 < (asleep.get(timeout=60) or 0) <= 3000
    pump.after("later", 3600, lambda: None)
    assert 2900 < (asleep.get(timeout=60) or 0) <= 3000
    pump.cancel("late")
    assert 3000 < (asleep.get(timeout=60) or 0) <= 3600
    pump.cancel("later")
    assert asleep.get(timeout=60) is None
    pump.cancel("later")
    pump.close()


def test_a_periodic_timer_goes_on_until_it_is_cancelled(pump: Pump) -> None:
    three = threading.Semaphore(0)
    pump.every("beat", 0.01, three.release)
    for _ in range(3):
        assert three.acquire(timeout=60)
    pump.cancel("beat")


def test_a_failing_callback_stops_nothing(pump: Pump, caplog: pytest.LogCaptureFixture) -> None:
    called = threading.Event()
    pump.after("bad", 0, lambda: 1 / 0)
    pump.after("good", 0.05, called.set)
    assert called.wait(60)
    assert "division by zero" in caplog.text


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), MemoryError(), GeneratorExit()])
def test_no_exception_of_a_callback_ends_the_thread(
    pump: Pump, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        os.eventfd_read(fd)
        raise error

    def fail_once() -> None:
        raise error

    fd, called = os.eventfd(0, os.EFD_NONBLOCK), threading.Event()
    pump.watch(fd, fail)
    os.eventfd_write(fd, 1)
    pump.after("bad", 0, fail_once)
    pump.after("good", 0.05, called.set)
    assert called.wait(60)
    assert caplog.text.count("a callback of the pump failed") == 2
    pump.unwatch(fd)
    os.close(fd)


@pytest.mark.parametrize("delay_s", [2_592_000, 366 * 86400, 1e18])
def test_a_wait_may_be_as_long_as_it_likes(pump: Pump, monkeypatch: pytest.MonkeyPatch, delay_s: float) -> None:
    called, epoll = threading.Event(), pump._epoll
    waits: queue.Queue[float] = queue.Queue()

    class Telling:
        def poll(self, timeout_s: float | None) -> list[tuple[int, int]]:
            if timeout_s is not None and timeout_s > 60:
                waits.put(timeout_s)
            return epoll.poll(timeout_s)

    monkeypatch.setattr(pump, "_epoll", Telling())
    pump.after("late", delay_s, called.set)
    assert waits.get(timeout=60) * 1000 < 1 << 31  # else epoll raises OverflowError
    pump.after("now", 0.05, called.set)
    assert called.wait(60)
    pump.cancel("late")


@pytest.mark.parametrize("delay_s", [math.nan, math.inf])
def test_a_time_that_never_comes_is_refused(pump: Pump, delay_s: float) -> None:
    with pytest.raises(ValueError, match="a timer in"):
        pump.after("never", delay_s, lambda: None)
    with pytest.raises(ValueError, match="a period of"):
        pump.every("always", 0, lambda: None)


def test_an_error_of_epoll_itself_ends_nothing(
    pump: Pump, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failed = threading.Event()

    class Failing:
        def poll(self, timeout_s: float | None) -> list[tuple[int, int]]:
            monkeypatch.undo()
            failed.set()
            raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(pump, "_epoll", Failing())
    called = threading.Event()
    pump.after("wakes it", 0, lambda: None)
    assert failed.wait(60)
    pump.after("good", 0, called.set)
    assert called.wait(60)
    assert "the pump failed" in caplog.text


def test_a_descriptor_closed_too_early_hurts_nobody(pump: Pump) -> None:
    fd, called = os.eventfd(0, os.EFD_NONBLOCK), threading.Event()
    pump.watch(fd, lambda: None)
    os.close(fd)
    pump.unwatch(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        pump.watch(fd, lambda: None)
    pump.after("good", 0, called.set)
    assert called.wait(60)


def test_without_anything_due_it_does_not_wake_up(pump: Pump) -> None:
    (thread,) = (t for t in threading.enumerate() if t.name == "pump")
    status = Path(f"/proc/self/task/{thread.native_id}/status")

    def switches() -> int:
        return sum(int(line.split()[1]) for line in status.read_text().splitlines() if "ctxt_switches" in line)

    settled = threading.Event()
    pump.after("settle", 0.05, settled.set)
    assert settled.wait(60)
    for _ in range(20):  # on a busy machine the thread may go to sleep only later than this
        before = switches()
        time.sleep(0.5)  # the stretch of time that is watched
        if switches() == before:
            return
    pytest.fail("it wakes up again and again")
