"""A process that stands back: it gets the processor and the disk when nobody else wants them."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import suppress

__all__ = ["be_last"]

_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "armv7l": 314, "i686": 289, "riscv64": 30, "ppc64le": 273}
_WHO_PROCESS = 1
_CLASS_IDLE = 3 << 13


def be_last() -> None:
    """Puts this process, all its threads to come included, behind all others. Harmless where that is refused."""
    with suppress(OSError):
        os.nice(19)
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, _WHO_PROCESS, 0, _CLASS_IDLE)
