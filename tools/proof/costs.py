"""CPU per minute of capture: chaosd and its peers, one after the other, in an order that changes every round."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Self

import numpy as np
from rig import CountingSource, RigError, Session
from rig.counting import decode, modulus

from proof.bare import bare
from proof.engine import Engine, data_thread
from proof.recorders import PEERS, Peer, by_thread, start_peer, usage

__all__ = ["BARE", "OURS", "Cost", "DataThread", "add_threads", "measure_costs"]

OURS = "chaosd"
BARE = "copies only"
RATE = 48000
SETTLE_S = 0.7


@dataclass(frozen=True)
class DataThread:
    """What PipeWire's data thread in chaosd took, our callback being a part of it: CPU seconds per minute, and per
    cycle of the graph the callback's microseconds and the calls of read(2) and write(2)."""

    cpu: float
    callback_us: float
    reads: float
    writes: float


@dataclass
class Cost:
    """CPU seconds per minute of capture and switches per second, by recorder, a figure per round.

    `BARE` is a client of the graph that only copies; `threads` is chaosd's CPU by the threads' names. `failed` says why
    a recorder is missing. `lost` are the frames a minute that a recorder missed: of ours those in its ledger, of the
    others those that the graph's clock, or what they wrote, says. `times` is how often a minute it missed any,
    `stolen_ms` how long a minute another guest of the host had one of this machine's processors that was wanted here.
    """

    channels: int
    quantum: int
    cpu: dict[str, list[float]] = field(default_factory=dict)
    switches: dict[str, list[float]] = field(default_factory=dict)
    data_thread: list[DataThread] = field(default_factory=list)
    threads: dict[str, list[float]] = field(default_factory=dict)
    lost: dict[str, list[float]] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)
    stolen_ms: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def ratio(self, name: str, to: str) -> float:
        """One's to the other's, of the medians over rounds."""
        return median(self.cpu[name]) / median(self.cpu[to])


def measure_costs(
    session: Session,
    shapes: Sequence[tuple[int, int]],
    *,
    rounds: int,
    window_s: float,
    once: Sequence[str] = (),
    never: Sequence[str] = (),
) -> list[Cost]:
    """Each shape is (channels, quantum); recorders in `once` are measured in the first round only, those in `never`
    not at all.

    Ours is measured over at least one whole chunk, so that its share of hashing and sealing is in it.
    """
    peers = [peer for peer in PEERS if peer.name not in never]
    return [_measure(session, channels, quantum, rounds, window_s, peers, once) for channels, quantum in shapes]


def _measure(
    session: Session,
    channels: int,
    quantum: int,
    rounds: int,
    window_s: float,
    peers: Sequence[Peer],
    once: Sequence[str],
) -> Cost:
    cost = Cost(channels, quantum)
    order = random.Random(channels * quantum)
    cost.failed = {peer.name: "not installed" for peer in peers if not peer.is_installed}
    session.force_quantum(quantum)
    name = f"cost-{channels}-{quantum}"
    with CountingSource(session, name=name, channels=channels, driver=True, patience_ms=0) as source:
        for number in range(rounds):
            recorders: list[Peer | str] = [OURS, BARE, *peers]
            order.shuffle(recorders)
            for recorder in recorders:
                if recorder == OURS:
                    _ours(cost, session, source, window_s)
                elif recorder == BARE:
                    with bare(session, source) as client:
                        _window(cost, BARE, client.pid, window_s)
                    _lost(cost, BARE, client.lost_frames, client.n_frames, client.times)
                elif isinstance(recorder, Peer) and not (number and recorder.name in once):
                    _theirs(cost, session, source, recorder, window_s)
    session.force_quantum(0)
    return cost


def _ours(cost: Cost, session: Session, source: CountingSource, window_s: float) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        engine = stack.enter_context(Engine(session, folder))
        uri = "stream://bench/1"
        engine.call("stream_start", uri=uri, device_identity=source.name, format={"type": "audio"})
        status = engine.await_status(uri, lambda status: status["head_frame"] > 0)
        seconds = max(window_s, status["chunk_frames"] / RATE)
        time.sleep(SETTLE_S)  # what a start leaves to do is nobody's in the window
        before, began, threads = _Counters.now(engine, uri), time.monotonic(), by_thread(engine.pid)
        _window(cost, OURS, engine.pid, seconds, settle_s=0)
        spent = by_thread(engine.pid)  # before we ask for the status, which takes its time
        add_threads(cost, threads, spent, data_thread(engine.pid), time.monotonic() - began)
        after, passed_s = _Counters.now(engine, uri), time.monotonic() - began
        cost.data_thread.append(after.since(before, passed_s))
        times = engine.call("stream_status", uri=uri)["xruns"]
        ended = engine.call("stream_stop", uri=uri)
        _lost(cost, OURS, ended["lost_frames"], ended["n_frames"], times)


def _lost(cost: Cost, name: str, n_lost: int, n_frames: int, times: int) -> None:
    cost.lost.setdefault(name, []).append(n_lost / n_frames * RATE * 60)
    cost.times.setdefault(name, []).append(times / n_frames * RATE * 60)


def _stolen_ms() -> float:
    fields = Path("/proc/stat").read_text().split(maxsplit=9)
    return int(fields[8]) * 1000 / os.sysconf("SC_CLK_TCK")


def add_threads(
    cost: Cost, before: dict[int, tuple[str, int]], after: dict[int, tuple[str, int]], data: int, seconds: float
) -> None:
    """Of those that lived at the end; PipeWire's data thread, by its number, under a name of its own."""
    spent: dict[str, float] = {}
    for tid, (own, cpu_ns) in after.items():
        name = "data thread" if tid == data else own
        _, since_ns = before.get(tid, (own, 0))
        spent[name] = spent.get(name, 0.0) + (cpu_ns - since_ns) / 1e9 / seconds * 60
    for name, cpu in spent.items():
        cost.threads.setdefault(name, []).append(cpu)


@dataclass(frozen=True)
class _Counters:
    """How the data thread's counters stand."""

    cpu_ns: int
    callbacks: int
    callback_ns: int
    reads: int
    writes: int

    @classmethod
    def now(cls, engine: Engine, uri: str) -> Self:
        status = engine.call("stream_status", uri=uri)
        task = Path(f"/proc/{engine.pid}/task/{data_thread(engine.pid)}")
        io = dict(line.split(": ") for line in (task / "io").read_text().splitlines())
        cpu_ns = int((task / "schedstat").read_text().split()[0])
        return cls(cpu_ns, status["callbacks"], status["callback_ns"]["total"], int(io["syscr"]), int(io["syscw"]))

    def since(self, before: Self, seconds: float) -> DataThread:
        n = self.callbacks - before.callbacks
        return DataThread(
            cpu=(self.cpu_ns - before.cpu_ns) / 1e9 / seconds * 60,
            callback_us=(self.callback_ns - before.callback_ns) / n / 1000,
            reads=(self.reads - before.reads) / n,
            writes=(self.writes - before.writes) / n,
        )


def _theirs(cost: Cost, session: Session, source: CountingSource, peer: Peer, window_s: float) -> None:
    if peer.name in cost.failed:
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            child = start_peer(session, peer, source, cost.quantum, Path(folder) / "out.wav")
        except RigError as error:
            cost.failed[peer.name] = str(error)
            return
        _window(cost, peer.name, child.pid, window_s)
        session.end(child)
        if peer.needs == "pw-record":
            _lost(cost, peer.name, *_missed(Path(folder) / "out.wav", source.channels))


def _missed(path: Path, channels: int) -> tuple[int, int, int]:
    """How many frames a WAV file of f32 lacks of the counting source's, how many it should have, and at how many places
    it lacks them."""
    content = path.read_bytes()
    at = content.index(b"data") + 8
    n_frames = (len(content) - at) // (4 * channels)
    samples = np.frombuffer(content, "<f4", n_frames * channels, at).reshape(n_frames, channels).T
    numbers = decode(samples)
    steps = np.diff(numbers[numbers >= 0]) % modulus(channels)
    return int(steps.sum()) - len(steps), int(steps.sum()) + 1, int(np.count_nonzero(steps != 1))


def _window(cost: Cost, name: str, pid: int, seconds: float, *, settle_s: float = SETTLE_S) -> None:
    time.sleep(settle_s)
    before, stolen_ms = usage(pid), _stolen_ms()
    time.sleep(seconds)
    after = usage(pid)
    cost.stolen_ms.setdefault(name, []).append((_stolen_ms() - stolen_ms) / seconds * 60)
    cost.cpu.setdefault(name, []).append(after.cpu_per_minute(before))
    cost.switches.setdefault(name, []).append(after.switches_per_second(before))
