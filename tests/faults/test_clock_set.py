"""The machine's own clock is set while somebody waits for that."""

from __future__ import annotations

import threading
import time

import pytest

from chaos.system.pump import Pump


def test_the_real_kernel_tells_when_the_clock_is_set() -> None:
    """It is set to what it is: all who wait for that are told, and nothing is changed by more than microseconds."""
    waiting = Pump()
    waiting.start()
    told = threading.Semaphore(0)
    waiting.on_clock_set("one", told.release)
    try:
        for _ in range(2):
            try:
                time.clock_settime_ns(time.CLOCK_REALTIME, time.clock_gettime_ns(time.CLOCK_REALTIME))
            except PermissionError:
                pytest.skip("only root may set the clock")
            assert told.acquire(timeout=60)
    finally:
        waiting.close()
