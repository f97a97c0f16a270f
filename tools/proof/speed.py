"""Faster than real time: how much audio per second goes through the whole engine, and through a client that only
copies; and what the process callback takes, beside memcpy of the same bytes."""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from rig import CountingSource, Session, program

from proof.engine import Engine
from proof.kernels import load_kernels

__all__ = ["Callback", "Throughput", "measure_callback", "measure_throughput"]

RATE = 48000
QUANTUM = 1024
URI = "stream://bench/1"


@dataclass
class Throughput:
    """Seconds of audio per second, a figure per round; `stored` leaves out what was an overrun."""

    channels: int
    offered: list[float]
    stored: list[float]
    copied: list[float]

    @property
    def ratio(self) -> float:
        """What the engine stores to what a client that only copies takes in."""
        return median(ours / copy for ours, copy in zip(self.stored, self.copied, strict=True))


@dataclass
class Callback:
    """Mean nanoseconds of our callback at real-time pace, and of memcpy of the same bytes at the same pace."""

    channels: int
    quantum: int
    interleaved: bool
    callback_ns: float
    memcpy_ns: float


def measure_throughput(session: Session, channels: int, *, rounds: int, window_s: float) -> Throughput:
    """The two alternate; each has the graph to itself."""
    found = Throughput(channels, [], [], [])
    session.force_quantum(QUANTUM)
    for _ in range(rounds):
        offered, stored = _engine(session, channels, window_s)
        found.offered.append(offered)
        found.stored.append(stored)
        found.copied.append(_copy(session, channels, window_s))
    session.force_quantum(0)
    return found


def _engine(session: Session, channels: int, window_s: float) -> tuple[float, float]:
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        CountingSource(session, name="fast", channels=channels, driver=True, speed=0, hold=True) as source,
        Engine(session, Path(folder)) as engine,
    ):
        asked = {"uri": URI, "device_identity": source.name, "format": {"type": "audio"}, "staging_seconds": 60}
        engine.call("stream_start", **asked, wait=True)
        source.wait_for("streaming")
        source.begin()
        engine.await_status(URI, lambda status: status["n_chunks_sealed"] > 2)
        before, began = engine.call("stream_status", uri=URI), time.monotonic()
        time.sleep(window_s)
        after, seconds = engine.call("stream_status", uri=URI), time.monotonic() - began
        engine.call("stream_stop", uri=URI)
    heads = after["head_frame"] - before["head_frame"]
    lost = after["lost_frames"] - before["lost_frames"]
    return heads / RATE / seconds, (heads - lost) / RATE / seconds


def _copy(session: Session, channels: int, window_s: float) -> float:
    with CountingSource(session, name="fast", channels=channels, driver=True, speed=0, hold=True) as source:
        command = [str(program("tap")), source.name, str(channels), str(1 << 62)]
        tap = session.spawn(*command, log="tap", stdout=subprocess.PIPE)
        source.wait_for("streaming")
        source.begin()
        began = time.monotonic()
        time.sleep(window_s)
        tap.send_signal(signal.SIGTERM)
        seconds = time.monotonic() - began
        assert tap.stdout is not None
        said = [json.loads(line) for line in tap.stdout]
        session.end(tap)
    return float(said[-1]["frames"]) / RATE / seconds


def measure_callback(session: Session, channels: int, quantum: int, *, interleaved: bool, window_s: float) -> Callback:
    """The engine counts its callbacks' time itself; memcpy's is taken at the same pace, between sleeps."""
    session.force_quantum(quantum)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        CountingSource(session, name="timed", channels=channels, driver=True) as source,
        Engine(session, Path(folder)) as engine,
    ):
        layout = "interleaved" if interleaved else "planar"
        wanted = {"type": "audio", "layout": layout}
        engine.call("stream_start", uri=URI, device_identity=source.name, format=wanted)
        engine.await_status(URI, lambda status: status["callbacks"] > 20)
        before = engine.call("stream_status", uri=URI)
        copied_ns = _paced_memcpy(channels, quantum, window_s)
        after = engine.call("stream_status", uri=URI)
        engine.call("stream_stop", uri=URI)
    session.force_quantum(0)
    spent = after["callback_ns"]["total"] - before["callback_ns"]["total"]
    callbacks = after["callbacks"] - before["callbacks"]
    return Callback(channels, quantum, interleaved, spent / callbacks, copied_ns)


def _paced_memcpy(channels: int, quantum: int, window_s: float) -> float:
    """Mean nanoseconds of copying one cycle's bytes, plane by plane, into ever new places of a large slot."""
    kernels: ctypes.CDLL = load_kernels()
    stride = (16 << 20) // (4 * channels) // quantum * quantum
    slot = np.ones((channels, stride), np.float32)
    source = np.ones((channels, quantum), np.float32)
    pointer, count = ctypes.c_void_p, ctypes.c_uint64
    kernels.copy_planes.restype = count
    kernels.copy_planes.argtypes = [pointer, count, pointer, count, count]
    spent, times, at = 0, 0, 0
    deadline = time.monotonic() + window_s
    while time.monotonic() < deadline:
        spent += kernels.copy_planes(slot.ctypes.data + 4 * at, stride, source.ctypes.data, channels, quantum)
        times += 1
        at = (at + quantum) % stride
        time.sleep(quantum / RATE)
    return spent / times
