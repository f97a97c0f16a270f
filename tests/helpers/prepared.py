"""What a cycle of a capture needs: slots that are all there, samples as the graph has them; memory with an end."""

from __future__ import annotations

import ctypes
import mmap
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from chaos.staging.owner import Staging

__all__ = ["await_ready", "in_graph", "pages"]


def await_ready(staging: Staging) -> None:
    """Waits until all slots are there; for those of other staging files in this process too."""
    for thread in threading.enumerate():
        if thread.name == "chaosd-slots":
            thread.join(60)
    if staging._rest is not None:  # Python takes a thread out of its list a moment before it has ended
        staging._rest.join(60)
    assert staging.is_ready


def in_graph(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Samples that are to be recorded, of f32, s16 or s32, as the graph has them: f32, full scale 1."""
    full = 1.0 if samples.dtype.kind == "f" else -float(np.iinfo(samples.dtype).min)
    return np.ascontiguousarray(samples if full == 1 else samples / full, "<f4")


def pages(n_bytes: int) -> npt.NDArray[np.uint8]:
    """That many bytes at the very end of their pages; the page behind them can't be read or written."""
    whole = -(-n_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
    raw = np.frombuffer(mmap.mmap(-1, whole + mmap.PAGESIZE), np.uint8)
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(raw.ctypes.data + whole), mmap.PAGESIZE, 0) == 0
    return raw[whole - n_bytes : whole]
