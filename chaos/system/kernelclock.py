"""The wall clock as the kernel has it: how far it may be off, how far it leads CLOCK_MONOTONIC, and when it is set.

`adjtimex(2)` tells the kernel's own bound. It is worth what the program that disciplines the clock has said to the
kernel: systemd-timesyncd says 0 at each poll, whatever it measured, so nothing is known where that runs.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from pathlib import Path
from typing import NamedTuple

from chaos.terms.ledger import ClockState

__all__ = ["ClockQuality", "clock_quality", "judged", "rearm_clock_watch", "wall_offset_ns", "watch_clock"]

_TIMESYNCD = Path("/run/systemd/timesync/synchronized")
_STA_UNSYNC = 0x0040
_TIME_ERROR = 5
_CANCEL_ON_SET = 1 | 2  # TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET
_NEVER_S = 1 << 40
_TRIES = 5
_CLOSE_NS = 50_000
_libc = ctypes.CDLL(None, use_errno=True)


class ClockQuality(NamedTuple):
    """`max_error_ns` bounds how far the wall clock is from UTC, `est_error_ns` is what is likely; None where the kernel
    can't know."""

    state: ClockState
    max_error_ns: int | None = None
    est_error_ns: int | None = None


class _Timex(ctypes.Structure):
    """As `adjtimex(2)` has it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 64),
    )


class _Timespecs(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns"))


def clock_quality(timesyncd: Path = _TIMESYNCD) -> ClockQuality:
    """What the kernel knows of its clock's error now; it takes microseconds."""
    timex = _Timex()
    state = _libc.adjtimex(ctypes.byref(timex))
    return judged(state, timex.status, timex.maxerror, timex.esterror, has_timesyncd=timesyncd.exists())


def judged(state: int, status: int, maxerror_us: int, esterror_us: int, *, has_timesyncd: bool) -> ClockQuality:
    """What these results of adjtimex(2) are worth."""
    if state < 0:
        return ClockQuality(ClockState.UNKNOWN)
    if state == _TIME_ERROR or status & _STA_UNSYNC:
        return ClockQuality(ClockState.UNSYNCHRONIZED)
    if has_timesyncd:
        return ClockQuality(ClockState.TIMESYNCD)
    return ClockQuality(ClockState.SYNCHRONIZED, maxerror_us * 1000, esterror_us * 1000)


def wall_offset_ns() -> int:
    """Wall clock minus CLOCK_MONOTONIC, read close together: a thread may be put off between the two."""
    best, offset = None, 0
    for _ in range(_TRIES):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        if best is None or after - before < best:
            best, offset = after - before, wall - (before + after) // 2
        if best < _CLOSE_NS:
            break
    return offset


def watch_clock() -> int:
    """A descriptor that becomes readable when somebody sets the wall clock, until `rearm_clock_watch`.

    Raises OSError.
    """
    fd = int(_libc.timerfd_create(time.CLOCK_REALTIME, os.O_CLOEXEC | os.O_NONBLOCK))
    if fd < 0:
        raise _error("timerfd_create")
    try:
        rearm_clock_watch(fd)
    except OSError:
        os.close(fd)
        raise
    return fd


def rearm_clock_watch(fd: int) -> None:
    """Has it wait for the next time. Raises OSError."""
    try:
        os.read(fd, 8)
    except OSError as error:
        if error.errno not in (errno.ECANCELED, errno.EAGAIN):
            raise
    never = _Timespecs(0, 0, _NEVER_S, 0)
    failed = _libc.timerfd_settime(fd, _CANCEL_ON_SET, ctypes.byref(never), None) < 0
    if failed and ctypes.get_errno() != errno.ECANCELED:  # set meanwhile: it waits all the same
        raise _error("timerfd_settime")


def _error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")
