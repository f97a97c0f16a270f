"""Faster than real time: how much audio per second goes through the whole engine, and through a client that only
copies; and what the process callback takes, beside memcpy of the same bytes in another client's."""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rig import CountingSource, Session, program

from chaos.terms.chunking import chunk_frames
from proof.bare import bare
from proof.engine import Engine
from proof.storing import storing_speed

__all__ = ["Callback", "Throughput", "measure_callback", "measure_throughput"]

RATE = 48000
QUANTUM = 1024
URI = "stream://bench/1"


@dataclass
class Throughput:
    """Seconds of audio per second, a figure per round; `stored` leaves out what was an overrun, `written` is what the
    disk takes, `alone` what the recording's writer stores where no graph runs beside it."""

    channels: int
    offered: list[float]
    stored: list[float]
    copied: list[float]
    written: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    shares: dict[str, list[float]] = field(default_factory=dict)
    """Of the writer's time alone, by what it does."""

    @property
    def ratio(self) -> float:
        """What the engine stores to what a client that only copies takes in."""
        return median(ours / copy for ours, copy in zip(self.stored, self.copied, strict=True))

    @property
    def to_disk(self) -> float:
        """What the engine stores to what the disk takes of files of that size, past the page cache, one after the
        other."""
        return median(self.stored) / median(self.written)


@dataclass
class Callback:
    """Mean microseconds per cycle, a figure per round: of our callback, and of the memcpy of the same bytes in the
    data thread of a client that does no more than that, and of that client's whole callback, which takes the buffers
    and gives them back."""

    channels: int
    quantum: int
    interleaved: bool
    callback_us: list[float] = field(default_factory=list)
    memcpy_us: list[float] = field(default_factory=list)
    bare_us: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return median(self.callback_us) / median(self.memcpy_us)

    @property
    def to_bare(self) -> float:
        """Ours to the whole callback of the client that only copies."""
        return median(self.callback_us) / median(self.bare_us)

    @property
    def limit(self) -> float:
        """The ratio of the client that only copies: its callback to its memcpy."""
        return median(self.bare_us) / median(self.memcpy_us)


def measure_throughput(session: Session, channels: int, *, rounds: int, window_s: float) -> Throughput:
    """The two alternate; each has the graph to itself."""
    found = Throughput(channels, [], [], [])
    session.force_quantum(QUANTUM)
    for _ in range(rounds):
        offered, stored = _engine(session, channels, window_s)
        found.offered.append(offered)
        found.stored.append(stored)
        found.copied.append(_copy(session, channels, window_s))
        found.written.append(_written(channels, window_s))
        found.alone.append(storing_speed(channels, window_s, found.shares))
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


def _written(channels: int, window_s: float) -> float:
    """Files as chunks are, of noise, each written past the page cache and synced."""
    n_frames = chunk_frames(None, channels=channels, sample_rate=RATE)
    n_bytes = channels * n_frames * 4 // mmap.PAGESIZE * mmap.PAGESIZE
    data = mmap.mmap(-1, n_bytes)
    data[:] = os.urandom(1 << 16) * (n_bytes >> 16) + bytes(n_bytes & 0xFFFF)
    n_files = 0
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, memoryview(data) as view:
        began = time.monotonic()
        while time.monotonic() - began < window_s:
            fd = os.open(f"{folder}/{n_files}", os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
            try:
                n_done = 0
                while n_done < n_bytes:
                    n_done += os.pwrite(fd, view[n_done:], n_done)
                os.fsync(fd)
            finally:
                os.close(fd)
            n_files += 1
        seconds = time.monotonic() - began
    data.close()
    return n_files * n_frames / RATE / seconds


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


def measure_callback(
    session: Session, channels: int, quantum: int, *, interleaved: bool, rounds: int, window_s: float
) -> Callback:
    """The two alternate at real-time pace, each alone with the same device; the engine times its callbacks itself."""
    found = Callback(channels, quantum, interleaved)
    session.force_quantum(quantum)
    with CountingSource(session, name="timed", channels=channels, driver=True) as source:
        for _ in range(rounds):
            found.callback_us.append(_callback_us(session, source, interleaved, window_s))
            with bare(session, source) as client:
                time.sleep(window_s)
            found.memcpy_us.append(client.copy_us)
            found.bare_us.append(client.callback_us)
    session.force_quantum(0)
    return found


def _callback_us(session: Session, source: CountingSource, interleaved: bool, window_s: float) -> float:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Engine(session, Path(folder)) as engine:
        wanted = {"type": "audio", "layout": "interleaved" if interleaved else "planar"}
        engine.call("stream_start", uri=URI, device_identity=source.name, format=wanted)
        before = engine.await_status(URI, lambda status: status["callbacks"] > 20)
        time.sleep(window_s)
        after = engine.call("stream_status", uri=URI)
        engine.call("stream_stop", uri=URI)
    spent_ns = after["callback_ns"]["total"] - before["callback_ns"]["total"]
    return float(spent_ns / (after["callbacks"] - before["callbacks"]) / 1000)
