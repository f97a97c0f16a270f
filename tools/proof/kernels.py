"""How fast the deinterleave kernels are, beside memcpy of the same bytes, numpy and a plain C loop."""

from __future__ import annotations

import ctypes
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chaos.terms.chunking import chunk_frames
from proof.native import library

__all__ = ["WAYS", "Bandwidth", "load_kernels", "measure_kernels"]

CHANNELS = (1, 2, 4, 6, 8, 16, 32, 64)
FORMATS: dict[str, np.dtype[np.generic]] = {"f32": np.dtype("<f4"), "s32": np.dtype("<i4"), "s16": np.dtype("<i2")}
QUANTUM = 1024
MEMORY_BYTES = 192 << 20  # slots come round after 30 s: what is written must not lie in a large L3 still
KINDS = {"kernel": 0, "memcpy": 1, "loop": 2}
WAYS = {"best": 0, "plain": 1, "wide": 2, "streamed": 3}


@dataclass(frozen=True)
class Bandwidth:
    """GB/s (of bytes read) by way of doing it, in the run with the lowest `ratio`, which is the kernel's to memcpy's;
    `ratios` are all runs'.

    Each slot's time is the shortest of all rounds: what else the machine did meanwhile is in none of them.
    """

    sample_format: str
    channels: int
    kernel: float
    memcpy: float
    loop: float
    numpy: float
    ratio: float
    ratios: tuple[float, ...]


def load_kernels() -> ctypes.CDLL:
    """The kernels as a library: `fill_slot`, `deinterleave`, `convert`, `copy_planes`, `measure`, `block` (see
    kernels.c)."""
    kernels = ctypes.CDLL(str(library("kernels")))
    kernels.fill_slot.restype = ctypes.c_uint64
    pointer, count = ctypes.c_void_p, ctypes.c_uint64
    kernels.fill_slot.argtypes = [ctypes.c_int, ctypes.c_int, pointer, pointer, count, count, count]
    kernels.copy_planes.argtypes = [pointer, count, pointer, count, count, count]
    kernels.copy_planes.restype = None
    kernels.measure.argtypes = [ctypes.c_int, ctypes.c_int, pointer, count, pointer]
    kernels.measure.restype = None
    kernels.deinterleave.argtypes = [ctypes.c_int, ctypes.c_int, pointer, count, pointer, count, count]
    kernels.block.argtypes = [ctypes.c_int, ctypes.c_int, pointer, ctypes.c_uint32, pointer]
    kernels.block.restype = None
    kernels.convert.argtypes = [ctypes.c_int, ctypes.c_int, pointer, count, pointer, count, count, count]
    return kernels


def measure_kernels(runs: int, rounds: int) -> list[Bandwidth]:
    """All formats and channel counts in each run; each round takes every way once, so that all see the same machine."""
    kernels = load_kernels()
    found = [
        [_measure(kernels, name, dtype, channels, rounds) for name, dtype in FORMATS.items() for channels in CHANNELS]
        for _ in range(runs)
    ]
    return [
        Bandwidth(**min(same, key=lambda one: one["ratio"]), ratios=tuple(one["ratio"] for one in same))
        for same in zip(*found, strict=True)
    ]


def _measure(
    kernels: ctypes.CDLL, name: str, dtype: np.dtype[np.generic], channels: int, rounds: int
) -> dict[str, Any]:
    """The fields of a Bandwidth of one run."""
    stride = chunk_frames(None, channels=channels, sample_rate=48000, sample_format=name)
    n_slots = -(-MEMORY_BYTES // (channels * stride * dtype.itemsize))
    slots: npt.NDArray[np.generic] = np.zeros((n_slots, channels, stride), dtype)
    source = np.arange(QUANTUM * channels, dtype=dtype).reshape(QUANTUM, channels)
    shortest: dict[str, list[float]] = {kind: [math.inf] * n_slots for kind in (*KINDS, "numpy")}
    for number in range(rounds):
        kinds = list(shortest)
        for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
            times = (_fill(kernels, kind, slot, source) for slot in slots)
            shortest[kind] = list(map(min, shortest[kind], times))
    n_bytes = n_slots * (stride // QUANTUM * QUANTUM) * channels * dtype.itemsize
    speed = {kind: n_bytes / sum(times) / 1e9 for kind, times in shortest.items()}
    ratio = speed["kernel"] / speed["memcpy"]
    return {"sample_format": name, "channels": channels, "ratio": ratio, **speed}


def _fill(
    kernels: ctypes.CDLL, kind: str, slot: npt.NDArray[np.generic], source: npt.NDArray[np.generic]
) -> float:
    """Seconds that it takes to fill one slot."""
    channels, stride = slot.shape
    if kind != "numpy":
        at, width = slot.ctypes.data, slot.itemsize
        ns = kernels.fill_slot(KINDS[kind], width, at, source.ctypes.data, channels, stride, QUANTUM)
        return float(ns) / 1e9
    began = time.perf_counter()
    for at in range(0, stride - QUANTUM + 1, QUANTUM):
        slot[:, at : at + QUANTUM] = source.T
    return time.perf_counter() - began
