"""What clients, devices and other programs do to a chaosd, many times over, beside a capture: `tools/abuse`.

Each kind of abuse has a chaosd of its own, which captures a source that numbers its frames. Afterwards every frame is
looked at, and what the process holds is compared with what it held before. `docs/reliability.md` is what a whole run
has to tell. What chaosd reads from others is fuzzed first (proof.fuzz); what that found is sent to it.
"""

from __future__ import annotations

import argparse
import math
import platform
import random
import re
import resource
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zmq
from rig import CountingSource, RigError, Session, check

import chaos
from chaos import __version__
from chaos.terms.errors import ChaosError
from proof.clients import CLIENTS
from proof.engine import Engine
from proof.fuzz import TARGETS, Fuzzed, fuzz, seeds
from proof.neighbours import NEIGHBOURS
from proof.promises import PROMISES
from proof.scene import KEPT, Abuse, Scene, Take

__all__ = ["ABUSES", "Row", "held_by", "main", "report", "run"]

ABUSES = (*NEIGHBOURS, *CLIENTS)
RUNS = 1_000_000
SOURCE = "kept-source"
SOURCE_ID = 1
PATIENCE_MS = 20  # below a cycle: like hardware, the source does not wait for whoever captures it
SOFT_LIMIT = 1024
SETTLE_S = 1.0
BLOCK_FRAMES = 1 << 20
FUZZING = 0.2  # of a run's time


@dataclass(frozen=True)
class Row:
    """What came of one kind of abuse. Memory is of the process alone, without slots."""

    abuse: Abuse
    n_times: int
    seconds: float
    offered: int
    in_ledger: int
    unaccounted: int
    foreign: int
    memory_kib: tuple[int, int]
    descriptors: tuple[int, int]

    @property
    def ok(self) -> bool:
        return self.offered > 0 and self.unaccounted == self.foreign == 0


def run(
    session: Session, folder: Path, abuse: Abuse, *, often: int, seconds: float = math.inf, corpus: Sequence[bytes] = ()
) -> Row:
    """Does it `often` times beside a capture, or for as long as `seconds` last. Raises RigError where chaosd ends, does
    not answer, or lets happen what must not.
    """
    source = CountingSource(session, name=SOURCE, source_id=SOURCE_ID, driver=True, patience_ms=PATIENCE_MS)
    with source, _engine(session, folder) as engine:
        engine.call("device_wait", name=SOURCE, timeout_s=50)
        engine.call("stream_start", uri=KEPT, device_identity=SOURCE, format={"type": "audio"})
        engine.await_state(KEPT, "streaming")
        scene = Scene(session, engine, source, folder, random.Random(often), list(corpus) or seeds("commands"))
        try:
            abuse.act(scene, min(abuse.batch, often))  # what is made once and kept is not counted
            before = _held(engine)
            n_times, took_s = _repeat(scene, abuse, often, seconds)
            engine.call("ping")
            after = _held(engine)
            stopped = engine.call("stream_stop", uri=KEPT)
            if not engine.call("verify", uri=KEPT)["ok"]:
                raise RigError("the recording does not verify")
        except (ChaosError, RigError) as error:
            said = session.log(engine.log_name)[-4000:]
            raise RigError(f"{abuse.name}: {error} (exit code {engine.process.poll()}); {said}") from error
        account = _account(Path(stopped["recording"]))
        foreign = account[3] + sum(map(_foreign_in, scene.takes))
        return Row(abuse, n_times, took_s, *account[:3], foreign, *zip(before, after, strict=True))


def _engine(session: Session, folder: Path) -> Engine:
    """A chaosd that begins with the soft limit of most systems."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(SOFT_LIMIT, hard), hard))
    try:
        return Engine(session, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _repeat(scene: Scene, abuse: Abuse, often: int, seconds: float) -> tuple[int, float]:
    """How often it was done, and how long that took."""
    began = time.monotonic()
    n_times, took_s = 0, 0.0
    while (n_times < often or took_s < abuse.lasts_s) and (took_s < seconds or not n_times):
        n = abuse.batch if abuse.lasts_s else min(abuse.batch, often - n_times)
        abuse.act(scene, n)
        n_times += n
        took_s = time.monotonic() - began
    return n_times, took_s


def _account(path: Path) -> tuple[int, int, int, int]:
    """Frames offered, in the ledger, unaccounted for, and foreign."""
    unaccounted = foreign = 0
    with chaos.open(path) as recording:
        gaps = [(gap.first_frame, gap.n_frames) for gap in recording.gaps]
        first: int | None = None
        for begin in range(0, recording.n_frames, BLOCK_FRAMES):
            block = recording[begin : begin + BLOCK_FRAMES]
            end = begin + block.shape[1]
            inside = [
                (max(at, begin) - begin, min(at + length, end) - max(at, begin))
                for at, length in gaps
                if at < end and at + length > begin
            ]
            found = check(block, SOURCE_ID, first=None if first is None else first + begin, gaps=inside)
            first = found.first - begin if first is None else first
            unaccounted += found.silent + found.moved
            foreign += found.foreign
        return recording.n_frames, sum(length for _, length in gaps), unaccounted, foreign


def _foreign_in(take: Take) -> int:
    """Frames that are neither silent nor the take's own."""
    with chaos.open(take.path) as recording:
        samples = recording[:]
    return int(np.count_nonzero(np.any(samples, axis=0) & ~take.is_own(samples)))


def _held(engine: Engine) -> tuple[int, int]:
    """Memory of its own (KiB) and descriptors, once what has gone is put away."""
    time.sleep(SETTLE_S)  # connections that have been closed are noticed one after the other
    if engine.process.poll() is not None:
        raise RigError("chaosd has ended")
    process = Path(f"/proc/{engine.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]), sum(1 for _ in (process / "fd").iterdir())


# ---- the report

_INTRODUCTION = """Written by `tools/abuse`. Each line is a chaosd that captured two channels at 48 kHz from a source
that numbers its frames and waits for nobody, while what the line says was done to it. Every frame was looked at
afterwards: *unaccounted* is what is neither right nor in the gap ledger, *foreign* what comes from elsewhere, also in
recordings of other streams. *In the ledger* is what the machine was too busy to capture, and what was done to the
capture itself. Memory (MiB) is what the process holds for itself, without slots; it and descriptors are those before
and after, each with the capture running."""
_REST = """## What stands in for what

- A sound card, and plugs that are pulled: sources of our own that number their frames, and nodes that come and go.
- A disk or a mount that hangs: an XFS that is frozen (`fsfreeze`) under the writer, a pipe in place of a file, and
  calls that wait in the tests of the engine. The kernel keeps a process whose write hangs until the disk
  answers, whatever signal it gets; all else of it has ended by then.
- A disk that dies, and power that is cut: an XFS that is shut down under the writer, and mounted anew.
- A processor that lets stores and loads pass each other, as ARM does: a model of C's memory that tries all that the
  hand-off of frames allows, beside a callback, a rotator and a follower that race on this machine.
- Errors of memory in the extensions: tests under AddressSanitizer and UndefinedBehaviorSanitizer (`just sanitize`).
- Not tried: real hardware, kernels that run out of memory, network file systems.

## What holds it

Each promise about what others do, and the tests that hold it (below `tests/`). All but those in `live` and `faults`
need no PipeWire.""".splitlines()


def report(rows: Sequence[Row], fuzzed: Sequence[Fuzzed]) -> str:
    lines = [
        "# Reliability",
        "",
        *textwrap.wrap(_INTRODUCTION, 118),
        "",
        f"chaosd {__version__}, Linux {platform.release()}, Python {platform.python_version()}, "
        f"libzmq {zmq.zmq_version()}. The long form is what `just abuse` does without `--minutes`.",
        "",
        "| what was done | how often | of the long form's | seconds | frames offered | in the ledger | unaccounted |"
        " foreign | memory | descriptors |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *map(_line, rows),
        "",
        "## Fuzzing",
        "",
        "Guided by coverage (atheris), of what chaosd reads from others; the mutated messages above begin with what",
        "this found for commands.",
        "",
        "| what | inputs | seconds | branches reached | inputs that reached new ones | defects |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {each.target} | {each.n_runs:,} | {each.seconds} | {each.covered} | {each.n_kept} |"
            f" {'1' if each.defect else '0'} |"
            for each in fuzzed
        ),
        "",
        *_REST,
        "",
        *held_by(),
    ]
    return "\n".join([*lines, ""])


def held_by() -> list[str]:
    """The table of promises."""
    lines = ["| promise | tests | above |", "| --- | --- | --- |"]
    for each in PROMISES:
        tests = ", ".join(f"`{test}`" for test in each.tests)
        above = next((abuse.name for abuse in ABUSES if each.abuse and each.abuse in abuse.name), "")
        lines.append(f"| {each.text} | {tests} | {above} |")
    return lines


def reworded(page: str) -> str:
    """A report as it would be now, but for what its run found."""
    tables = re.findall(r"(?m)^(?:\| --- .*\n)((?:\|.*\n)*)", page)
    [made] = re.findall(r"(?m)^chaosd \d.*$", page)
    now = report((), ())
    [version] = re.findall(r"(?m)^chaosd \d.*$", now)
    first, *rest = now.split("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
    between, last = "".join(rest).split("| --- | --- | --- | --- | --- | --- |\n")
    heads = (line for line in page.splitlines(keepends=True) if line.startswith("| --- "))
    return f"{first}{next(heads)}{tables[0]}{between}{next(heads)}{tables[1]}{last}".replace(version, made)


def _line(row: Row) -> str:
    abuse = row.abuse
    whole = f"{abuse.lasts_s:,.0f} s" if abuse.lasts_s else f"{abuse.often:,}"
    memory = " → ".join(f"{kib / 1024:.0f}" for kib in row.memory_kib)
    descriptors = " → ".join(map(str, row.descriptors))
    return (
        f"| {abuse.name} | {row.n_times:,} | {whole} | {row.seconds:.0f} | {row.offered:,} | {row.in_ledger:,} |"
        f" {row.unaccounted} | {row.foreign} | {memory} | {descriptors} |"
    )


def shares(abuses: Sequence[Abuse], seconds: float) -> Iterator[tuple[Abuse, float]]:
    """Each with how long it may take, so that all are done when `seconds` are over; what one leaves the next ones have.

    Those come last that have the most to do.
    """
    end = time.monotonic() + seconds
    left = sorted(abuses, key=lambda abuse: abuse.weight)
    while left:
        weights = sum(abuse.weight for abuse in left)
        abuse = left.pop(0)
        yield abuse, max(0.0, end - time.monotonic()) * abuse.weight / weights


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools/abuse", description="Mistreats chaosd, and accounts for every frame.")
    parser.add_argument("--minutes", type=float, default=math.inf, metavar="M", help="end after about so long")
    parser.add_argument("--only", metavar="WORD", default="", help="only what has this in its name; writes no report")
    parser.add_argument("--words", action="store_true", help="runs nothing: makes FILE's words and promises anew")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the report goes (printed without)")
    asked = parser.parse_args(arguments)
    if asked.words:
        if asked.out is None:
            parser.error("--words needs --out")
        asked.out.write_text(reworded(asked.out.read_text()))
        return 0
    chosen = [abuse for abuse in ABUSES if asked.only in abuse.name]
    if not chosen:
        parser.error(f"nothing has {asked.only!r} in its name")
    seconds = asked.minutes * 60
    rows: list[Row] = []
    failed = 0
    with tempfile.TemporaryDirectory(prefix="abuse-") as folder, Session() as session:
        fuzzed = []
        for target in () if asked.only else TARGETS:
            budget = min(3600.0, seconds * FUZZING / len(TARGETS))
            fuzzed.append(fuzz(target, Path(folder) / target, n_runs=RUNS, seconds=budget))
            print(fuzzed[-1], file=sys.stderr, flush=True)
        found = [path.read_bytes() for path in Path(folder).glob("commands/*")]
        for number, (abuse, share) in enumerate(shares(chosen, seconds * (1 - FUZZING))):
            place = Path(folder) / str(number)
            place.mkdir()
            try:
                rows.append(run(session, place, abuse, often=abuse.often, seconds=share, corpus=found))
            except RigError as error:
                failed += 1
                print(f"abuse: {error}", file=sys.stderr, flush=True)
                continue
            print(rows[-1], file=sys.stderr, flush=True)
    text = report(sorted(rows, key=lambda row: ABUSES.index(row.abuse)), fuzzed)
    if asked.out is not None and not asked.only and not failed:
        asked.out.write_text(text)
    else:
        print(text)
    return 0 if not failed and all(row.ok for row in rows) and not any(each.defect for each in fuzzed) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RigError as error:
        sys.exit(f"abuse: {error}")
