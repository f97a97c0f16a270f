"""Many streams in one daemon, its memory, its idleness, and how long things take."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rig import CountingSource, Session

from chaos.staging.layout import SUFFIX
from chaos.staging.reader import StagingReader
from proof.engine import Engine
from proof.recorders import PEERS, start_peer, usage

__all__ = ["Idle", "Latencies", "Streams", "measure_idle", "measure_latencies", "measure_streams"]

QUANTUM = 1024
RATE = 48000
STAGING_S = 5.0


@dataclass
class Streams:
    """`n` stereo streams in one daemon beside as many pw-records: CPU seconds per minute in all; memory beyond the
    slots in MB, threads and switches per second of the daemon."""

    n: int
    cpu: float
    peers_cpu: float | None
    lost_frames: int
    memory_mb: float
    n_threads: int
    switches: float

    @property
    def per_stream(self) -> float:
        return self.cpu / self.n


@dataclass
class Idle:
    """A daemon without streams, over `seconds`."""

    seconds: float
    switches: int
    cpu_ms: float
    memory_mb: float


@dataclass
class Latencies:
    """Milliseconds, one figure per round."""

    event_delivery: list[float] = field(default_factory=list)
    head_to_reader: list[float] = field(default_factory=list)


def _memory_mb(pid: int) -> float:
    """Resident memory without the shared pages that the slots are."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssFile")) / 1024


def measure_streams(
    session: Session, counts: Sequence[int], *, window_s: float, beside: Sequence[int]
) -> list[Streams]:
    """One device, captured by so many streams; for counts in `beside` also by as many pw-records."""
    session.force_quantum(QUANTUM)
    with CountingSource(session, name="shared", driver=True, patience_ms=0) as source:
        found = [_streams(session, source, n, window_s, n in beside) for n in counts]
    session.force_quantum(0)
    return found


def _streams(session: Session, source: CountingSource, n: int, window_s: float, beside: bool) -> Streams:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Engine(session, Path(folder)) as engine:
        uris = [f"stream://bench/{k}" for k in range(n)]
        for uri in uris:
            wanted = {"uri": uri, "device_identity": source.name, "format": {"type": "audio"}}
            engine.call("stream_start", **wanted, staging_seconds=STAGING_S, wait=True)
        for uri in uris:
            engine.await_status(uri, lambda status: status["head_frame"] > 0)
        time.sleep(1)
        before = usage(engine.pid)
        time.sleep(window_s)
        after = usage(engine.pid)
        memory_mb = _memory_mb(engine.pid)
        lost = sum(engine.call("stream_stop", uri=uri)["lost_frames"] for uri in uris)
    peers_cpu = _pw_records(session, source, n, window_s) if beside else None
    cpu, switches = after.cpu_per_minute(before), after.switches_per_second(before)
    return Streams(n, cpu, peers_cpu, lost, memory_mb, after.n_threads, switches)


def _pw_records(session: Session, source: CountingSource, n: int, window_s: float) -> float:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        pids = []
        for k in range(n):
            child = start_peer(session, PEERS[0], source, QUANTUM, folder / f"{k}.wav")
            stack.callback(session.end, child)
            pids.append(child.pid)
        time.sleep(1)
        before = [usage(pid) for pid in pids]
        time.sleep(window_s)
        return sum(usage(pid).cpu_per_minute(then) for pid, then in zip(pids, before, strict=True))


def measure_idle(session: Session, seconds: float) -> Idle:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Engine(session, Path(folder)) as engine:
        engine.client.close()
        time.sleep(1)
        before = usage(engine.pid)
        time.sleep(seconds)
        after = usage(engine.pid)
        memory_mb = _memory_mb(engine.pid)
    return Idle(seconds, after.switches - before.switches, (after.cpu_ns - before.cpu_ns) / 1e6, memory_mb)


def measure_latencies(session: Session, rounds: int) -> Latencies:
    found = Latencies()
    session.force_quantum(QUANTUM)
    with CountingSource(session, name="timed", driver=True) as source:
        for number in range(rounds):
            with tempfile.TemporaryDirectory(prefix="bench-") as folder, Engine(session, Path(folder)) as engine:
                _one_stream(engine, source, found, f"stream://bench/{number}")
    session.force_quantum(0)
    return found


def _one_stream(engine: Engine, source: CountingSource, found: Latencies, uri: str) -> None:
    with engine.client.events("stream_head_position", timeout_s=10) as events:
        engine.call(
            "stream_start", uri=uri, device_identity=source.name, format={"type": "audio"}, staging_seconds=STAGING_S
        )
        delays = []
        for _ in range(10):
            event = next(events)
            delays.append((time.monotonic_ns() - event["monotonic_ns"]) / 1e6)
        found.event_delivery.append(statistics.median(delays))
    staging = next((engine.session.runtime_dir / "chaos" / "staging").glob(f"*{SUFFIX}"))
    with StagingReader(staging) as reader:
        found.head_to_reader.append(_head_delay_ms(reader))


def _head_delay_ms(reader: StagingReader) -> float:
    """From a cycle's begin to its frames being visible here, the median over some cycles."""
    delays: list[float] = []
    head = reader.head_frame
    while len(delays) < 20:
        if (now := reader.head_frame) == head:
            continue
        seen_ns = time.monotonic_ns()
        began_ns = reader.state("end_ns") - (now - head) * 10**9 // RATE
        delays.append((seen_ns - began_ns) / 1e6)
        head = now
    return statistics.median(delays)
