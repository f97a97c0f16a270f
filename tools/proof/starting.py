"""How soon things are there: a daemon, a stream's first frame and its answer, and what a person types in a shell."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from rig import CountingSource, Session

from proof.bare import bare
from proof.engine import Engine
from proof.installed import Installed

__all__ = ["Commands", "Starts", "measure_commands", "measure_starts"]

RATE = 48000
SAVED_S = 30
STEPS = (
    *("asked", "paths_checked", "device_found", "take_made", "node_made", "links_asked"),
    *("first_frame", "recording_made", "answered"),
)
_PAUSE_S = 0.05


@dataclass
class Starts:
    """Milliseconds, a figure per start on a device that runs already: from sending `stream_start` to the begin of the
    cycle that brought the first kept frame (its anchor), and from there to the answer's coming."""

    quantum: int
    to_frame: list[float] = field(default_factory=list)
    to_answer: list[float] = field(default_factory=list)
    steps: dict[str, list[float]] = field(default_factory=dict)
    """Of the answer's trace, each from the sending."""


@dataclass
class Commands:
    """Milliseconds, a figure per round: the daemon's start until it has answered `ping`, and whole processes from the
    shell: `chaosctl start` of a device that runs, `chaosctl save --last 30s` of stereo. All as people install them."""

    ping: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    save: list[float] = field(default_factory=list)


def measure_starts(session: Session, quantum: int, rounds: int) -> Starts:
    found = Starts(quantum)
    session.force_quantum(quantum)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        CountingSource(session, name="timed", driver=True, patience_ms=0) as source,
        Engine(session, Path(folder)) as engine,
        bare(session, source),
    ):
        engine.call("device_wait", name=source.name, timeout_s=50)
        for number in range(rounds + 1):
            time.sleep(_PAUSE_S + quantum / RATE * number / rounds)  # at ever another place in the device's cycle
            uri = f"stream://bench/{number}"
            asked = {"device_identity": source.name, "format": {"type": "audio"}}
            sent_ns = time.monotonic_ns()
            trace = engine.call("stream_start", uri=uri, **asked, trace=True)["trace"]
            answered_ns = time.monotonic_ns()
            engine.call("stream_stop", uri=uri)
            if number == 0:
                continue  # the first one loads what starts need
            found.to_frame.append((trace["first_frame"] - sent_ns) / 1e6)
            found.to_answer.append((answered_ns - trace["first_frame"]) / 1e6)
            for step in STEPS:
                found.steps.setdefault(step, []).append((trace[step] - sent_ns) / 1e6)
    session.force_quantum(0)
    return found


def measure_commands(session: Session, rounds: int) -> Commands:
    found = Commands()
    session.force_quantum(1024)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        installed = Installed(Path(folder))
        _time_starts(session, installed, rounds, found)
        _time_saves(session, installed, rounds, found)
    session.force_quantum(0)
    for figures in (found.ping, found.start, found.save):
        del figures[0]  # which loaded what the others need
    return found


def _time_starts(session: Session, installed: Installed, rounds: int, found: Commands) -> None:
    uri = "stream://bench/shell"
    with CountingSource(session, name="timed", driver=True, patience_ms=0) as source, bare(session, source):
        for _ in range(rounds + 1):
            with (
                tempfile.TemporaryDirectory(prefix="bench-") as folder,
                Engine(session, Path(folder), program=installed.chaosd) as engine,
            ):
                found.ping.append(1000 * engine.started_s)
                engine.call("device_wait", name=source.name, timeout_s=50)
                command = (installed.chaosctl, "start", uri, "--target", source.name)
                found.start.append(_shell_ms(session, engine, *command))
                engine.call("stream_stop", uri=uri)


def _time_saves(session: Session, installed: Installed, rounds: int, found: Commands) -> None:
    uri = "stream://bench/save"
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        CountingSource(session, name="quick", driver=True, speed=20, hold=True) as source,
        Engine(session, Path(folder)) as engine,
    ):
        asked = {"uri": uri, "device_identity": source.name, "format": {"type": "audio"}}
        engine.call("stream_start", **asked, staging_seconds=60, wait=True)
        source.wait_for("streaming")
        source.begin()
        engine.await_status(uri, lambda status: status["head_frame"] > (SAVED_S + 2) * RATE)
        source.stop()
        for number in range(rounds + 1):
            out = Path(folder) / f"{number}.wav"
            command = (installed.chaosctl, "save", uri, str(out), "--last", f"{SAVED_S}s")
            found.save.append(_shell_ms(session, engine, *command))
            out.unlink()


def _shell_ms(session: Session, engine: Engine, chaosctl: Path, *command: str) -> float:
    where = ["--endpoint", engine.client.endpoint, "--events", engine.client.events_endpoint]
    began = time.monotonic()
    session.run(str(chaosctl), *where, *command)
    return 1000 * (time.monotonic() - began)
