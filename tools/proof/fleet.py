"""A fleet of simulated recorders on an object store that fails: what arrives, what it costs, what is found again.

Each recorder is a store of its own, written by the project's own writer (a take a day, synthetic samples, gaps, a clock
with an error of its own) and uploaded by the project's own uploader in a process of its own, which is killed from time
to time. Between them and a local S3 is a proxy (`proof.faultystore`) that drops, delays, refuses, doubles and swallows,
and is away for a while. Time is simulated: a step is ten minutes of recording and one round of upload. Afterwards every
object is compared with what the recorder has, and every gap and clock looked for from the far side.

Samples are few (100 a second, mono, 16 bit), so bytes say nothing, and what they would be is worked out and marked as
such. Beyond a hundred recorders a day is thinner as well (`Shape.of`): one machine of two cores can't put two million
objects in half an hour.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import chaos
from chaos.read.remote import takes_in, verify_remote
from chaos.recorders.index import index
from chaos.remote.bucket import Bucket
from chaos.store.lines import Definition
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.ledger import Cause, ClockAnchor, ClockState, Confidence, Gap
from chaos.upload.uploader import METADATA_S
from proof.faultystore import FaultyStore
from proof.report import machine_line
from proof.s3 import local_s3

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "BEGUN_NS", "MANY_MARKS", "MARKS", "OUTAGE_MARKS", "RATE", "REPORT", "Found", "Recorder", "Shape", "Uploading",
    "main", "measure", "table",
]  # fmt: skip

RATE = 100
CHUNK_S = 60
STEP_S = 600
DAY_S = 86_400
_NS = 1_000_000_000
BEGUN_NS = 1_700_000_000 * _NS // (DAY_S * _NS) * DAY_S * _NS
_VERIFIED = 25  # at most so many recorders' recordings are verified as well; of a few, every fourth
_MANY = 100
_CAUSES = (Cause.MISSED, Cause.OVERRUN, Cause.DEVICE_AWAY)
PUT_USD, GET_USD, GB_MONTH_USD = 0.005 / 1000, 0.0004 / 1000, 0.021
MARKS = ("<!-- simulation: written by tools/fleet -->", "<!-- end of simulation -->")
OUTAGE_MARKS = ("<!-- outage: written by tools/fleet -->", "<!-- end of outage -->")
MANY_MARKS = ("<!-- many: written by tools/fleet -->", "<!-- end of many -->")
REPORT = Path(__file__).parents[2] / "docs" / "fleet.md"


@dataclass(frozen=True)
class Shape:
    """How much is simulated: `hours` of each day are recorded. `fault_rate` is the chance that a request fails,
    `kill_rate` that an uploader is killed in a step; for each recorder the store is away for `away` of its steps."""

    recorders: int
    days: int = 1
    hours: float = 24.0
    fault_rate: float = 0.02
    kill_rate: float = 0.01
    away: float = 0.25
    seed: int = 1
    workers: int = 4
    rate: int = RATE
    chunk_s: int = CHUNK_S
    step_s: int = STEP_S

    @classmethod
    def of(cls, recorders: int, days: int, hours: float, fault_rate: float, seed: int) -> Shape:
        """Of more than a hundred recorders with fewer and smaller objects each: chunks of an hour, metadata each four
        hours, 2 samples a second."""
        thin = {"rate": 2, "chunk_s": 3600, "step_s": 4 * 3600} if recorders > _MANY else {}
        return cls(recorders, days, hours, fault_rate, seed=seed, **thin)

    @property
    def is_thin(self) -> bool:
        return self.chunk_s > CHUNK_S

    @property
    def verify_each(self) -> int:
        """Every how manieth recorder's recordings are verified by their hashes as well."""
        return max(4, -(-self.recorders // _VERIFIED))

    @property
    def recorder_days(self) -> float:
        return self.recorders * self.days * self.hours / 24


@dataclass
class Found:
    """What one run found. Objects are those that must be there: chunks, tables, documents."""

    shape: Shape
    seconds: float
    load: float
    expected: int = 0
    there: int = 0
    wrong: int = 0
    missing: int = 0
    verified: int = 0
    unverified: int = 0
    gaps: int = 0
    gaps_found: int = 0
    clocks_outside: int = 0
    n_kills: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    injected: dict[str, int] = field(default_factory=dict)
    put_bytes: int = 0
    memory_mb: float = 0.0
    alignment_s: float = 0.0
    alignment_told_s: float | None = None

    @property
    def is_whole(self) -> bool:
        told = self.alignment_told_s
        return (
            (self.wrong, self.missing, self.unverified, self.clocks_outside) == (0, 0, 0, 0)
            and self.there == self.expected
            and self.gaps_found == self.gaps
            and told is not None
            and self.alignment_s <= told
        )


class Recorder:
    """One recorder: `step` records a step of its day; `gaps` are all it has lost."""

    def __init__(self, root: Path, number: int, shape: Shape) -> None:
        self.name = f"rig{number:04d}"
        self.store = Store(root / self.name)
        self._random = random.Random(shape.seed * 10_007 + number)
        self.error_ns = round(self._random.uniform(-0.5, 0.5) * _NS)
        self._told_ns = abs(self.error_ns) + self._random.randrange(50_000_000)
        self._shape = shape
        self._day = -1
        self._writer: RecordingWriter | None = None
        self._frame = 0
        self.gaps: list[tuple[int, int, int, int]] = []  # day, first frame, length, cause

    def begin(self, day: int) -> None:
        self._day, self._frame = day, 0
        started_ns = BEGUN_NS + day * DAY_S * _NS + self.error_ns
        self._writer = RecordingWriter.create(
            self.store,
            Definition(
                uri=f"stream://logger/day{day}", channels=1, sample_rate=self._shape.rate, sample_format="s16",
                chunk_frames=self._shape.chunk_s * self._shape.rate,
                device={"identity": f"serial:{self.name}", "description": "simulated"},
                positions=["MONO"], started_wall_ns=started_ns, started_monotonic_ns=0, software="chaosd simulation",
                run_id=self.name, boot_id=self.name, clock_errors=True, overview=False,
            ),
        )  # fmt: skip

    def step(self) -> None:
        """Chunk by chunk, with an anchor a minute; about one in twenty begins or ends in a gap, or lies in one."""
        assert self._writer is not None
        shape = self._shape
        size = shape.chunk_s * shape.rate
        for _ in range(shape.step_s // shape.chunk_s):
            for frame in range(self._frame, self._frame + size, min(size, CHUNK_S * shape.rate)):
                at = frame * _NS // shape.rate
                self._writer.anchor(
                    ClockAnchor(frame, frame, at, BEGUN_NS + self._day * DAY_S * _NS + self.error_ns + at, 1,
                                self._told_ns, abs(self.error_ns), ClockState.SYNCHRONIZED)
                )  # fmt: skip
            first, length = self._gap(size)
            if length:
                cause = self._random.choice(_CAUSES)
                self._writer.gap(Gap(self._frame + first, length, cause, Confidence.EXACT))
                self.gaps.append((self._day, self._frame + first, length, int(cause)))
            if length < size:
                samples = np.random.default_rng((self._frame, self._day)).integers(-99, 99, (1, size)).astype("<i2")
                samples[:, first : first + length] = 0
                self._writer.seal(self._frame // size, samples.data, self._frame, size)
            self._frame += size
        self._writer.flush()

    def _gap(self, size: int) -> tuple[int, int]:
        if self._random.random() >= 0.05:
            return 0, 0
        if self._random.random() < 0.2:
            return 0, size
        first = self._random.randrange(size)
        return first, self._random.randrange(1, size - first + 1)

    @property
    def n_frames(self) -> int:
        """Of the day that is recorded, or was recorded last."""
        return self._frame

    def end(self) -> None:
        assert self._writer is not None
        self._writer.finish(self._frame, True)

    def expected(self, day: int) -> dict[str, bytes | None]:
        """What must be in a take's folder over there; None: another file than here, since it tells of the upload."""
        here = self.store.path(f"stream://logger/day{day}")
        names = [path.relative_to(here).as_posix() for path in here.rglob("[!.]*") if path.is_file()]
        return {name: None if name in ("journal.jsonl", "zarr.json") else (here / name).read_bytes() for name in names}


class Uploading:
    """A recorder's uploader, begun anew whenever it was killed."""

    def __init__(self, recorder: Recorder, url: str, endpoint: str) -> None:
        self._command = [sys.executable, "-m", "proof.fleetworker", str(recorder.store.root), url, recorder.name]
        tools = str(Path(__file__).parents[1])
        self._environment = {**os.environ, "AWS_ENDPOINT_URL": endpoint, "PYTHONPATH": tools}
        self._process: subprocess.Popen[str] | None = None
        self.n_kills = self.memory_kb = 0

    def round(self, kill_after_s: float | None) -> bool:
        """Whether all that is sealed has arrived."""
        process = self._process or self._begin()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            process.kill()
            process.communicate()
            self._process = None
            self.n_kills += 1
            return False
        return process.stdout.readline() == "done\n"

    def _begin(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                         env=self._environment)  # fmt: skip
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("an uploader did not start")
        return self._process

    def close(self) -> None:
        if self._process is not None:
            told, _ = self._process.communicate()
            self.memory_kb = max(self.memory_kb, int(told.split()[-1]) if told.split() else 0)
            self._process = None


def _live(recorder: Recorder, shape: Shape, url: str, store: FaultyStore) -> Uploading:
    """All days of a recorder. It records whether or not the store is there; the uploader follows."""
    uploading, chance = Uploading(recorder, url, store.endpoint), random.Random(f"{shape.seed} {recorder.name}")
    n_steps = max(1, round(shape.hours * 3600 / shape.step_s))
    n_away = round(shape.days * n_steps * shape.away)
    away_from = chance.randrange(max(1, shape.days * n_steps - n_away))
    try:
        for day in range(shape.days):
            recorder.begin(day)
            for number in range(day * n_steps, (day + 1) * n_steps):
                is_away = away_from <= number < away_from + n_away
                store.set_away(recorder.name, is_away=is_away)
                recorder.step()
                killed = chance.random() < shape.kill_rate and not is_away
                uploading.round(chance.uniform(0, 0.1) if killed else None)
            recorder.end()
        store.set_away(recorder.name, is_away=False)
        for _ in range(100):
            if uploading.round(None):
                return uploading
        raise RuntimeError(f"{recorder.name} has not arrived in 100 rounds")
    finally:
        uploading.close()


def measure(
    shape: Shape, folder: Path, say: Callable[[str], None], meddle: Callable[[Bucket], None] | None = None
) -> Found:
    """Runs it all below `folder`; `meddle` may do to what has arrived what ought to be found."""
    began, load = time.monotonic(), os.getloadavg()[0]
    recorders = [Recorder(folder, number, shape) for number in range(shape.recorders)]
    with ExitStack() as stack:
        bucket_url = stack.enter_context(local_s3())
        url = f"{bucket_url}/fleet"
        store = FaultyStore(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]), shape.fault_rate, shape.seed)
        stack.callback(store.close)
        with ThreadPoolExecutor(shape.workers, "recorder") as pool:
            uploads = list(pool.map(lambda each: _live(each, shape, url, store), recorders))
        found = Found(shape, time.monotonic() - began, load, n_kills=sum(each.n_kills for each in uploads))
        found.requests, found.injected = dict(store.requests), dict(store.injected)
        found.put_bytes = store.n_bytes
        found.memory_mb = max(each.memory_kb for each in uploads) / 1024
        say(f"uploaded in {found.seconds:.0f} s; looking at what is there")
        if meddle is not None:
            meddle(Bucket(url))
        _compare(found, recorders, url)
        _find(found, recorders, url)
    found.seconds = time.monotonic() - began
    return found


def _compare(found: Found, recorders: list[Recorder], url: str) -> None:
    """Every object with the recorder's own file; and of some recorders every recording by its hashes."""
    bucket, verified = Bucket(url), {recorder.name for recorder in recorders[:: found.shape.verify_each]}
    for recorder in recorders:
        of_it = {entry.uri: where for where, entry in takes_in(f"{url}/{recorder.name}").takes}
        for day in range(found.shape.days):
            expected = recorder.expected(day)
            where = of_it.get(f"stream://logger/day{day}")
            found.expected += len(expected)
            if where is None:
                found.missing += len(expected)
                continue
            folder = where.removeprefix(url).strip("/")
            with ThreadPoolExecutor(found.shape.workers, "look") as pool:
                there = list(pool.map(bucket.find, (f"{folder}/{name}" for name in expected)))
            found.there += sum(each is not None for each in there)
            found.missing += sum(each is None for each in there)
            pairs = zip(there, expected.values(), strict=True)
            found.wrong += sum(each is not None and data is not None and each != data for each, data in pairs)
            if recorder.name in verified:
                report = verify_remote(where)
                found.verified += 1
                found.unverified += not (report.ok and report.proof == "hashes")


def _find(found: Found, recorders: list[Recorder], url: str) -> None:
    """Gaps and clocks by `chaos.fleet` alone."""
    index(url)
    fleet = chaos.fleet(url)
    found.gaps = sum(len(recorder.gaps) for recorder in recorders)
    for day in range(found.shape.days):
        begin = dt.datetime.fromtimestamp(BEGUN_NS // _NS + day * DAY_S, dt.UTC)
        tree = fleet.select(begin - dt.timedelta(seconds=1), begin + dt.timedelta(seconds=DAY_S + 1))
        told = tree.attrs["worst_alignment_error_s"]
        found.alignment_told_s = told if told is None else max(told, found.alignment_told_s or 0.0)
        nodes = {(node.attrs["host"], node.attrs["uri"]): node for node in tree.leaves}
        for recorder in recorders:
            node = nodes.get((recorder.name, f"stream://logger/day{day}"))
            if node is None:
                found.missing += 1
                continue
            data = node.to_dataset()
            causes, samples = data["gap"].values, data["audio"].values
            left = causes.copy()
            for of_day, first, length, cause in recorder.gaps:
                if of_day == day and (causes[first : first + length] == cause).all():
                    found.gaps_found += 1
                    left[first : first + length] = 0
            found.wrong += bool(left.any()) + bool(samples[:, causes != 0].any()) + (len(causes) != recorder.n_frames)
            times, bounds = (data[name].values.astype("i8") for name in ("time", "time_bounds"))
            truth = times - recorder.error_ns
            found.clocks_outside += int(((bounds[:, 0] > truth) | (bounds[:, 1] < truth)).sum())
    errors = [recorder.error_ns / _NS for recorder in recorders]
    found.alignment_s = max(errors) - min(errors)


_THIN = (
    "So each has 24 chunks a day and not 8,640: objects, puts and bytes of a recorder-day are those of such a day, and"
    " worked out below for those of chaosd itself. "
)


def table(found: Found) -> str:
    """The section of the page."""
    shape = found.shape
    days = shape.recorder_days
    puts, gets = (found.requests.get(kind, 0) / days for kind in ("PUT", "GET"))
    steps_a_day = DAY_S / shape.step_s
    least = DAY_S / shape.chunk_s + 5 * steps_a_day
    ours = DAY_S / 10 + 5 * DAY_S / METADATA_S
    usd = found.requests.get("PUT", 0) * PUT_USD + found.requests.get("GET", 0) * GET_USD
    faults = ", ".join(f"{n:,} {what}" for what, n in sorted(found.injected.items()))
    told = found.alignment_told_s
    rows = [
        ("objects expected", f"{found.expected:,}"),
        ("there", f"{found.there:,}"),
        ("wrong", f"{found.wrong}"),
        ("missing", f"{found.missing}"),
        (f"of {found.verified} recordings verified: with a hash that doesn't hold", f"{found.unverified}"),
        ("gaps that were booked", f"{found.gaps:,}"),
        ("of them found with `chaos.fleet`, to the frame and with their cause", f"{found.gaps_found:,}"),
        ("frames whose true time is outside of their bounds", f"{found.clocks_outside}"),
        ("clocks apart at most; told by `worst_alignment_error_s`",
         f"{found.alignment_s:.3f} s; {'not known' if told is None else f'{told:.3f} s'}"),
        ("puts a recorder-day, repeated ones included", f"{puts:,.0f} ({least:,.0f} without faults, worked out)"),
        ("gets a recorder-day", f"{gets:,.0f}"),
        ("bytes put a recorder-day", f"{found.put_bytes / days / 1e6:.1f} MB"),
        ("requests a recorder-day in USD", f"{usd / days:.4f}"),
        ("memory of an uploader at most", f"{found.memory_mb:.0f} MiB"),
        ("*worked out:* puts a recorder-day as chaosd has it by itself, chunks of 10 s and metadata each minute",
         f"{ours * puts / least:,.0f}, {ours * puts / least * PUT_USD:.2f} USD"),
        ("*worked out:* 1,000 such recorders for a day", f"{1000 * ours * puts / least * PUT_USD:,.0f} USD of puts"),
    ]  # fmt: skip
    lines = ["| | |", "| --- | --- |", *(f"| {what} | {figure} |" for what, figure in rows)]
    away_h = shape.away * shape.days * shape.hours
    made = (
        f"{shape.recorders} recorders for {shape.days * shape.hours:g} hours, simulated in {found.seconds:.0f} s;"
        f" chunks of {shape.chunk_s:,} s of {shape.rate} samples a second, metadata each {shape.step_s // 60} minutes."
        f" {_THIN if shape.is_thin else ''}Each request"
        f" failed with a chance of {shape.fault_rate:.0%}, and for each recorder the store was away for {away_h:g}"
        f" hours ({faults} in all); {found.n_kills} times an uploader was killed. List prices of S3 Standard:"
        f" {PUT_USD * 1000:g} USD per 1,000 puts, {GET_USD * 1000:g} per 1,000 gets."
        f" {dt.datetime.now(dt.UTC):%Y-%m-%d}, by `tools/fleet --recorders {shape.recorders} --days {shape.days}`, on"
        f" {machine_line()}; a load of {found.load:.1f} beforehand."
    )
    return "\n\n".join([made, "\n".join(lines)])


def write_section(text: str, page: Path, marks: tuple[str, str]) -> None:
    """Puts the section between its marks. Raises ValueError where the page has none."""
    found = page.read_text()
    begin, end = (found.index(mark) for mark in marks)
    page.write_text(f"{found[:begin]}{marks[0]}\n{text}\n{found[end:]}")


def _index(recorders: int, folder: Path, say: Callable[[str], None], *, is_reported: bool) -> None:
    from proof import fleetindex

    text = fleetindex.table(fleetindex.measure_index(recorders, folder, say))
    print(text, flush=True)
    if is_reported:
        write_section(text, REPORT, fleetindex.MARKS)


def _catch_up(folder: Path, *, is_reported: bool) -> None:
    from proof import catchup

    text = catchup.table(catchup.measure_catch_up(folder, 100, 20_000_000))
    print(text, flush=True)
    if is_reported:
        write_section(text, REPORT, catchup.MARKS)


def _job(folder: Path, *, is_reported: bool) -> None:
    from proof import leveljob

    text = leveljob.table(leveljob.measure_job(folder, 40))
    print(text, flush=True)
    if is_reported:
        write_section(text, REPORT, leveljob.MARKS)


def _capture(folder: Path, *, is_reported: bool) -> None:
    from rig import Session

    from proof import uploadcost

    with Session() as session:
        text = uploadcost.table(uploadcost.measure_upload_cost(session, folder, 2, 62, 10))
    print(text, flush=True)
    if is_reported:
        write_section(text, REPORT, uploadcost.MARKS)


def main() -> None:
    parser = argparse.ArgumentParser(prog="fleet", description="Simulated recorders on an object store that fails.")
    parser.add_argument("--recorders", type=int, default=20)
    parser.add_argument("--days", type=int, default=1)
    parser.add_argument("--hours", type=float, default=24.0, help="of each day")
    parser.add_argument("--faults", type=float, default=0.02, help="chance that a request fails")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-report", action="store_true", help="leave docs/fleet.md as it is")
    parser.add_argument("--index", type=int, metavar="N", help="measure the index of so many recorders instead")
    parser.add_argument("--catch-up", action="store_true", help="measure how fast an uploader catches up instead")
    parser.add_argument("--job", action="store_true", help="measure the level job on one worker and on two instead")
    parser.add_argument("--capture", action="store_true", help="measure what an upload costs a capture instead")
    given = parser.parse_args()
    shape = Shape.of(given.recorders, given.days, given.hours, given.faults, given.seed)

    def say(what: str) -> None:
        print(f"fleet: {what}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        if given.index is not None:
            _index(given.index, Path(folder), say, is_reported=not given.no_report)
            return
        if given.job:
            _job(Path(folder), is_reported=not given.no_report)
            return
        if given.capture:
            _capture(Path(folder), is_reported=not given.no_report)
            return
        if given.catch_up:
            _catch_up(Path(folder), is_reported=not given.no_report)
            return
        found = measure(shape, Path(folder), say)
    if not given.no_report:
        write_section(table(found), REPORT, MANY_MARKS if shape.is_thin else OUTAGE_MARKS if shape.days > 1 else MARKS)
    print(json.dumps(dataclasses.asdict(found), indent=2) if given.json else table(found))
    sys.exit(0 if found.is_whole else 1)


if __name__ == "__main__":
    main()
