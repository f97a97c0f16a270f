"""What a device can do wrong, one row each, and the account of every frame that it offered meanwhile.

A faulty driver (rig.faulty) is captured in real time, planar and interleaved at once, and told to break one rule a few
times. Its frames carry the position that its clock gave them, so that afterwards each frame of the recording is right,
or in the ledger, or wrong; and each that was offered is in the recording, or lies where the ledger says that something
is missing.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rig import FaultyDriver, Session, decode, modulus

from chaos.store.info import RecordingInfo, load
from proof.engine import Engine, data_thread
from proof.faults import hold_thread, stopped
from proof.placing import samples_at

__all__ = ["ROWS", "Account", "Row", "capture"]

GROUP = {"node.group": "truth-devices"}
LEADS = {"priority.driver": "60000"}
LAYOUTS = ("planar", "interleaved")
RATE = 48000
QUANTUM = 1024
CHUNK_S = 0.5
PAUSE_S = 0.06
PATIENCE_MS = 50  # for a cycle that PipeWire runs without one of the streams while it still makes links


@dataclass(frozen=True)
class Row:
    """A rule and what breaks it: commands of a faulty driver, given together, `times` times.

    `moves`: the position doesn't go on as frames do, so that a gap's length can't be told from it. `silences`: the
    device itself brings zeros, so that they are right where nothing else is said. `hurries`: it waits for nobody
    while it makes up for lost time, and chaosd is stopped, or its data thread held, or the quantum another, after each
    command. `then`: further commands, given `while_s` after those. `stands`: its position doesn't move on while its
    frames do, so their own numbers tell their places, and gaps are right to a quantum. `ppm`: another device drives it,
    and its own clock is so much faster than that one's.
    """

    name: str
    commands: tuple[str, ...]
    times: int = 5
    moves: bool = False
    silences: bool = False
    hurries: bool = False
    then: tuple[str, ...] = ()
    while_s: float = 0.0
    stands: bool = False
    ppm: float | None = None


ROWS = (
    Row("none", ()),
    Row("hardware overrun", ("xrun 480",), moves=True),
    Row("discontinuity flagged", ("discont",), moves=True),
    Row("discontinuity with a jump", ("discont", "jump 5000"), moves=True),
    Row("jump of 100 frames", ("jump 100",), moves=True),
    Row("jump back", ("jump -5000",), moves=True),
    Row("jump of a day", ("jump 4147200000",), moves=True),
    Row("position of 10^14", (f"position {10**14}",), times=1, moves=True),
    Row("stands for a moment", ("stand",), then=("go",), while_s=0.06, stands=True),
    Row("stands for half a second", ("stand",), times=1, then=("go",), while_s=0.5, stands=True),
    Row("late by 30 ms", ("late 30",)),
    Row("late by 300 ms", ("late 300",), times=2),
    Row("makes up for lost time", ("late 20",), times=20, hurries=True),
    Row("short buffer", ("frames 1000",)),
    Row("one frame", ("frames 1",)),
    Row("no frames", ("frames 0",)),
    Row("long buffer", ("frames 1100",)),
    Row("three cycles' buffer", ("frames 3072",)),
    Row("torn at once", ("torn 0",), moves=True),
    Row("torn after 1 ms", ("torn 1",), moves=True),
    Row("offset", ("offset 400",)),
    Row("offset beyond the buffer", ("offset 40000",)),
    Row("wraps in 32 bits", ("wrap",)),
    Row("flagged empty", ("empty 3",), silences=True),
    Row("nothing", ("nothing 3",)),
    Row("follows another device", (), ppm=500),
)


@dataclass
class Account:
    """Of one row in one layout, in frames. `before` came before the first that was captured; `wrong` carry another
    number than their place in the recording should; `unaccounted` were offered between captured ones, and no gap says
    so; `stretched` gaps are longer or shorter than what they stand for, where the clock tells that exactly."""

    row: str
    layout: str
    offered: int = 0
    before: int = 0
    captured: int = 0
    in_ledger: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    unaccounted: int = 0
    stretched: int = 0
    verified: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def device(self) -> str:
        """Each row has one of its own: chaosd may hear of the next before it has heard that the last has gone."""
        return f"{re.sub('[^a-z0-9]+', '-', self.row.lower())}-device"

    @property
    def uri(self) -> str:
        return f"stream://{self.device}/{self.layout}"

    @property
    def ok(self) -> bool:
        return self.verified and self.captured > 0 and not (self.wrong or self.unaccounted or self.stretched)


def capture(engine: Engine, row: Row, *, quantum: int = QUANTUM, seed: int = 0) -> list[Account]:
    """Plays one row against an engine, which others may have been played against: an account per layout. Raises
    RigError where the rig itself fails."""
    session = engine.session
    session.force_quantum(quantum)
    rng = random.Random(seed)
    accounts = [Account(row.name, layout) for layout in LAYOUTS]
    with (
        FaultyDriver(
            session,
            name=accounts[0].device,
            hold=True,
            source_id=seed % 100 + 1,
            patience_ms=0 if row.hurries else PATIENCE_MS,
            ppm=row.ppm or 0,
            properties=GROUP if row.ppm is not None else None,
        ) as driver,
        ExitStack() as stack,
    ):
        leader = driver
        if row.ppm is not None:
            leads = FaultyDriver(session, name="truth-leader", hold=True, properties=GROUP | LEADS)
            leader = stack.enter_context(leads)
        for account in accounts:
            engine.call(
                "stream_start",
                uri=account.uri,
                device_identity=account.device,
                format={"type": "audio", "layout": account.layout},
                chunk_size_bytes=int(CHUNK_S * RATE) * 8,
                wait=True,
            )
        leader.begin()
        for account in accounts:
            engine.await_status(account.uri, lambda status: status["state"] == "streaming" and status["head_frame"] > 0)
        for _ in range(row.times):
            time.sleep(rng.uniform(0.5, 1.5) * PAUSE_S)  # it keeps the rules meanwhile
            if row.commands:
                driver.do(*row.commands)
            if row.then:
                time.sleep(row.while_s)  # the fault lasts
                driver.do(*row.then)
            if row.hurries:
                _hinder(session, engine, rng)
        time.sleep(3 * PAUSE_S)  # and afterwards
        leader.hold()
        recordings = [Path(engine.call("stream_stop", uri=account.uri)["recording"]) for account in accounts]
        for account in accounts:
            account.verified = engine.call("verify", uri=account.uri)["ok"]
        follows_from = int(driver.wait_for("follows")["position"]) if leader is not driver else None
        life = leader.finish()
    session.force_quantum(0)
    for account, recording in zip(accounts, recordings, strict=True):
        account.offered = int(life["cycles"]) * quantum
        if row.hurries:  # in cycles of several lengths
            account.offered = int(life["end"]) - int(life["first"])
        offered = range(int(life["first"]), int(life["end"]))
        _weigh(account, load(recording), row, driver.source_id, offered, follows_from)
    return accounts


def _hinder(session: Session, engine: Engine, rng: random.Random) -> None:
    """One of `proof.truth`'s faults, so long that the callback may come out of it a cycle behind."""
    seconds = rng.choice([0.0005, 0.001, 0.01, 0.03, 0.1]) * rng.uniform(0.5, 1.0)
    match rng.choice(["client_stopped", "data_thread_held", "data_thread_held", "quantum_changed"]):
        case "client_stopped":
            with stopped(engine.pid):
                time.sleep(seconds)  # the fault lasts
        case "data_thread_held":
            hold_thread(data_thread(engine.pid), seconds)
        case "quantum_changed":
            session.force_quantum(rng.choice([64, 256, 1024]))


def _weigh(
    account: Account, info: RecordingInfo, row: Row, source_id: int, offered: range, follows_from: int | None
) -> None:
    in_gap = np.zeros(info.n_frames, dtype=bool)
    for gap in info.gaps:
        account.in_ledger[gap.cause.label] += gap.n_frames
        in_gap[gap.first_frame : gap.first_frame + gap.n_frames] = True
    positions, numbers, silent = _read(info, source_id)
    if row.stands:
        positions = _numbered(positions, numbers, in_gap)
    account.before = int(positions[0]) - offered.start if info.n_frames else len(offered)
    wrap = modulus(info.definition.channels)
    own = positions
    if follows_from is not None and row.ppm is not None:
        own = follows_from + ((positions - follows_from) * (1 + row.ppm * 1e-6)).astype(np.int64)
        if [mark.frame for mark in info.marks] != [0]:
            account.unaccounted += info.n_frames
            account.notes.append(f"that it is resampled should stand at frame 0: {info.marks}")
    right = ~in_gap & (numbers == own % wrap)
    if row.silences:
        right |= ~in_gap & silent
    wrong = ~right & ~(in_gap & silent)
    account.captured = int(np.count_nonzero(right))
    account.wrong = int(np.count_nonzero(wrong))
    if account.wrong:
        first = int(np.flatnonzero(wrong)[0])
        account.notes.append(f"frame {first}: number {numbers[first]}, position {positions[first] % wrap}")
    kept = np.flatnonzero(~in_gap)
    steps, moves = np.diff(kept), np.diff(positions[kept])
    for at in np.flatnonzero(steps != moves):
        before, step, moved = int(kept[at]), int(steps[at]), int(moves[at])
        if step == 1:
            account.unaccounted += max(1, moved - 1)
            account.notes.append(f"behind frame {before} the position moves by {moved}, and no gap says so")
        elif not row.moves and (not row.stands or abs(step - moved) > QUANTUM):
            account.stretched += 1
            account.notes.append(f"the gap of {step - 1} frames behind {before} stands for {moved - 1}")
    if info.n_frames and not in_gap[-1]:
        account.unaccounted += max(0, offered.stop - 1 - int(positions[-1]))


def _numbered(
    positions: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64], in_gap: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """The positions that the first number of each run of frames between gaps gives to it."""
    found = positions.copy()
    edges = np.flatnonzero(np.diff(in_gap, prepend=True, append=True))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        found[begin:end] = numbers[begin] + np.arange(end - begin)
    return found


def _read(
    info: RecordingInfo, source_id: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Of each frame of the timeline: its position by the last anchor before it, its number, and if it is all zeros."""
    positions = np.arange(info.n_frames, dtype=np.int64)
    for anchor in sorted(info.anchors, key=lambda anchor: anchor.frame):
        after = positions[anchor.frame :].shape[0]
        positions[anchor.frame :] = anchor.position + np.arange(after)
    numbers, silent, at = [], [], 0
    while at < info.n_frames:
        samples = samples_at(info, at)
        numbers.append(decode(samples, source_id))
        silent.append(~np.any(samples, axis=0))
        at += samples.shape[1]
    return positions, np.concatenate(numbers), np.concatenate(silent)
