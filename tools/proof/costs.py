"""CPU per minute of capture: chaosd and its peers, one after the other, in an order that changes every round."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rig import CountingSource, RigError, Session

from proof.engine import Engine, data_thread
from proof.recorders import PEERS, Peer, start_peer, usage

__all__ = ["OURS", "Cost", "measure_costs"]

OURS = "chaosd"
RATE = 48000
SETTLE_S = 0.7


@dataclass
class Cost:
    """CPU seconds per minute of capture and switches per second, by recorder, a figure per round.

    `of_data_thread` is that part of ours that PipeWire's data thread takes. `failed` says why a recorder is missing.
    """

    channels: int
    quantum: int
    cpu: dict[str, list[float]] = field(default_factory=dict)
    switches: dict[str, list[float]] = field(default_factory=dict)
    of_data_thread: list[float] = field(default_factory=list)
    lost_frames: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def ratio(self, name: str) -> float:
        """Ours to that one's, of the medians over rounds."""
        return median(self.cpu[OURS]) / median(self.cpu[name])


def measure_costs(
    session: Session, shapes: Sequence[tuple[int, int]], *, rounds: int, window_s: float, once: Sequence[str] = ()
) -> list[Cost]:
    """Each shape is (channels, quantum); recorders in `once` are measured in the first round only.

    Ours is measured over at least one whole chunk, so that its share of hashing and sealing is in it.
    """
    return [_measure(session, channels, quantum, rounds, window_s, once) for channels, quantum in shapes]


def _measure(
    session: Session, channels: int, quantum: int, rounds: int, window_s: float, once: Sequence[str]
) -> Cost:
    cost = Cost(channels, quantum)
    order = random.Random(channels * quantum)
    cost.failed = {peer.name: "not installed" for peer in PEERS if not peer.is_installed}
    session.force_quantum(quantum)
    name = f"cost-{channels}-{quantum}"
    with CountingSource(session, name=name, channels=channels, driver=True, patience_ms=0) as source:
        for number in range(rounds):
            peers: list[Peer | None] = [None, *PEERS]
            order.shuffle(peers)
            for peer in peers:
                if peer is None:
                    _ours(cost, session, source, window_s)
                elif peer.name not in cost.failed and not (number and peer.name in once):
                    _theirs(cost, session, source, peer, window_s)
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
        schedstat = Path(f"/proc/{engine.pid}/task/{data_thread(engine.pid)}/schedstat")
        before_ns = int(schedstat.read_text().split()[0])
        _window(cost, OURS, engine.pid, seconds)
        spent_ns = int(schedstat.read_text().split()[0]) - before_ns
        cost.of_data_thread.append(spent_ns / 1e9 / (seconds + SETTLE_S) * 60)
        cost.lost_frames += engine.call("stream_stop", uri=uri)["lost_frames"]


def _theirs(cost: Cost, session: Session, source: CountingSource, peer: Peer, window_s: float) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            child = start_peer(session, peer, source, cost.quantum, Path(folder) / "out.wav")
        except RigError as error:
            cost.failed[peer.name] = str(error)
            return
        _window(cost, peer.name, child.pid, window_s)
        session.end(child)


def _window(cost: Cost, name: str, pid: int, seconds: float) -> None:
    time.sleep(SETTLE_S)
    before = usage(pid)
    time.sleep(seconds)
    after = usage(pid)
    cost.cpu.setdefault(name, []).append(after.cpu_per_minute(before))
    cost.switches.setdefault(name, []).append(after.switches_per_second(before))
