"""The benchmarks: chaosd beside its peers, in one run, with a report in docs/benchmarks.md."""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rig import RigError, Session

from proof.costs import measure_costs
from proof.kernels import measure_kernels
from proof.report import Findings, aims, write_figures, write_report
from proof.scale import measure_idle, measure_latencies, measure_streams
from proof.speed import measure_callback, measure_throughput
from proof.starting import measure_commands, measure_starts
from proof.storing import measure_storing

__all__ = ["main", "measure"]

README = Path(__file__).parents[2] / "README.md"
DOCS = README.parent / "docs"
QUICK_SHAPES = ((2, 256), (2, 1024), (64, 1024))
ALL_SHAPES = tuple((channels, quantum) for channels in (2, 8, 32, 64) for quantum in (64, 256, 1024))
OTHERS = ("pw-record, RT", "jack_capture", "arecord", "ffmpeg", "sounddevice")
CALLBACKS = ((2, 1024, False), (64, 1024, False), (64, 1024, True))


def measure(session: Session, *, quick: bool) -> Findings:
    """Runs all benchmarks; says on stderr which is going on."""
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"bench: {time.monotonic() - began:4.0f} s: {what}", file=sys.stderr, flush=True)

    say("CPU beside the peers")
    if quick:
        costs = measure_costs(session, QUICK_SHAPES, rounds=2, window_s=2.5, once=OTHERS)
    else:
        costs = measure_costs(session, QUICK_SHAPES, rounds=3, window_s=3, once=OTHERS)
        others = [shape for shape in ALL_SHAPES if shape not in QUICK_SHAPES]
        costs += measure_costs(session, others, rounds=1, window_s=3, never=OTHERS)
        costs.sort(key=lambda cost: (cost.channels, cost.quantum))
    say("storing")
    storing = [measure_storing(n, 20 if quick else 30) for n in dict.fromkeys(cost.channels for cost in costs)]
    say("kernels")
    kernels = measure_kernels(1 if quick else 3, 2)
    say("callback")
    rounds, window_s = (2, 2.0) if quick else (3, 2.5)
    callbacks = [
        measure_callback(session, channels, quantum, interleaved=interleaved, rounds=rounds, window_s=window_s)
        for channels, quantum, interleaved in CALLBACKS
    ]
    say("faster than real time")
    rounds, window_s = (2, 1.5) if quick else (3, 3.0)
    throughput = [measure_throughput(session, n, rounds=rounds, window_s=window_s) for n in (2, 64)]
    say("many streams")
    counts, beside = ((1, 16), (16,)) if quick else ((1, 4, 16, 64), (1, 16))
    streams = measure_streams(session, counts, window_s=4 if quick else 6, beside=beside)
    say("idle")
    idle = measure_idle(session, 3 if quick else 10)
    say("latencies")
    latencies = measure_latencies(session, 1 if quick else 3)
    say("starts")
    starts = [measure_starts(session, quantum, 9 if quick else 40) for quantum in (1024, 256)]
    say("commands")
    commands = measure_commands(session, 3 if quick else 11)
    pipewire = session.run("pipewire", "--version").splitlines()[-1].removeprefix("Linked with libpipewire ")
    return Findings(
        seconds=time.monotonic() - began,
        at=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        pipewire=pipewire,
        quick=quick,
        costs=costs,
        storing=storing,
        kernels=kernels,
        callbacks=callbacks,
        throughput=throughput,
        streams=streams,
        idle=idle,
        latencies=latencies,
        starts=starts,
        commands=commands,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools/bench", description="Measures chaosd beside its peers.")
    parser.add_argument("--quick", action="store_true", help="fewer shapes and rounds: four minutes, not twelve")
    parser.add_argument("--json", action="store_true", help="all figures on stdout")
    parser.add_argument(
        "--output", metavar="FOLDER", type=Path, default=DOCS, help="for the report (docs: README.md's figures, too)"
    )
    parser.add_argument("--again", metavar="JSON", type=Path, help="measure nothing: report what --json once gave")
    asked = parser.parse_args(arguments)
    if asked.again:
        found = msgspec.json.decode(asked.again.read_bytes(), type=Findings)
    else:
        with Session() as session:
            found = measure(session, quick=asked.quick)
    path = write_report(found, asked.output)
    if asked.output == DOCS:
        write_figures(found, README, "docs/benchmarks.md")
    if asked.json:
        told = [dataclasses.asdict(aim) for aim in aims(found)]
        print(json.dumps({"aims": told, **dataclasses.asdict(found)}))
    else:
        for aim in aims(found):
            print(f"{'met    ' if aim.met else 'NOT MET'}  {aim.what}: {aim.measured} (wanted {aim.aim})")
        print(f"report: {path}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RigError as error:
        sys.exit(f"bench: {error}")
