"""The proof of the promise: a capture that things are done to, and at the end the account of every frame.

A counting source offers frames that carry their numbers, chaosd captures them, and faults come at random (seeded):
chaosd stopped, PipeWire stopped, chaosd's data thread held up, another quantum, the device lost and back, a disk that
dawdles. Afterwards each frame offered is in its place in the recording, or the ledger says where it is missing and
why. Exit code 1 when that is not so. With --devices the device itself breaks the rules instead, one row each
(proof.devices), with --events a keyboard is captured (proof.keys). SIGTERM ends a run after the take that is under way,
with the account so far.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rig import CountingSource, RigError, Session

from chaos.store.info import load
from proof import keys
from proof.devices import ROWS, capture
from proof.engine import Engine, data_thread
from proof.faults import SlowDisk, hold_thread, stopped
from proof.placing import Incarnation, Placed, place

__all__ = ["Plan", "Result", "main", "run"]

RATE = 48000
CHUNK_S = 0.5
STAGING_S = 2.5
QUANTA = (64, 128, 256, 512, 1024, 2048, 8192)
FAST_PATIENCE_MS = 5
LONG_QUANTA = (512, 1024, 2048, 8192)
FAULTS = {
    "client_stopped": 5,
    "daemon_stopped": 3,
    "data_thread_held": 6,
    "quantum_changed": 3,
    "device_lost": 1,
    "disk_slow": 1,
}


@dataclass(frozen=True)
class Plan:
    """What is to be done. `speed` is how many times faster than real time the device runs; `faults` is how often
    each kind comes, in relation to the others. A device that catches up makes up for time that it was late."""

    seconds: float
    seed: int
    channels: int = 2
    quantum: int = 1024
    speed: float = 1.0
    interleaved: bool = False
    catch_up: bool = False
    pause_s: float = 0.7
    quanta: tuple[int, ...] = QUANTA
    faults: dict[str, int] = field(default_factory=lambda: dict(FAULTS))

    @property
    def chunk_s(self) -> float:
        """Audio of a chunk; at high speed long ones, for each costs some fsyncs."""
        return CHUNK_S * max(1.0, self.speed / 5)

    @property
    def staging_s(self) -> float:
        """Audio that the slots hold: STAGING_S of real time."""
        return STAGING_S * self.speed


@dataclass
class Result:
    """The account of one run, and which faults it saw."""

    placed: Placed
    faults: Counter[str]
    torn: int
    verified: bool

    @property
    def ok(self) -> bool:
        return self.placed.ok and self.verified


def run(session: Session, folder: Path, plan: Plan) -> Result:
    """One capture with its faults, in `folder`. Raises RigError where the rig itself fails."""
    disk = SlowDisk(folder)
    with Engine(session, folder, variables=disk.variables) as engine, ExitStack() as stack:
        return _Run(session, engine, disk, plan, stack).go()


class _Run:
    def __init__(self, session: Session, engine: Engine, disk: SlowDisk, plan: Plan, stack: ExitStack) -> None:
        self._session = session
        self._engine = engine
        self._disk = disk
        self._plan = plan
        self._stack = stack
        self._random = random.Random(plan.seed)
        self._uri = f"stream://truth/{plan.seed}"
        self._lives: list[Incarnation] = []
        self._done: Counter[str] = Counter()

    def go(self) -> Result:
        self._session.force_quantum(self._plan.quantum)
        self._source = self._new_source()
        started = self._engine.call(
            "stream_start",
            uri=self._uri,
            device_identity=self._source.name,
            format={"type": "audio", "layout": "interleaved" if self._plan.interleaved else "planar"},
            chunk_size_bytes=int(self._plan.chunk_s * RATE) * 4 * self._plan.channels,
            staging_seconds=self._plan.staging_s,
            wait=True,
        )
        self._begin()
        deadline = time.monotonic() + self._plan.seconds
        while time.monotonic() < deadline:
            time.sleep(self._random.uniform(0.1, 2 * self._plan.pause_s))  # capture runs well between faults
            self._fault()
        self._lose_device()
        self._engine.await_state(self._uri, "waiting")
        status = self._engine.call("stream_status", uri=self._uri)
        recording = self._engine.call("stream_stop", uri=self._uri)["recording"] or started["recording"]
        verified = self._engine.call("verify", uri=self._uri)["ok"]
        self._session.force_quantum(0)
        placed = place(load(Path(recording)), self._lives, 2 * max(QUANTA), max(1.0, self._plan.speed))
        return Result(placed, self._done, int(status.get("torn", 0)), verified)

    def _new_source(self) -> CountingSource:
        source = CountingSource(
            self._session,
            name="truth-microphone",
            channels=self._plan.channels,
            source_id=len(self._lives) + 1,
            driver=True,
            speed=self._plan.speed,
            # At speed a cycle is as long as it takes: begun earlier, it would overwrite what is still being read.
            patience_ms=0 if self._plan.speed == 1 else FAST_PATIENCE_MS,
            catch_up=self._plan.catch_up,
            hold=True,
        )
        self._stack.callback(source.stop)
        return source

    def _begin(self) -> None:
        self._source.wait_for("streaming")
        self._source.begin()
        self._engine.await_state(self._uri, "streaming")

    def _lose_device(self) -> None:
        offered = self._source.finish()
        self._lives.append(Incarnation(self._source.source_id, offered["frames"], offered["first"], offered["end"]))

    def _change_quantum(self, n_frames: int) -> None:
        """PipeWire 0.3 changes it as a cycle begins. Where cycles overlap, as they may at speed, that is amid the
        device's own work, and its converter can keep some of its frames back for good; so there the device rests."""
        if self._plan.speed > 1:
            self._source.hold()
        self._session.force_quantum(n_frames)
        if self._plan.speed > 1:
            self._source.begin()

    def _fault(self) -> None:
        kinds = list(self._plan.faults)
        kind = self._random.choices(kinds, [self._plan.faults[one] for one in kinds])[0]
        self._done[kind] += 1
        seconds = self._random.choice([0.001, 0.01, 0.03, 0.1, 0.3, 2.0]) * self._random.uniform(0.5, 1.0)
        match kind:
            case "client_stopped":
                with stopped(self._engine.pid):
                    time.sleep(seconds)  # the fault lasts
            case "daemon_stopped":
                with stopped(self._session.pipewire_pid):
                    time.sleep(seconds)  # the fault lasts
            case "data_thread_held":
                hold_thread(data_thread(self._engine.pid), seconds)
            case "quantum_changed":
                self._change_quantum(self._random.choice(self._plan.quanta))
            case "device_lost":
                self._lose_device()
                self._engine.await_state(self._uri, "waiting")
                time.sleep(seconds)  # it is away so long
                self._source = self._new_source()
                self._begin()
            case "disk_slow":
                self._disk.set(self._random.uniform(0.5, 2.0) * STAGING_S)
                time.sleep(CHUNK_S)  # at least one chunk meets it
                self._disk.set(0)


def _report(total: Placed, faults: Counter[str], torn: int, seconds: float) -> str:
    done = ", ".join(f"{kind} {n}" for kind, n in sorted(faults.items())) or "none"
    lost = ", ".join(f"{cause} {n}" for cause, n in sorted(total.in_ledger.items()) if n) or "none"
    lines = [
        ("faults", done),
        ("audio", f"{total.timeline / RATE / 3600:.3f} h in {seconds / 60:.1f} min"),
        ("frames offered", f"{total.offered:,}"),
        ("before the first", f"{total.before:,}"),
        ("captured", f"{total.captured:,}"),
        ("in the ledger", lost),
        ("torn, so refused", f"{torn:,}"),
        ("unaccounted", f"{total.unaccounted:,}"),
        ("wrongly placed", f"{total.wrongly_placed:,}"),
        ("foreign", f"{total.foreign:,}"),
    ]
    bad = [("first wrong", what) for what in total.first_bad[:10]]
    return "\n".join(f"{name:>17}  {value}" for name, value in [*lines, *bad])


def _devices(seed: int) -> bool:
    """Every row of proof.devices, planar and interleaved, as a table; whether each frame of all is accounted for."""
    kept = True
    heads = f"{'offered':>8} {'before':>8} {'captured':>8} {'wrong':>6} {'unaccounted':>11}"
    print(f"{'device':26} {'layout':12} {heads}  in the ledger")
    with (
        Session() as session,
        tempfile.TemporaryDirectory(prefix="truth-") as folder,
        Engine(session, Path(folder)) as engine,
    ):
        for row in ROWS:
            for found in capture(engine, row, seed=seed):
                lost = ", ".join(f"{cause} {n}" for cause, n in sorted(found.in_ledger.items()) if n) or "nothing"
                unaccounted = found.unaccounted + found.stretched
                figures = (
                    f"{found.offered:8} {found.before:8} {found.captured:8} {found.wrong:6} {unaccounted:11}  {lost}"
                )
                print(f"{row.name:26} {found.layout:12} {figures}", *found.notes[:3], sep="\n    ", flush=True)
                kept &= found.ok
    return kept


def _events(minutes: float, seed: int) -> bool:
    """Takes of half a minute of MIDI, and the account of their events; whether it is whole."""
    total, kept = keys.Account(), True
    began = time.monotonic()
    with Session() as session:
        while (left_s := 60 * minutes - (time.monotonic() - began)) > 1:
            with tempfile.TemporaryDirectory(prefix="truth-") as folder:
                found = keys.capture(session, Path(folder), seconds=min(30.0, left_s), seed=seed)
            print(f"seed {seed}: {'kept' if found.ok else 'BROKEN'}", *found.first_bad[:5], sep="\n  ", file=sys.stderr)
            kept &= found.ok
            seed += 1
            total.offered += found.offered
            total.stored += found.stored
            total.misplaced += found.misplaced
            total.lost += found.lost
            total.in_gaps += found.in_gaps
            total.faults += found.faults
    done = ", ".join(f"{kind} {n}" for kind, n in sorted(total.faults.items()))
    lost = ", ".join(f"{cause} {n}" for cause, n in sorted(total.in_gaps.items())) or "none"
    print(f"faults: {done}\nevents offered: {total.offered:,}; stored: {total.stored:,}; in gaps: {lost}")
    print(f"misplaced: {total.misplaced:,}; lost outside the ledger: {total.lost:,}")
    return kept


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools/truth", description="Breaks things and accounts for every frame.")
    parser.add_argument("--minutes", type=float, default=1.0, metavar="N", help="how long, in real time (1)")
    parser.add_argument("--hours", type=float, metavar="H", help="audio to capture, faster than real time")
    parser.add_argument("--seed", type=int, default=0, help="of the first take, then 1 more each (0: by the clock)")
    parser.add_argument("--channels", type=int, default=2, metavar="N")
    parser.add_argument("--speed", type=float, help="times real time (1; with --hours 100)")
    parser.add_argument("--interleaved", action="store_true", help="through the deinterleave kernel")
    parser.add_argument("--catch-up", action="store_true", help="the device makes up for time that it was late")
    parser.add_argument("--devices", action="store_true", help="every way in which a device can break the rules, once")
    parser.add_argument("--events", action="store_true", help="MIDI in place of audio, for --minutes")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    if asked.devices or asked.events:
        kept = _devices(asked.seed) if asked.devices else _events(asked.minutes, asked.seed or int(time.time()))
        print("the promise is kept" if kept else "THE PROMISE IS BROKEN")
        return 0 if kept else 1
    seed = asked.seed or int(time.time())
    speed = asked.speed or (100.0 if asked.hours else 1.0)
    wanted_frames = int(asked.hours * 3600 * RATE) if asked.hours else 0
    began = time.monotonic()
    total, faults, torn, verified = Placed(), Counter[str](), 0, True
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    with Session() as session:
        while not told:
            left_s = 60 * asked.minutes - (time.monotonic() - began)
            plan = Plan(
                seconds=30.0 if asked.hours else min(60.0, max(1.0, left_s)),
                pause_s=1.5 if asked.hours else 0.7,
                quanta=LONG_QUANTA if asked.hours else QUANTA,
                seed=seed,
                channels=asked.channels,
                speed=speed,
                interleaved=asked.interleaved,
                catch_up=asked.catch_up,
            )
            with tempfile.TemporaryDirectory(prefix="truth-") as folder:
                result = run(session, Path(folder), plan)
            total += result.placed
            faults += result.faults
            torn += result.torn
            verified &= result.verified
            verdict = "kept" if result.ok else f"BROKEN: {result.placed.brief()}, verified: {result.verified}"
            hours = total.offered / RATE / 3600
            print(f"seed {seed}: {verdict}; {hours:.2f} h of audio so far", file=sys.stderr, flush=True)
            seed += 1
            left_s = 60 * asked.minutes - (time.monotonic() - began)
            if (total.offered >= wanted_frames) if asked.hours else left_s < 1:
                break
    seconds = time.monotonic() - began
    ok = total.ok and verified
    if asked.json:
        wire = {**vars(total), "in_ledger": dict(total.in_ledger), "unaccounted": total.unaccounted}
        print(json.dumps({"ok": ok, "seconds": seconds, "faults": dict(faults), "torn": torn, **wire}))
    else:
        print(_report(total, faults, torn, seconds))
        print("the promise is kept" if ok else "THE PROMISE IS BROKEN")
    return 0 if ok else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RigError as error:
        sys.exit(f"truth: {error}")
