"""What can go wrong, done on purpose: processes and single threads that stand still, and a disk that dawdles."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proof.native import library

__all__ = ["SlowDisk", "hold_thread", "stopped"]

_PTRACE_DETACH = 17
_PTRACE_SEIZE = 0x4206
_PTRACE_INTERRUPT = 0x4207
_WALL = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process stands still for as long as the context lasts."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def hold_thread(tid: int, seconds: float) -> None:
    """Holds one thread of a child process up, as if it were busy; the others run on. Raises OSError."""
    _ptrace(_PTRACE_SEIZE, tid)
    try:
        _ptrace(_PTRACE_INTERRUPT, tid)
        os.waitpid(tid, _WALL)
        time.sleep(seconds)  # the fault lasts
    finally:
        _ptrace(_PTRACE_DETACH, tid)


def _ptrace(request: int, tid: int) -> None:
    if _libc.ptrace(ctypes.c_long(request), ctypes.c_long(tid), None, None) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"ptrace: {os.strerror(code)}")


class SlowDisk:
    """A disk whose syncs take `delay_s` longer, for programs started with `variables` in their environment."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "slowdisk"
        self.set(0)

    @property
    def variables(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(library("slowdisk")), "SLOWDISK": str(self._file)}

    def set(self, delay_s: float) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(round(delay_s * 1000)))
        fresh.replace(self._file)
