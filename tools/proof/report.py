"""The bench's findings as a Markdown report with plots; plots need matplotlib."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from proof.costs import BARE, OURS, Cost
from proof.kernels import Bandwidth
from proof.scale import Idle, Latencies, Streams
from proof.speed import Callback, Throughput
from proof.starting import Commands, Starts
from proof.storing import Storing

RATE = 48000
CPU_AIMS = {(2, 256): 1.25, (2, 1024): 1.4, (64, 1024): 1.6}
CALLBACK_AIM = 1.5
KERNEL_AIM = 0.8
DISK_AIM = 0.95
LEAST_CPU = 0.002
_PARTS = ("PipeWire's part", "callback", "storing", "of it BLAKE3", "levels", "clearing", "its turns", "other threads")
_LOSERS = (OURS, BARE, "pw-record")
_FIGURES = ("<!-- figures: written by tools/bench -->", "<!-- end of figures -->")

__all__ = ["Aim", "Findings", "aims", "limits", "machine_line", "write_figures", "write_report"]


@dataclass
class Findings:
    """All that one run of the bench found."""

    seconds: float
    at: str
    pipewire: str
    quick: bool
    costs: list[Cost]
    storing: list[Storing]
    kernels: list[Bandwidth]
    callbacks: list[Callback]
    throughput: list[Throughput]
    streams: list[Streams]
    idle: Idle
    latencies: Latencies
    starts: list[Starts]
    commands: Commands


@dataclass(frozen=True)
class Aim:
    """What was aimed at, what was measured, whether it was met."""

    what: str
    aim: str
    measured: str
    met: bool


def aims(found: Findings) -> list[Aim]:
    """Each aim of the project beside its figure of this run."""
    told: list[Aim] = []

    def at_most(what: str, limit: float, value: float, unit: str = "") -> None:
        told.append(Aim(what, f"≤ {limit:g}{unit}", f"{value:.2f}{unit}", value <= limit))

    def at_least(what: str, limit: float, value: float) -> None:
        told.append(Aim(what, f"≥ {limit:g}", f"{value:.2f}", value >= limit))

    for start in found.starts:
        limit = round(10 + 1000 * start.quantum / RATE, 1)
        at_most(f"`stream_start` to the first kept frame, q{start.quantum}", limit, median(start.to_frame), " ms")
        at_most(f"from there to its answer, q{start.quantum}", 5, median(start.to_answer), " ms")
    commands = found.commands
    at_most("`chaosctl start`, whole process", 150, median(commands.start), " ms")
    at_most("chaosd's start to its answer to `ping`", 200, median(commands.ping), " ms")
    at_most("`chaosctl save --last 30s` of stereo, whole process", 150, median(commands.save), " ms")
    for cost in found.costs:
        if (shape := (cost.channels, cost.quantum)) in CPU_AIMS:
            what = f"CPU to the client that only copies, {cost.channels} ch, q{cost.quantum}"
            at_most(what, CPU_AIMS[shape], cost.ratio(OURS, to=BARE))
    for speed in found.throughput:
        if speed.channels == 2:
            at_least("faster than real time, to the client that only copies, 2 ch", 0.9, speed.ratio)
        else:
            what = f"faster than real time, to what the disk writes, {speed.channels} ch"
            at_least(what, DISK_AIM, speed.to_disk)
    for one in found.callbacks:
        if not one.interleaved:
            of = f"planar {one.channels} ch, q{one.quantum}"
            at_most(f"callback to memcpy, {of}", CALLBACK_AIM, one.ratio)
            at_most(f"callback to that of the client that only copies, {of}", CALLBACK_AIM, one.to_bare)
    worst = min((one for one in found.kernels if one.channels >= 4), key=lambda one: one.ratio)
    of_runs = f"{worst.sample_format}, {worst.channels} ch, the worst of {len(worst.ratios)} runs"
    at_least(f"slowest kernel to memcpy ({of_runs})", KERNEL_AIM, worst.ratio)
    first, last = found.streams[0], found.streams[-1]
    at_most(f"cost per stream at {last.n} to that at {first.n}", 1.2, last.per_stream / first.per_stream)
    at_most(f"memory beyond the slots, {first.n} stream", 45, first.memory_mb, " MB")
    at_most("wake-ups of an idle daemon per second", 0, found.idle.switches / found.idle.seconds)
    return told


def limits(found: Findings) -> list[str]:
    """What stands in the way of the aims that were not met, by figures of this run."""
    told = [*_start_limits(found.starts), *_cpu_limits(found), *_disk_limits(found.throughput)]
    worst = min((one for one in found.kernels if one.channels >= 4), key=lambda one: one.ratio)
    if worst.ratio < KERNEL_AIM:
        ratios = ", ".join(f"{ratio:.2f}" for ratio in sorted(worst.ratios))
        told.append(
            f"The slowest kernel ({worst.sample_format}, {worst.channels} channels) did {worst.kernel:.1f} GB/s"
            f" in its worst run, memcpy of the same bytes {worst.memcpy:.1f}, a plain C loop {worst.loop:.1f}, numpy"
            f" {worst.numpy:.1f}; to memcpy it was {ratios} in its runs."
        )
    return ["### What stands in the way", "\n".join(f"- {each}" for each in told)] if told else []


def _start_limits(starts: Sequence[Starts]) -> list[str]:
    """Of a start's steps: what is ours until PipeWire is asked, and what it takes from there."""
    told = []
    for start in starts:
        wanted = round(10 + 1000 * start.quantum / RATE, 1)
        if median(start.to_frame) <= wanted:
            continue
        at = {step: median(at_ms) for step, at_ms in start.steps.items()}
        node = at["node_made"] - at["take_made"]
        told.append(
            f"A start at quantum {start.quantum}: {at['take_made']:.1f} ms until the take's slots and folder are there,"
            f" {node:.1f} ms until PipeWire has made the node, and {at['first_frame'] - at['links_asked']:.1f} ms from"
            f" asking for links to the first frame, a quantum being {1000 * start.quantum / RATE:.1f} ms. The last two"
            " are PipeWire's: it negotiates, shares buffers and takes the node into the graph."
        )
    return told


def _cpu_limits(found: Findings) -> list[str]:
    """Of CPU beside the client that only copies: what each part takes, and each thread."""
    storing = {one.channels: one for one in found.storing}
    told = []
    for cost in found.costs:
        aim = CPU_AIMS.get((cost.channels, cost.quantum))
        if aim is None or cost.ratio(OURS, to=BARE) <= aim:
            continue
        parts = _parts(cost, storing[cost.channels])
        bare, whole = median(cost.cpu[BARE]), median(cost.cpu[OURS])
        threads = sorted(((median(cpu), name) for name, cpu in cost.threads.items()), reverse=True)
        by_thread = ", ".join(f"{name} {cpu:.3f}" for cpu, name in threads if cpu >= LEAST_CPU)
        data, least = parts.around + parts.callback, parts.least / bare
        above = f"{least - aim:.2f} above the aim" if least > aim else f"{aim - least:.2f} below the aim"
        told.append(
            f"CPU at {cost.channels} channels, quantum {cost.quantum}: the client that only copies takes {bare:.3f} s a"
            f" minute. Our data thread alone is {data / bare:.2f} of that. What that client doesn't do is storing"
            f" ({parts.storing:.3f}, of it BLAKE3 {parts.hashing:.3f}), levels ({parts.levels:.3f}) and clearing slots"
            f" ({parts.clearing:.3f}): with these, which can't be left out, it is {least:.2f}, {above}. The rotator's"
            f" turns beside them take {parts.turns:.3f}, the threads that wake it and are told by it"
            f" {parts.others:.3f}; {parts.rest / whole:.0%} is left to the rotator's thread (being woken, the GIL). By"
            f" thread: {by_thread}."
        )
    return told


def _disk_limits(throughput: Sequence[Throughput]) -> list[str]:
    """Of storing faster than real time: what the graph offers, and what storing takes by itself."""
    return [
        f"{one.channels} channels faster than real time: the graph, as fast as it goes, offers"
        f" {median(one.offered) / median(one.written):.2f} of what the disk writes, and takes the processors"
        f" ({os.cpu_count()}) for it; the recording's writer alone, without a graph, stores"
        f" {median(one.alone) / median(one.written):.2f}. Of its time {_steps(one)}, one after the"
        " other: no name before its bytes are durable, nothing is told before its name is."
        for one in throughput
        if one.channels != 2 and one.to_disk < DISK_AIM
    ]


def _steps(one: Throughput) -> str:
    return ", ".join(f"{step} take {median(shares):.2f}" for step, shares in one.shares.items())


def _processor() -> str:
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    return f"{cpu.split(':')[-1].strip()}, {os.cpu_count()} cores"


def _system() -> str:
    return f"Linux {platform.release()}, Python {platform.python_version()}"


def machine_line() -> str:
    """What the figures were measured on."""
    return f"{_processor()}; {_system()}"


def write_report(found: Findings, folder: Path) -> Path:
    """Writes `benchmarks.md` and its plots into `folder`; returns the report's path."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = _plots(found, folder) if find_spec("matplotlib") else []
    parts = [
        "# Benchmarks",
        "Written by `tools/bench`, its last section by `tools/scale`; don't edit. "
        "Figures of one machine on one day: compare ratios, not seconds.",
        _table(
            ("", ""),
            [
                ("date", found.at),
                ("processor", _processor()),
                ("system", _system()),
                ("PipeWire", found.pipewire),
                ("kind of run", f"{'quick' if found.quick else 'full'}, {found.seconds:.0f} s"),
            ],
        ),
        "## Aims",
        _table(
            ("aim", "wanted", "measured", "met"),
            [(aim.what, aim.aim, aim.measured, "yes" if aim.met else "**no**") for aim in aims(found)],
        ),
        *limits(found),
        *_cost_parts(found),
        *[f"![{title}]({name})" for title, name in plots],
        *_speed_parts(found),
        *_scale_parts(found),
    ]
    path = folder / "benchmarks.md"
    path.write_text("\n\n".join([*parts, *_scale_section(path)]) + "\n")
    return path


def _scale_section(path: Path) -> list[str]:
    """What `tools/scale` has written there."""
    _, mark, section = (path.read_text() if path.exists() else "").partition("<!-- scale: ")
    return [f"{mark}{section.rstrip()}"] if mark else []


def write_figures(found: Findings, page: Path, report: str) -> None:
    """Puts the four figures that matter between the marks in `page`, with a link to `report`.

    Raises ValueError where the page has no such marks.
    """
    stereo, many = (next(cost for cost in found.costs if (cost.channels, cost.quantum) == (n, 1024)) for n in (2, 64))
    speed = next(one for one in found.throughput if one.channels == 2)
    met = sum(aim.met for aim in aims(found))
    rows = [
        ("a minute of stereo, quantum 1024", _beside(stereo)),
        ("a minute of 64 channels, quantum 1024", _beside(many)),
        ("stereo through the whole engine, hashed and fsynced", f"{median(speed.stored):.0f} s of audio per second"),
        ("memory beyond the slots", f"{found.streams[0].memory_mb:.0f} MB"),
    ]
    told = (
        f"Of the [last report]({report}) ({found.at.split()[0]}, {os.cpu_count()} cores), which also tells which of our"
        f" aims were met ({met} of {len(aims(found))}) and what stands in the way of the others:"
    )
    text = page.read_text()
    begin, end = (text.index(mark) for mark in _FIGURES)
    body = f"{_FIGURES[0]}\n{told}\n\n{_table(('', ''), rows)}\n"
    page.write_text(text[:begin] + body + text[end:])


def _beside(cost: Cost) -> str:
    ours, theirs, floor = (median(cost.cpu[name]) for name in (OURS, "pw-record", BARE))
    return f"{ours:.2f} s of CPU (pw-record {theirs:.2f} s, a client that only copies {floor:.2f} s)"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _spread(values: Sequence[float], digits: int = 2) -> str:
    """The median and, of more than one, the range."""
    middle = f"{median(values):.{digits}f}"
    return middle if len(values) < 2 else f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def _lost(cost: Cost, name: str) -> str:
    if name not in cost.lost:
        return "-"
    lost, times, stolen_ms = (median(each[name]) for each in (cost.lost, cost.times, cost.stolen_ms))
    return f"{lost:.0f} ({times:.0f}; {stolen_ms:.0f})"


def _cost_parts(found: Findings) -> list[str]:
    told = dict.fromkeys(name for cost in found.costs for name in (*cost.cpu, *cost.failed))
    names = [OURS, BARE, *(name for name in told if name not in (OURS, BARE))]
    rows = []
    for cost in found.costs:
        cells = [_spread(cost.cpu[name]) if name in cost.cpu else "-" for name in names]
        lost = " / ".join(_lost(cost, name) for name in _LOSERS)
        rows.append((f"{cost.channels} ch, q{cost.quantum}", *cells, lost))
    reasons = sorted({f"{name}: {why.splitlines()[0]}" for cost in found.costs for name, why in cost.failed.items()})
    storing = {one.channels: one for one in found.storing}
    return [
        "## CPU per minute of capture",
        "CPU seconds per minute of audio, whole process, each alone with the same device, in turns: median"
        " (range) over rounds. chaosd's holds everything: hashing, writing, fsync, checkpoints, events. “copies only”"
        " is a client whose callback does one memcpy per channel, into memory, and nothing else: what none can go"
        " below. Its data thread, chaosd's and that of “pw-record, RT” have real-time priority where it is permitted.",
        f"Lost are the frames a minute that {', '.join(_LOSERS)} missed, each in its own window: the device begins a"
        " cycle when it is due, as a sound card does, whether all were called in time for the last or not. Behind them"
        " how often, and how many ms a minute another guest of the host had one of this machine's processors meanwhile."
        " Each time costs chaosd also 5 ms, in which its callback shows that it is in step again; the others keep what"
        " they were brought then, whether it was that cycle's or not.",
        _table(("", *names, "lost (times; stolen ms): " + " / ".join(_LOSERS)), rows),
        *(["Missing: " + "; ".join(reasons)] if reasons else []),
        "### Where chaosd's time goes",
        "CPU seconds per minute. PipeWire's part is its data thread without our callback; “storing” is the recording's"
        " work on the same bytes alone (checkpoints, hash, write, fsync, journal, metadata), of which BLAKE3 is a part;"
        " “levels” measures what the samples are like, “clearing” makes slots zero for the callback; “its turns” is"
        " what the rotator does beside these. All four are measured alone, with cold caches, as they are found in a"
        " capture. “Other threads” wake the rotator or are told by it. The rest is its thread's being woken and waiting"
        " for Python's lock.",
        _table(
            ("", "whole", *_PARTS, "rest", "read, write per cycle"),
            [_where(cost, storing[cost.channels]) for cost in found.costs],
        ),
        "\n".join(_limit(cost, storing[cost.channels]) for cost in found.costs if "pw-record" in cost.cpu),
    ]


def _split(cost: Cost) -> tuple[float, float]:
    """CPU seconds per minute of PipeWire's data thread: without our callback, and the callback."""
    callback = median(one.callback_us for one in cost.data_thread) * (RATE / cost.quantum) * 60 / 1e6
    return median(one.cpu for one in cost.data_thread) - callback, callback


@dataclass(frozen=True)
class _Parts:
    """CPU seconds per minute: PipeWire's part of its data thread, our callback; storing, of which hashing is a part;
    levels and clearing; what else the rotator's turns take; the threads beside these two; and what is left."""

    around: float
    callback: float
    storing: float
    hashing: float
    levels: float
    clearing: float
    turns: float
    others: float
    rest: float

    @property
    def least(self) -> float:
        """What can't be left out."""
        return self.around + self.callback + self.storing + self.levels + self.clearing


def _parts(cost: Cost, storing: Storing) -> _Parts:
    around, callback = _split(cost)
    others = sum(median(cpu) for name, cpu in cost.threads.items() if name not in ("data thread", "chaosd-rotator"))
    of_turns = storing.all + storing.levels + storing.clearing
    turns = max(0.0, storing.turns - of_turns)
    rest = median(cost.cpu[OURS]) - around - callback - of_turns - turns - others
    return _Parts(
        around, callback, storing.all, storing.hashing, storing.levels, storing.clearing, turns, others, rest
    )


def _where(cost: Cost, storing: Storing) -> tuple[str, ...]:
    told = dataclasses.astuple(_parts(cost, storing))
    calls = [median(getattr(one, name) for one in cost.data_thread) for name in ("reads", "writes")]
    return (
        f"{cost.channels} ch, q{cost.quantum}",
        *(f"{part:.3f}" for part in (median(cost.cpu[OURS]), *told)),
        ", ".join(f"{n:.2f}" for n in calls),
    )


def _limit(cost: Cost, storing: Storing) -> str:
    """How low the ratios to pw-record and to the client that only copies could be."""
    bare, theirs = median(cost.cpu[BARE]), median(cost.cpu["pw-record"])
    return (
        f"- {cost.channels} ch, q{cost.quantum}: the client that only copies takes {cost.ratio(BARE, 'pw-record'):.2f}"
        f" of pw-record's, and with BLAKE3 of its bytes {(bare + storing.hashing) / theirs:.2f}; chaosd, which also"
        f" stores them, {cost.ratio(OURS, 'pw-record'):.2f}. Of the client that only copies chaosd takes"
        f" {cost.ratio(OURS, BARE):.2f}; its data thread, storing, levels and clearing alone would take"
        f" {_parts(cost, storing).least / bare:.2f}."
    )


def _speed_parts(found: Findings) -> list[str]:
    throughput = [
        (
            f"{one.channels} ch",
            *(_spread(speeds, 0) for speeds in (one.stored, one.offered, one.copied, one.written)),
            f"{one.ratio:.2f}",
            f"{one.to_disk:.2f}",
        )
        for one in found.throughput
    ]
    callbacks = [
        (
            f"{one.channels} ch, q{one.quantum}, {'interleaved' if one.interleaved else 'planar'}",
            _spread(one.callback_us, 1),
            _spread(one.memcpy_us, 1),
            _spread(one.bare_us, 1),
            f"{one.ratio:.2f}",
            f"{one.to_bare:.2f}",
        )
        for one in found.callbacks
    ]
    kernels = [
        (
            f"{one.sample_format}, {one.channels} ch",
            *(f"{value:.1f}" for value in (one.kernel, one.memcpy, one.numpy, one.loop)),
            ", ".join(f"{ratio:.2f}" for ratio in sorted(one.ratios)),
        )
        for one in found.kernels
    ]
    return [
        "## Faster than real time",
        "Seconds of audio per second. A driver of our own runs the graph as fast as its followers finish: through the"
        " whole engine to fsynced, hashed chunks (“stored”; what was offered beyond it is an overrun in the ledger),"
        " and through a client that only copies. “Disk” is what it takes of files of a chunk's size, past the page"
        " cache, one after the other, each synced.",
        _table(("", "stored", "offered", "copied", "disk", "stored to copied", "stored to disk"), throughput),
        "## Callback",
        "Mean microseconds per cycle at real-time pace: our whole callback (buffers taken and given back, the time"
        " read twice, the cycle accounted for, its frames copied), beside the bare memcpy of the same planes in the"
        " data thread of the client that only copies, and that client's whole callback, in turns. All begin with what"
        " the caches hold after a sleep.",
        _table(("", "callback", "memcpy", "copying client's callback", "to memcpy", "to that callback"), callbacks),
        *_callback_limits(found.callbacks),
        "## Deinterleave kernels",
        "GB/s from a buffer of 1024 frames into slots that together are larger than a process's share of the caches,"
        " each slot's time being the shortest of some rounds, in the worst run; the ratio is of each run.",
        _table(("", "kernel", "memcpy", "numpy", "plain C loop", "kernel to memcpy"), kernels),
    ]


def _callback_limits(callbacks: Sequence[Callback]) -> list[str]:
    """What stands in the way where the callback takes longer than its copy."""
    slow = [one for one in callbacks if not one.interleaved and one.ratio > CALLBACK_AIM]
    if not slow:
        return []
    limits = "; ".join(f"{one.limit:.2f} at {one.channels} channels, where ours takes {one.ratio:.2f}" for one in slow)
    return [
        f"What none can go below: the callback of the client that only copies takes {limits} of its memcpy. The rest is"
        " PipeWire's, which takes the buffers and gives them back, and code and state that other work has driven out of"
        " the caches since the last cycle; with more channels it is lost in the copy."
    ]


def _scale_parts(found: Findings) -> list[str]:
    streams = [
        (
            str(one.n),
            f"{one.cpu:.2f}",
            f"{one.per_stream:.3f}",
            "-" if one.peers_cpu is None else f"{one.peers_cpu:.2f}",
            str(one.lost_frames),
            f"{one.memory_mb:.1f}",
            str(one.n_threads),
            f"{one.switches:.0f}",
        )
        for one in found.streams
    ]
    late = found.latencies
    idle = found.idle
    return [
        "## Many streams",
        "Stereo streams in one daemon: CPU seconds per minute, beside as many pw-records.",
        _table(
            ("streams", "CPU", "per stream", "pw-records", "frames lost", "MB beyond slots", "threads", "switches/s"),
            streams,
        ),
        f"An idle daemon was switched to {idle.switches} times in {idle.seconds:.0f} s, took {idle.cpu_ms:.2f} ms of"
        f" CPU, and holds {idle.memory_mb:.1f} MB.",
        "## Latencies",
        _table(
            ("", "ms"),
            [
                ("chaosd's start to its answer to `ping`", _spread(found.commands.ping, 0)),
                *_of_starts(found.starts),
                ("`chaosctl start`, whole process", _spread(found.commands.start, 0)),
                ("`chaosctl save --last 30s` of stereo, whole process", _spread(found.commands.save, 0)),
                ("an event's making to its delivery", _spread(late.event_delivery)),
                ("a cycle's begin to its frames in a reader of another process", _spread(late.head_to_reader)),
            ],
        ),
        "A start, step by step: milliseconds from sending `stream_start`, the device running. Where in the device's"
        " cycle that falls changes from start to start; the first frame is that of the cycle after the links.",
        _table(
            ("", *(step.replace("_", " ") for step in found.starts[0].steps)),
            [
                (f"q{start.quantum}", *(f"{median(at_ms):.1f}" for at_ms in start.steps.values()))
                for start in found.starts
            ],
        ),
        "From “links asked” to “first frame” PipeWire is at work: it negotiates the links, shares buffers and takes the"
        f" node into the device's next cycle. That is {_of_pipewire(found.starts)}.",
    ]


def _of_pipewire(starts: Sequence[Starts]) -> str:
    told = []
    for start in starts:
        waits = zip(start.steps["links_asked"], start.steps["first_frame"], strict=True)
        part = median(frame - asked for asked, frame in waits)
        told.append(f"{part:.1f} ms of {median(start.to_frame):.1f} at q{start.quantum}")
    return ", ".join(told)


def _of_starts(starts: Sequence[Starts]) -> list[tuple[str, str]]:
    rows = []
    for start in starts:
        rows.append((f"`stream_start` to the first kept frame, q{start.quantum}", _spread(start.to_frame, 1)))
        rows.append((f"from there to its answer, q{start.quantum}", _spread(start.to_answer, 1)))
    return rows


def _plots(found: Findings, folder: Path) -> list[tuple[str, str]]:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "chaosd"
    names = list(dict.fromkeys(name for cost in found.costs for name in cost.cpu))
    figure, axes = plt.subplots(figsize=(8, 4))
    width = 0.8 / len(names)
    for k, name in enumerate(names):
        heights = [median(cost.cpu[name]) if name in cost.cpu else 0 for cost in found.costs]
        axes.bar([x + k * width for x in range(len(heights))], heights, width, label=name)
    axes.set_xticks(
        [x + 0.4 - width / 2 for x in range(len(found.costs))],
        [f"{cost.channels} ch\nq{cost.quantum}" for cost in found.costs],
    )
    axes.set_ylabel("CPU seconds per minute")
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(folder / "benchmarks-cpu.svg", metadata={"Date": None})
    figure, axes = plt.subplots(figsize=(8, 4))
    for name in dict.fromkeys(one.sample_format for one in found.kernels):
        rows = [one for one in found.kernels if one.sample_format == name]
        axes.plot([one.channels for one in rows], [one.ratio for one in rows], marker="o", label=name)
    axes.axhline(0.8, linestyle="--", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("channels")
    axes.set_ylabel("kernel to memcpy")
    axes.legend()
    figure.tight_layout()
    figure.savefig(folder / "benchmarks-kernels.svg", metadata={"Date": None})
    plt.close("all")
    return [(f"CPU per minute, {OURS} and peers", "benchmarks-cpu.svg"), ("kernels", "benchmarks-kernels.svg")]
