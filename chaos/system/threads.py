"""Threads as the kernel knows them: their names, and what it granted to PipeWire's data thread in this process."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from chaos.system.limits import priority_advice

__all__ = ["DataThread", "data_thread", "name_thread", "priority_notes"]

_REAL_TIME = {os.SCHED_FIFO: "fifo", os.SCHED_RR: "rr"}


class DataThread(NamedTuple):
    """The thread that runs process callbacks; `policy` is "fifo", "rr" or "other", `priority` 0 for "other"."""

    policy: str
    priority: int


def name_thread(name: str) -> None:
    """Names the thread that runs this, for `top -H` and the like, in at most 15 letters; threads that it starts begin
    with the same name, since Python 3.14 with the one that Python has for them."""
    with suppress(OSError):
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)


def data_thread() -> DataThread:
    """The thread that runs the process callbacks, in a process that is connected to PipeWire: the only one that anybody
    gives a real-time policy. Where none has one, it hasn't either."""
    for entry in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            tid = int(entry.name)
            policy = os.sched_getscheduler(tid) & ~getattr(os, "SCHED_RESET_ON_FORK", 0)
            if policy in _REAL_TIME:
                return DataThread(_REAL_TIME[policy], os.sched_getparam(tid).sched_priority)
    return DataThread("other", 0)


def priority_notes() -> list[str]:
    """That the data thread has no real-time priority, and what gives it one: a sentence, or none where it has."""
    if data_thread().priority:
        return []
    return [f"the capture thread has no real-time priority, so a busy machine may cost cycles: {priority_advice()}"]
