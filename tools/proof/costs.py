"""CPU per minute of capture: chaosd and its peers, all recording the same device at the same time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rig import CountingSource, RigError, Session

from proof.engine import Engine, data_thread
from proof.recorders import PEERS, start_peer, usage

__all__ = ["OURS", "Cost", "measure_costs"]

OURS = "chaosd"
RATE = 48000
SETTLE_S = 1.0


@dataclass
class Cost:
    """CPU seconds per minute of capture and switches per second, by recorder, a figure per window.

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
        """Ours to that one's: the median over windows of the ratio in each."""
        return median(mine / theirs for mine, theirs in zip(self.cpu[OURS], self.cpu[name], strict=True))


def measure_costs(session: Session, shapes: Sequence[tuple[int, int]], *, windows: int, window_s: float) -> list[Cost]:
    """Each shape is (channels, quantum). A window should be as long as a chunk of chaosd's: 10 s."""
    return [_measure(session, channels, quantum, windows, window_s) for channels, quantum in shapes]


def _measure(session: Session, channels: int, quantum: int, windows: int, window_s: float) -> Cost:
    cost = Cost(channels, quantum)
    session.force_quantum(quantum)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        source = CountingSource(session, name=f"cost-{channels}-{quantum}", channels=channels, driver=True)
        stack.enter_context(source)
        engine = stack.enter_context(Engine(session, folder))
        uri = "stream://bench/1"
        engine.call("stream_start", uri=uri, device_identity=source.name, format={"type": "audio"})
        engine.await_status(uri, lambda status: status["head_frame"] > 0)
        running = {OURS: engine.pid}
        for peer in PEERS:
            if not peer.is_installed:
                cost.failed[peer.name] = "not installed"
                continue
            try:
                child = start_peer(session, peer, source, quantum, folder / f"{len(running)}.wav")
            except RigError as error:
                cost.failed[peer.name] = str(error)
                continue
            stack.callback(session.end, child)
            running[peer.name] = child.pid
        time.sleep(SETTLE_S)
        for _ in range(windows):
            _window(cost, running, data_thread(engine.pid), window_s)
        cost.lost_frames = engine.call("stream_stop", uri=uri)["lost_frames"]
    session.force_quantum(0)
    return cost


def _window(cost: Cost, running: dict[str, int], tid: int, window_s: float) -> None:
    schedstat = Path(f"/proc/{running[OURS]}/task/{tid}/schedstat")
    began_s, thread = time.monotonic(), int(schedstat.read_text().split()[0])
    before = {name: usage(pid) for name, pid in running.items()}
    time.sleep(window_s)
    for name, pid in running.items():
        after = usage(pid)
        cost.cpu.setdefault(name, []).append(after.cpu_per_minute(before[name]))
        cost.switches.setdefault(name, []).append(after.switches_per_second(before[name]))
    spent_s = (int(schedstat.read_text().split()[0]) - thread) / 1e9
    cost.of_data_thread.append(spent_s / (time.monotonic() - began_s) * 60)
