"""What an index over many recorders costs: a day of all of them, the day after, and a day after a year.

The takes are entries and documents as an uploader puts them, made from one that was recorded and uploaded here; their
chunks are not there. The index refers to chunks and does not look at them, so its cost is the same. The bucket is a
folder.
"""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec

from chaos.recorders.index import LOOK_BACK_DAYS, IndexReport, index
from chaos.remote.bucket import Bucket
from chaos.remote.layout import TAKES, TakeEntry, entry_key, take_key
from chaos.upload.uploader import Uploader
from proof.fleet import BEGUN_NS, RATE, Recorder, Shape
from proof.report import machine_line

__all__ = ["MARKS", "Costs", "measure_index", "table"]

MARKS = ("<!-- index: written by tools/fleet --index -->", "<!-- end of index -->")
_DAY_NS = 86_400 * 1_000_000_000
_CHUNK_S = 10
_OPEN = """
import sys, time
import chaos
takes = chaos.fleet(sys.argv[1]).takes(sys.argv[2], sys.argv[3])
with open("/proc/self/status") as file:  # a process's resource usage begins with that of who started it
    mb = next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
print(len(takes), mb, time.process_time())
"""
_SELECT = _OPEN.replace(".takes(", ".select(").replace("len(takes)", "len(takes.leaves)")


@dataclass
class OneDay:
    """What it took to take in a day; `cpu_s` are those of the job."""

    seconds: float
    cpu_s: float
    requests: int
    written: int
    references: int


@dataclass
class Costs:
    """`first` is the first day of many recorders, `year` has those of a few, one by one. `opened` is the table, and
    `selected` an hour of all of it, lazily."""

    recorders: int
    first: OneDay
    opened: Opened
    selected: Opened
    few: int
    year: list[OneDay]


@dataclass
class Opened:
    """The least seconds of some processes, from their start to their end, the CPU seconds of that one, and the most
    MiB of all; the machine's load meanwhile."""

    seconds: float
    cpu_s: float
    mb: float
    load: float


class _Template:
    """A take that was uploaded, to be put again under other names."""

    def __init__(self, folder: Path) -> None:
        recorder = Recorder(folder, 0, Shape(1))
        recorder.begin(0)
        recorder.step()
        recorder.end()
        url = f"file://{folder}/template"
        Uploader(recorder.store, url, recorder.name, lambda _: None).run(until_done=True)
        bucket = Bucket(f"{url}/{recorder.name}")
        (key,) = (key for key, _ in bucket.objects(TAKES))
        self._entry = msgspec.json.decode(bucket.get(key), type=TakeEntry)
        self._group = msgspec.json.decode(bucket.get(f"{self._entry.key}/zarr.json"))
        self._tables = {name: bucket.find(f"{self._entry.key}/{name}/c/0/0") for name in ("gaps", "clock")}

    def put(self, bucket: Bucket, host: str, day: int, n_chunks: int) -> None:
        """A take of that many chunks."""
        began_ns, size = BEGUN_NS + day * _DAY_NS, _CHUNK_S * RATE
        key, n_frames = take_key("logger", "main", began_ns), n_chunks * size
        entry = msgspec.structs.replace(
            self._entry, uri="stream://logger/main", recorder=host, key=key, started_wall_ns=began_ns,
            n_frames=n_frames, ended_wall_ns=began_ns + n_chunks * _CHUNK_S * 1_000_000_000, n_chunks=n_chunks,
            chunk_frames=size,
        )  # fmt: skip
        group = msgspec.json.decode(msgspec.json.encode(self._group))
        audio = group["consolidated_metadata"]["metadata"]["audio"]
        audio["shape"][1], audio["chunk_grid"]["configuration"]["chunk_shape"][1] = n_frames, size
        for name, data in self._tables.items():
            if data is not None:
                bucket.put(f"{host}/{key}/{name}/c/0/0", data)
        bucket.put(f"{host}/{key}/zarr.json", msgspec.json.encode(group))
        bucket.put(f"{host}/{entry_key('logger', 'main', began_ns)}", msgspec.json.encode(entry))


def measure_index(recorders: int, folder: Path, say: Callable[[str], None]) -> Costs:
    """All below `folder`: a day of so many recorders, then a year and a month of three."""
    template = _Template(folder)
    many = folder / "many"
    first = _day(template, many, recorders, 0, 8640)
    say(f"a day of {recorders} recorders: {first.seconds:.0f} s")
    begin = dt.datetime.fromtimestamp(BEGUN_NS // 1_000_000_000, dt.UTC)
    opened = _opened(_OPEN, many, begin, begin + dt.timedelta(hours=23), recorders)
    selected = _opened(_SELECT, many, begin, begin + dt.timedelta(minutes=5), recorders)
    costs = Costs(recorders, first, opened, selected, 3, [])
    for day in range(365 + LOOK_BACK_DAYS):
        costs.year.append(_day(template, folder / "year", costs.few, day, 360))
    return costs


def _opened(program: str, bucket: Path, begin: dt.datetime, end: dt.datetime, recorders: int) -> Opened:
    """In a process of its own each, once before it counts: as pip leaves them, or a first use, modules are compiled."""
    command = [sys.executable, "-c", program, f"file://{bucket}", begin.isoformat(), end.isoformat()]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(bucket.parent / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    found = []
    for _ in range(4):
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        seconds = time.monotonic() - began
        n, mb, cpu_s = map(float, done.stdout.split())
        if n != recorders:
            raise RuntimeError(f"the index has {n:.0f} takes of {recorders}")
        found.append((seconds, cpu_s, mb))
    seconds, cpu_s, _ = min(found[1:])
    return Opened(seconds, cpu_s, max(mb for *_, mb in found[1:]), os.getloadavg()[0])


def _day(template: _Template, folder: Path, recorders: int, day: int, n_chunks: int) -> OneDay:
    bucket = Bucket(f"file://{folder}")
    for number in range(recorders):
        template.put(bucket, f"rig{number:04d}", day, n_chunks)
        bucket.put(f"rig{number:04d}/recorder.json", b"{}")
    before, began, began_cpu = _sizes(folder), time.monotonic(), time.process_time()
    report: IndexReport = index(bucket.url)
    seconds, cpu_s = time.monotonic() - began, time.process_time() - began_cpu
    if report.n_new != recorders:
        raise RuntimeError(f"{report.n_new} takes were new, not {recorders}")
    changed = [size for path, size in _sizes(folder).items() if before.get(path) != size]
    return OneDay(seconds, cpu_s, sum(report.requests.values()), sum(size for size, _ in changed), report.n_references)


def _sizes(folder: Path) -> dict[Path, tuple[int, int]]:
    found = ((path, path.stat()) for path in (folder / ".fleet").rglob("*") if path.is_file())
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in found}


def _told(opened: Opened) -> str:
    return f"{opened.seconds:.1f} s ({opened.cpu_s:.1f} s of CPU, at a load of {opened.load:.1f}), {opened.mb:.0f} MiB"


def table(costs: Costs) -> str:
    """The section of the page."""
    first = costs.first
    early, late = costs.year[LOOK_BACK_DAYS + 1 : LOOK_BACK_DAYS + 31], costs.year[-30:]

    def ratio(what: Callable[[OneDay], float]) -> float:
        return median(map(what, late)) / median(map(what, early))

    rows = [
        (f"the first day of {costs.recorders:,} recorders is taken in", "",
         f"{first.seconds:.0f} s ({first.cpu_s:.0f} s of CPU), {first.references:,} references,"
         f" {first.written / 1e6:.1f} MB written"),
        (f"a process that opens the table of {costs.recorders:,} recorders' day, from its start to its end",
         "3 s, 300 MB", _told(costs.opened)),
        (f"the same with five minutes of all {costs.recorders:,} as lazy arrays", "", _told(costs.selected)),
        ("a day after a year, of one in the second month: bytes written", "as at the first",
         f"{ratio(lambda day: day.written):.2f}"),
        ("... requests", "as at the first", f"{ratio(lambda day: day.requests):.2f}"),
        ("... CPU seconds", "as at the first", f"{ratio(lambda day: day.cpu_s):.2f}"),
    ]  # fmt: skip
    lines = ["| what | aim | measured |", "| --- | --- | --- |", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]
    made = (
        f"Takes of a day with 8,640 chunks; the year is of {costs.few} recorders with takes of 360, medians of 30 days."
        f" In a folder, {dt.datetime.now(dt.UTC):%Y-%m-%d}, by `tools/fleet --index {costs.recorders}`, on"
        f" {machine_line()}."
    )
    return "\n\n".join([made, "\n".join(lines)])
