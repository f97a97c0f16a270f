"""What the kernel granted to PipeWire's data thread in this process."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["DataThread", "data_thread"]

_POLICIES = {os.SCHED_OTHER: "other", os.SCHED_FIFO: "fifo", os.SCHED_RR: "rr"}


class DataThread(NamedTuple):
    """A thread that runs process callbacks; `policy` is "fifo", "rr" or "other", `priority` 0 for "other"."""

    tid: int
    policy: str
    priority: int


def data_thread() -> DataThread | None:
    """The thread that runs the process callbacks: the one with a real-time policy, else the one that is named so.

    PipeWire names it "data-loop.0" from 1.0 on and not at all before; where nothing tells, None.
    """
    named = None
    for entry in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            tid = int(entry.name)
            policy = os.sched_getscheduler(tid) & ~getattr(os, "SCHED_RESET_ON_FORK", 0)
            found = DataThread(tid, _POLICIES.get(policy, str(policy)), os.sched_getparam(tid).sched_priority)
            if policy in (os.SCHED_FIFO, os.SCHED_RR):
                return found
            if (entry / "comm").read_text().startswith(("data-loop", "pw-data-loop")):
                named = found
    return named
