"""The proof of RT-safety: chaosd captures with its process callback under watch.

`rtwatch.c` is preloaded into chaosd and counts what a real-time callback must not do. Eight captures (planar and
interleaved, as f32 and converted; MIDI; a device that breaks every rule of clocks and buffers) go over chunk
boundaries, a gap, an overrun, and the device's loss and return; beside each, others begin on the running device while
their slots are still being prepared. Allowed is one eventfd write per full slot, and one when capture begins or has a
slot again. Exit code 1 for anything else, or for a detector that missed what it was shown.
"""

from __future__ import annotations

import argparse
import json
import platform
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rig import MIDI, CountingSource, Event, FaultyDriver, MidiSource, RigError, Session, random_tune

from chaos.terms.formats import SAMPLE_BYTES
from proof.devices import ROWS
from proof.engine import Engine
from proof.faults import SlowDisk, stopped
from proof.native import library

__all__ = ["Case", "Report", "Watch", "check", "main"]

N_SYSCALLS = 512
COUNTERS = (
    *("callbacks", "allocations", "frees", "locks", "eventfd_writes"),
    *("minor_faults", "major_faults", "migrations"),
)
OFFENCES = ("allocations", "frees", "locks", "syscalls", "page_faults", "migrations")
GETPPID = 110
SET_BYTES = 8 * (len(COUNTERS) + N_SYSCALLS)
N_STARTS = 5
N_FRAMES = 12_000
CASES = (
    *((2, "planar", "f32"), (64, "planar", "f32"), (8, "planar", "s32")),
    *((2, "interleaved", "s16"), (64, "interleaved", "f32")),
)
MIDI_CHUNK_FRAMES = 240_000
COMMANDS = [commands for row in ROWS for commands in (row.commands, row.then) if commands]
QUANTA = (64, 1024, 256)


@dataclass(frozen=True)
class Watch:
    """What one set of rtwatch's counters holds; `syscalls` by number, only those that were made."""

    counters: dict[str, int]
    syscalls: dict[int, int]

    def offence(self, kind: str) -> int:
        """How often that happened (one of OFFENCES)."""
        match kind:
            case "syscalls":
                return sum(self.syscalls.values())
            case "page_faults":
                return self.counters["minor_faults"] + self.counters["major_faults"]
            case _:
                return self.counters[kind]


@dataclass(frozen=True)
class Case:
    """One capture: what was seen in its callbacks, and what chaosd says of it."""

    name: str
    seen: Watch
    control: Watch
    dispatch_errno: int
    n_chunks: int
    n_gaps: int
    lost_frames: int
    n_begun: int
    causes: list[str] = field(default_factory=list)
    faults_at: list[str] = field(default_factory=list)

    @property
    def allowed_writes(self) -> int:
        return self.n_chunks + self.n_gaps + self.n_begun

    @property
    def blind(self) -> list[str]:
        """Detectors that missed the offence they were shown."""
        return [kind for kind in OFFENCES if not self.control.offence(kind)]

    @property
    def ok(self) -> bool:
        clean = not any(self.seen.offence(kind) for kind in OFFENCES if kind != "migrations")
        quiet = self.seen.counters["eventfd_writes"] <= self.allowed_writes
        return clean and quiet and not self.blind and self.seen.counters["callbacks"] > 0

    def findings(self) -> dict[str, object]:
        return {
            "case": self.name,
            "callbacks": self.seen.counters["callbacks"],
            **{kind: self.seen.offence(kind) for kind in OFFENCES},
            "by_syscall": self.seen.syscalls,
            "eventfd_writes": self.seen.counters["eventfd_writes"],
            "allowed_writes": self.allowed_writes,
            "chunks": self.n_chunks,
            "gaps": self.causes,
            "faults_at": self.faults_at,
            "blind": self.blind,
            "ok": self.ok,
        }


Report = list[Case]


class _Source(Protocol):
    """A device that is held until it begins."""

    @property
    def name(self) -> str: ...
    def begin(self) -> None: ...
    def stop(self) -> None: ...


def check(session: Session, folder: Path, channels: int, layout: str, sample_format: str) -> Case:
    """One capture of audio under watch. Raises RigError where the rig itself fails."""

    def device() -> _Source:
        return CountingSource(session, name="watched", channels=channels, driver=True, patience_ms=0, hold=True)

    form = {"type": "audio", "layout": layout, "sample_format": sample_format}
    request = {"format": form, "chunk_size_bytes": SAMPLE_BYTES[sample_format] * channels * 1100}
    return _watched(session, folder, f"{layout} {sample_format} {channels} ch", device, request, N_FRAMES)


def check_midi(session: Session, folder: Path) -> Case:
    """One of events, thousands in every chunk, and more than fit in at times; faster than time, for its chunks are
    long."""
    burst = [Event(frame, 0, MIDI, bytes(1000)) for frame in range(300_000, 1_200_000, 300_000) for _ in range(100)]
    script = [*random_tune(1, 50_000, 4_000_000), *burst]

    def device() -> _Source:
        return MidiSource(
            session, script, name="watched", speed=30, patience_ms=20, hold=True, buffer_bytes=1 << 18
        )

    request = {"format": {"type": "midi"}, "chunk_size_bytes": 1 << 18}
    return _watched(session, folder, "MIDI", device, request, 4 * MIDI_CHUNK_FRAMES)


def check_device(session: Session, folder: Path, layout: str) -> Case:
    """One of a device that breaks every rule of `proof.devices`, in a graph whose quantum changes."""

    def device() -> _Source:
        return FaultyDriver(session, name="watched", patience_ms=50, hold=True)

    request = {"format": {"type": "audio", "layout": layout}, "chunk_size_bytes": 8 * 1100}
    return _watched(session, folder, f"{layout} f32 2 ch, faulty", device, request, N_FRAMES)


def _watched(
    session: Session, folder: Path, name: str, make: Callable[[], _Source], request: dict[str, Any], n_frames: int
) -> Case:
    """A capture of at least that many frames before and behind a loss of the device."""
    disk = SlowDisk(folder)
    counted = folder / "rtwatch"
    preloads = f"{library('rtwatch', pipewire=True)}:{disk.variables['LD_PRELOAD']}"
    variables = {**disk.variables, "LD_PRELOAD": preloads, "RTWATCH": str(counted)}
    uri = "stream://rtcheck/1"
    session.force_quantum(256)
    with Engine(session, folder, variables=variables) as engine, ExitStack() as stack:

        def device() -> _Source:
            source = make()
            stack.callback(source.stop)
            return source

        def begin(source: _Source, frames: int) -> None:
            if isinstance(source, CountingSource):
                source.wait_for("streaming")
            source.begin()
            if isinstance(source, MidiSource):
                source.play()
            engine.await_status(uri, lambda status: status["head_frame"] >= frames)

        source = device()
        engine.call("device_wait", name=source.name, timeout_s=50)
        engine.call(
            "stream_start",
            uri=uri,
            device_identity=source.name,
            staging_seconds=0.2,
            wait=True,
            **request,
        )
        begin(source, n_frames)
        if isinstance(source, FaultyDriver):
            for commands in COMMANDS:
                head = engine.call("stream_status", uri=uri)["head_frame"]
                source.do(*commands)
                engine.await_status(uri, lambda status, head=head: status["head_frame"] > head + 2048)
            for quantum in QUANTA:
                session.force_quantum(quantum)
                engine.await_status(uri, lambda status, quantum=quantum: status["quantum"] == quantum)
        n_starts = 1 if isinstance(source, FaultyDriver) else N_STARTS
        others = [_begin_beside(engine, source, request, number) for number in range(n_starts)]
        with stopped(engine.pid):
            time.sleep(0.5)  # the fault lasts: some cycles are missed
        disk.set(0.6)
        status = engine.await_status(uri, lambda status: status["overruns"] > 0)
        disk.set(0)
        engine.await_status(uri, lambda now: now["n_chunks_sealed"] > status["n_chunks_sealed"] + 10)
        source.stop()
        engine.await_state(uri, "waiting")
        source = device()
        begin(source, int(engine.call("stream_status", uri=uri)["head_frame"]) + n_frames)
        stopped_as = engine.call("stream_stop", uri=uri)
        events = engine.call("events_since", seq=0, limit=10_000)["events"]
    session.force_quantum(0)
    seen, control, dispatch_errno = _read(counted)
    return Case(
        name=name,
        seen=seen,
        control=control,
        dispatch_errno=dispatch_errno,
        n_chunks=sum(each["n_chunks"] for each in (stopped_as, *others)),
        n_gaps=sum(each["n_gaps"] for each in (stopped_as, *others)),
        n_begun=1 + len(others),
        lost_frames=stopped_as["lost_frames"],
        causes=sorted({e["cause"] for e in events if e["type"] == "stream_gap" and e["n_frames"]}),
        faults_at=places.read_text().splitlines() if (places := Path(f"{counted}.faults")).exists() else [],
    )


def _begin_beside(engine: Engine, source: _Source, request: dict[str, Any], number: int) -> dict[str, Any]:
    """Another stream of the running device, with many slots, from its start over some chunks; how it ended."""
    uri = f"stream://rtcheck/beside-{number}"
    engine.call(
        "stream_start",
        uri=uri,
        device_identity=source.name,
        format=request["format"],
        chunk_size_bytes=4 * request["chunk_size_bytes"],
        staging_seconds=10,
    )
    engine.await_status(uri, lambda status: status["head_frame"] >= 12000)
    return engine.call("stream_stop", uri=uri)


def _read(path: Path) -> tuple[Watch, Watch, int]:
    raw = path.read_bytes()
    sets = []
    for begin in (0, SET_BYTES):
        values = struct.unpack_from(f"<{len(COUNTERS) + N_SYSCALLS}Q", raw, begin)
        calls = values[len(COUNTERS) :]
        sets.append(
            Watch(
                dict(zip(COUNTERS, values, strict=False)),
                {number: times for number, times in enumerate(calls) if times},
            )
        )
    return sets[0], sets[1], struct.unpack_from("<Q", raw, 2 * SET_BYTES)[0]


def _table(report: Report) -> str:
    head = ("case", "callbacks", *OFFENCES, "eventfd_writes", "allowed_writes", "chunks")
    rows = [[str(case.findings()[name]) for name in head] for case in report]
    shown = [[name.replace("_", " ") for name in head], *rows]
    widths = [max(len(row[k]) for row in shown) for k in range(len(head))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in shown)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools/rtcheck", description="Watches chaosd's process callback.")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    if platform.machine() != "x86_64":
        sys.exit("rtcheck: needs an x86-64 kernel with Syscall User Dispatch (5.11 or newer)")
    report = []
    with Session() as session:
        for channels, layout, sample_format in CASES:
            with tempfile.TemporaryDirectory(prefix="rtcheck-") as folder:
                report.append(check(session, Path(folder), channels, layout, sample_format))
        with tempfile.TemporaryDirectory(prefix="rtcheck-") as folder:
            report.append(check_midi(session, Path(folder)))
        for layout in ("planar", "interleaved"):
            with tempfile.TemporaryDirectory(prefix="rtcheck-") as folder:
                report.append(check_device(session, Path(folder), layout))
    ok = all(case.ok for case in report)
    if asked.json:
        print(json.dumps({"ok": ok, "cases": [case.findings() for case in report]}))
        return 0 if ok else 1
    print(_table(report))
    for case in report:
        print(f"{case.name}: gaps seen: {', '.join(case.causes) or 'none'}")
        for number, times in case.seen.syscalls.items():
            print(f"{case.name}: system call {number} made {times} times")
        for kind in case.blind:
            print(f"{case.name}: the detector of {kind} saw nothing of what it was shown")
    print("the callback is clean" if ok else "THE CALLBACK DOES WHAT IT MUST NOT")
    return 0 if ok else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RigError as error:
        sys.exit(f"rtcheck: {error}")
