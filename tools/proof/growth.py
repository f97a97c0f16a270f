"""What a store of years costs beside an empty one: starts, lists, retention, opening, memory, sealing."""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rig import CountingSource, Session

from chaos.store.catalog import CATALOG, Catalog
from chaos.store.recovery import bring_in, recheck
from chaos.store.retention import retire
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.units import Keep
from proof.engine import Engine
from proof.report import machine_line
from proof.years import DAY_URI, LONG_URI, Shape, definition, make_store

__all__ = ["Growth", "Start", "main", "measure"]

REPORT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
MARKS = ("<!-- scale: written by tools/scale -->", "<!-- end of scale -->")
FRAME_LIMIT_S = 20.0
SEALED = 100
_S = 1_000_000_000


@dataclass
class Start:
    """A chaosd on one store; milliseconds, one figure a round; `memory_mb` after it has listed, found and retired."""

    ping: list[float] = field(default_factory=list)
    first_frame: list[float] = field(default_factory=list)
    newest: list[float] = field(default_factory=list)
    find: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)


@dataclass
class Growth:
    """All that one run found. CPU times and times in milliseconds."""

    shape: Shape
    made_s: float
    catalogue_mb: float
    made_again_ms: float
    scan_ms: float
    empty: Start
    full: Start
    pass_idle_cpu: float
    pass_due_cpu: float
    open_day: float
    open_long: float | None
    open_long_mb: float | None
    seal_empty: float
    seal_full: float
    seal_ratio: float
    load: list[float] = field(default_factory=list)


def measure(shape: Shape, rounds: int, folder: Path, say: Callable[[str], None]) -> Growth:
    """Makes the store in `folder` and measures it. Needs PipeWire's programs, as the rig does."""
    load = [os.getloadavg()[0]]
    say(f"making a store of {shape.takes} takes")
    began = time.monotonic()
    root = folder / "full" / "store"
    make_store(root, shape)
    made_s = time.monotonic() - began
    store = Store(root)
    say("the catalogue, made again from the journals")
    with Catalog(store) as catalog:
        made_again_ms, _ = _timed(catalog.totals)
        recheck(catalog)
    with Catalog(store) as catalog:
        scan_ms, _ = _timed(lambda: bring_in(store, folder / "no-slots", catalog))
    say("retention")
    idle_cpu, due_cpu = _retention(store)
    say("opening")
    open_day, _ = _opened(root, DAY_URI)
    open_long, open_long_mb = _opened(root, LONG_URI, 2) if shape.long_chunks else (None, None)
    say("sealing")
    os.sync()  # else the new store's own pages are written back meanwhile
    (seal_empty, seal_full), seal_ratio = _seals([folder / "sealed", root])
    say("starts")
    empty, full = Start(), Start()
    with Session() as session, CountingSource(session, name="timed", driver=True) as source:
        session.force_quantum(1024)
        for number in range(rounds):
            _start(session, source, folder / "empty", number, empty)
            _start(session, source, folder / "full", number, full)
    return Growth(
        shape=shape,
        made_s=made_s,
        catalogue_mb=(root / CATALOG).stat().st_size / 1e6,
        made_again_ms=made_again_ms,
        scan_ms=scan_ms,
        empty=empty,
        full=full,
        pass_idle_cpu=idle_cpu,
        pass_due_cpu=due_cpu,
        open_day=open_day,
        open_long=open_long,
        open_long_mb=open_long_mb,
        seal_empty=seal_empty,
        seal_full=seal_full,
        load=[*load, os.getloadavg()[0]],
        seal_ratio=seal_ratio,
    )


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds, and milliseconds of CPU."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return 1000 * (time.perf_counter() - began), 1000 * (time.process_time() - cpu)


def _retention(store: Store, rounds: int = 5) -> tuple[float, float]:
    """CPU of a pass that finds nothing due, and of one that finds one chunk, in a process that has made some before."""
    idle, due = [], []
    with Catalog(store) as catalog:
        for _ in range(rounds):
            idle.append(_timed(lambda: retire(store, Keep(3650 * 86400.0, None), catalog=catalog))[1])
            oldest_ns = catalog.oldest_ns()
            assert oldest_ns is not None
            age_s = (time.time_ns() - oldest_ns) / _S
            cpu = time.process_time()
            done = retire(store, Keep(age_s - 60, None), catalog=catalog)
            due.append(1000 * (time.process_time() - cpu))
            if [len(each.chunks) for each in done] != [1]:
                raise RuntimeError(f"one chunk was due, and this was retired: {done}")
    return min(idle), min(due)


_OPEN = """
import sys, time
from pathlib import Path
import numpy
import chaos.read.recording as reader
from chaos.store.store import Store
import chaos.store.catalog
def most_kib():  # what getrusage tells begins with the parent's
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
before = most_kib()
began = time.perf_counter()
recording = reader.open(sys.argv[2], Path(sys.argv[1]))
recording.n_frames, recording.gaps
print(1000 * (time.perf_counter() - began), (most_kib() - before) / 1024)
"""


def _opened(root: Path, uri: str, rounds: int = 7) -> tuple[float, float]:
    """Milliseconds and megabytes of an open, in processes of their own: the least of some."""
    found = []
    for _ in range(rounds):
        said = subprocess.run([sys.executable, "-c", _OPEN, root, uri], capture_output=True, text=True, check=True)
        found.append([float(figure) for figure in said.stdout.split()])
    return min(ms for ms, _ in found), min(mb for _, mb in found)


def _seals(roots: Sequence[Path]) -> tuple[list[float], float]:
    """The median of sealing a chunk in each of two stores, synced, and the median of the second's time by the first's,
    of seals one right after the other. What the disk is busy with else changes from second to second, and who comes
    second waits for what the first has begun: they take turns at that, and only neighbours are compared. Both have
    all 256 folders of objects: each is made once in a store's life, and would be counted as the empty one's."""
    writers = []
    for root in roots:
        for number in range(256):
            (root / "objects" / f"{number:02x}").mkdir(parents=True, exist_ok=True)
    for root in roots:
        what = definition(f"stream://sealed/{time.time_ns()}", time.time_ns(), 10)
        writers.append(RecordingWriter.create(Store(root), what))
    size = what.form.chunk_bytes
    found: list[list[float]] = [[] for _ in roots]
    for chunk in range(SEALED):
        turn = list(zip(writers, found, strict=True))
        for writer, took in turn if chunk % 2 else reversed(turn):
            data = memoryview(bytearray(chunk.to_bytes(4, "little").ljust(size, b"\2")))
            began = time.perf_counter()
            writer.seal(chunk, data, chunk * what.chunk_frames, what.chunk_frames)
            took.append(1000 * (time.perf_counter() - began))
    for writer in writers:
        writer.finish(SEALED * what.chunk_frames, clean=True)
    late = [took[SEALED // 5 :] for took in found]
    one, other = late
    return [statistics.median(took) for took in late], statistics.median(
        later / first for first, later in zip(one, other, strict=True)
    )


def _start(session: Session, source: CountingSource, folder: Path, number: int, found: Start) -> None:
    folder.mkdir(exist_ok=True)
    uri = f"stream://started/{time.time_ns()}"
    began = time.monotonic()
    with Engine(session, folder) as engine:
        found.ping.append(1000 * engine.started_s)
        engine.call("device_wait", name=source.name, timeout_s=50)
        engine.call("stream_start", uri=uri, device_identity=source.name, format={"type": "audio"}, staging_seconds=5)
        engine.await_status(uri, lambda status: status["head_frame"] > 0, timeout_s=FRAME_LIMIT_S)
        found.first_frame.append(1000 * (time.monotonic() - began))
        engine.call("stream_stop", uri=uri)
        yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
        moment = yesterday.replace(hour=14, minute=3, second=0)
        span = {"since": moment.isoformat(), "until": (moment + dt.timedelta(minutes=1)).isoformat()}
        engine.call("retire", keep="3650d")
        for _ in range(3):
            took, _ = _timed(lambda: engine.call("recording_list", limit=50))
            found.newest.append(took)
            took, _ = _timed(lambda: engine.call("recording_list", **span))
            found.find.append(took)
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{engine.pid}/status").read_text().splitlines())
        found.memory_mb.append(sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssFile")) / 1024)


def rows(found: Growth) -> list[tuple[str, str, str, bool]]:
    """What was measured: what, the aim, the figure, whether it was met."""
    told: list[tuple[str, str, str, bool]] = []

    def beside(what: str, empty: list[float], full: list[float]) -> None:
        one, other = min(empty), min(full)
        ratio = other / one
        told.append((what, "no slower: ≤ 1.1", f"{ratio:.2f} ({one:.0f} → {other:.0f} ms)", ratio <= 1.1))

    def at_most(what: str, limit: float, value: float, unit: str) -> None:
        told.append((what, f"≤ {limit:g} {unit}", f"{value:.1f} {unit}", value <= limit))

    beside("chaosd start → ping", found.empty.ping, found.full.ping)
    beside("chaosd start → first frame of a start", found.empty.first_frame, found.full.first_frame)
    at_most("list the newest 50", 50, min(found.full.newest), "ms")
    at_most("find 14:03 yesterday", 50, min(found.full.find), "ms")
    at_most("a retention pass with nothing to do", 5, found.pass_idle_cpu, "ms of CPU")
    at_most("a retention pass with one chunk due", 20, found.pass_due_cpu, "ms of CPU")
    at_most("`chaos.open` of a day", 50, found.open_day, "ms")
    more = statistics.median(found.full.memory_mb) - statistics.median(found.empty.memory_mb)
    at_most("memory of the daemon, beyond an empty store's", 5, more, "MB")
    told.append(
        (
            "seal of a chunk",
            "as at the first: ≤ 1.1",
            f"{found.seal_ratio:.2f} ({found.seal_empty:.2f} → {found.seal_full:.2f} ms)",
            found.seal_ratio <= 1.1,
        )
    )
    return told


def table(found: Growth) -> str:
    """The section of the report."""
    lines = ["| what | aim | measured | met |", "| --- | --- | --- | --- |"]
    lines += [f"| {what} | {aim} | {figure} | {'yes' if met else '**no**'} |" for what, aim, figure, met in rows(found)]
    also = [
        f"The catalogue takes {found.catalogue_mb:.1f} MB, and {found.made_again_ms / 1000:.1f} s to be made again "
        f"from the journals; the start-up scan takes {found.scan_ms:.1f} ms."
    ]
    if found.open_long is not None and found.open_long_mb is not None:
        also.append(
            f"A single take of {found.shape.long_chunks:,} chunks, which no stream makes unless it was told never to "
            f"roll, opens in {found.open_long / 1000:.1f} s with {found.open_long_mb:.0f} MB."
        )
    load = " ".join(f"{each:.1f}" for each in found.load)
    machine = (
        f"{machine_line()}; load averages before and after: {load}. Each time is the least of some rounds, empty and "
        "full store in turns: what else the machine does can only add to it. Ratios of seals are of medians."
    )
    made = (
        f"A store of {found.shape.takes:,} hourly takes with {found.shape.chunks} chunks each and a take of a day with "
        f"8,640 chunks, made by the project's own writer in {found.made_s:.0f} s, beside an empty one. "
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, by `tools/scale`."
    )
    return "\n\n".join(["## A store of years", made, machine, "\n".join(lines), " ".join(also)])


def write_section(text: str, page: Path) -> None:
    """Puts the section between its marks at the end of the page; `tools/bench` leaves it there."""
    found = page.read_text()
    begin, end = (found.find(mark) for mark in MARKS)
    body = f"{MARKS[0]}\n{text}\n{MARKS[1]}\n"
    page.write_text(found[:begin] + body if begin >= 0 and end > begin else f"{found.rstrip()}\n\n{body}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scale", description="What a store of years costs beside an empty one.")
    parser.add_argument("--takes", type=int, default=10_000)
    parser.add_argument("--chunks", type=int, default=6, help="chunks of each take")
    parser.add_argument("--long", type=int, default=1_000_000, help="chunks of one long take's journal; 0: none")
    parser.add_argument("--quick", action="store_true", help="1,000 takes, no long one, one round; no report")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep-store", metavar="FOLDER", type=Path, help="make the store here and leave it")
    parser.add_argument("--no-report", action="store_true", help="leave docs/benchmarks.md as it is")
    given = parser.parse_args()
    shape = Shape(1000, given.chunks) if given.quick else Shape(given.takes, given.chunks, long_chunks=given.long)
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"scale: {time.monotonic() - began:4.0f} s: {what}", file=sys.stderr, flush=True)

    with ExitStack() as stack:
        folder = given.keep_store or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-")))
        found = measure(shape, 1 if given.quick else 8, folder, say)
    if not (given.quick or given.no_report):
        write_section(table(found), REPORT)
    print(json.dumps(dataclasses.asdict(found), indent=2) if given.json else table(found))
    sys.exit(0 if all(met for *_, met in rows(found)) else 1)


if __name__ == "__main__":
    main()
