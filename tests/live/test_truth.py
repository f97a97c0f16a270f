"""What `tools/truth` proves, in short: whatever happens, each frame is in its place or in the ledger."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from proof import devices, keys, truth
from proof.engine import Engine
from proof.placing import Incarnation, place
from rig import MIDI, Event, Session, decode, encode

from chaos.store.info import load
from chaos.store.lines import Definition
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.ledger import Cause, ClockAnchor, Confidence, Gap

CHUNK = 4096
DEFINITION = Definition(
    uri="stream://truth/model",
    channels=2,
    sample_rate=48000,
    sample_format="f32",
    chunk_frames=CHUNK,
    device={},
    positions=["FL", "FR"],
    started_wall_ns=0,
    started_monotonic_ns=0,
    software="a test",
    run_id="0" * 32,
)
PLANS = (
    truth.Plan(seconds=8, seed=1, pause_s=0.25),
    truth.Plan(seconds=5, seed=2, quantum=64, pause_s=0.1, faults={"client_stopped": 1, "data_thread_held": 2}),
    truth.Plan(seconds=6, seed=3, channels=8, quantum=256, pause_s=0.15, interleaved=True),
)


@pytest.mark.faults
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"seed{plan.seed}")
def test_every_frame_is_in_its_place_or_in_the_ledger(session: Session, tmp_path: Path, plan: truth.Plan) -> None:
    result = truth.run(session, tmp_path, plan)
    assert result.verified
    assert result.placed.ok, result.placed
    assert result.placed.in_ledger["missed"] > 0, "no fault was felt, so nothing was proved"
    assert result.placed.captured > 20_000


@pytest.mark.faults
def test_every_event_is_at_its_frame_or_in_a_gap(session: Session, tmp_path: Path) -> None:
    found = keys.capture(session, tmp_path, seconds=5, seed=4, pause_s=0.25)
    assert found.ok, found
    assert found.faults.total() > 0
    assert found.stored > 0


def anchor(frame: int, position: int) -> ClockAnchor:
    return ClockAnchor(frame, position, 0, 0)


def test_an_account_of_events_finds_what_is_wrong() -> None:
    offered = [Event(keys.APART + at, 0, MIDI, bytes([0x90, at % 128, 1])) for at in (10, 300, 600, 900, 1500, 2100)]
    anchors = [anchor(0, keys.APART), anchor(1000, keys.APART + 2000)]  # the clock jumped by 1,000 frames
    gaps = [Gap(500, 200, Cause.MISSED, Confidence.EXACT), Gap(1000, 0, Cause.DRIVER_SWITCH, Confidence.CLOCK)]
    right = [(10, offered[0].data), (300, offered[1].data), (900, offered[3].data), (1100, offered[5].data)]

    found = keys.account([offered], right, anchors, gaps, 2000)
    assert found.ok, found
    assert (found.offered, found.stored, found.in_gaps) == (6, 4, {"missed": 1, "driver_switch": 1})

    found = keys.account([offered], [*right[:1], (301, offered[1].data), *right[2:]], anchors, gaps, 2000)
    assert (found.misplaced, found.lost) == (1, 1)
    found = keys.account([offered], [*right, right[0]], anchors, gaps, 2000)
    assert (found.misplaced, found.lost) == (1, 0), "doubled"
    assert keys.account([offered], right, anchors, gaps[:1], 2000).lost == 1
    assert keys.account([offered], right, anchors, gaps[1:], 2000).lost == 1


@pytest.fixture(scope="module")
def engine(shared_session: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One for all devices that break the rules: none of them may disturb what comes after it."""
    with Engine(shared_session, tmp_path_factory.mktemp("devices")) as engine:
        yield engine


@pytest.mark.faults
@pytest.mark.parametrize("row", devices.ROWS, ids=lambda row: row.name.replace(" ", "-"))
def test_a_device_that_breaks_the_rules_costs_no_frame_unseen(
    session: Session, engine: Engine, row: devices.Row
) -> None:
    for found in devices.capture(engine, dataclasses.replace(row, times=min(row.times, 2)), seed=1):
        assert found.ok, found
        assert found.captured >= (found.offered - found.before) // 2, found


def record(store: Path, numbers: list[range | None], gaps: list[Gap]) -> Path:
    """A recording whose timeline holds these numbers of source 1, None for a chunk that is not there."""
    writer = RecordingWriter.create(Store(store), DEFINITION)
    for gap in gaps:
        writer.gap(gap)
    writer.anchor(ClockAnchor(0, 1000, 0, 0))
    for chunk, held in enumerate(numbers):
        if held is not None:
            samples = np.zeros((2, CHUNK), np.float32)
            samples[:, CHUNK - len(held) :] = encode(np.array(held), 2, 1)
            writer.seal(chunk, memoryview(samples.tobytes()), chunk * CHUNK, CHUNK)
    writer.finish(len(numbers) * CHUNK, clean=True)
    return writer.path


def told(n_frames: int, first_frame: int = CHUNK) -> Gap:
    return Gap(first_frame, n_frames, Cause.MISSED, Confidence.EXACT)


def first(n: int) -> range:
    return range(1000 + n * CHUNK, 1000 + (n + 1) * CHUNK)


@pytest.mark.parametrize(
    ("numbers", "gaps", "wrong"),
    [
        ([first(0), first(1)], [], {}),
        ([first(0), None, first(2)], [told(CHUNK)], {}),
        ([first(0), None, first(2)], [], {"silent": CHUNK}),
        ([first(0), None, first(1)], [told(CHUNK)], {"wrongly_placed": CHUNK}),
        ([first(0), first(0)], [], {"wrongly_placed": CHUNK}),
        ([first(0), first(2)], [], {"wrongly_placed": CHUNK}),
        ([first(0), range(1100 + CHUNK, 1000 + 2 * CHUNK)], [told(100)], {}),
        ([first(0), first(1)], [told(100)], {"foreign": 100}),
        ([first(0), range(9 << 24, (9 << 24) + CHUNK)], [], {"foreign": CHUNK}),
    ],
)
def test_the_account_finds_what_is_wrong(
    tmp_path: Path, numbers: list[range | None], gaps: list[Gap], wrong: dict[str, int]
) -> None:
    found = place(load(record(tmp_path, numbers, gaps)), [Incarnation(1, 3 * CHUNK, 1000, 1000 + 3 * CHUNK)], 3 * CHUNK)
    counts = dataclasses.asdict(found)
    assert {name: counts[name] for name in ("silent", "wrongly_placed", "foreign") if counts[name]} == wrong
    assert found.bad_anchors == 0
    assert found.ok == (not wrong)


def test_the_number_that_zeros_tell_is_a_frame(tmp_path: Path) -> None:
    blank = int(decode(np.zeros((2, 1), np.float32), 1)[0])
    numbers = [range(blank + k * CHUNK - 100, blank + (k + 1) * CHUNK - 100) for k in range(2)]
    path = record(tmp_path, [numbers[0], numbers[1]], [])
    offered = Incarnation(1, 2 * CHUNK, blank - 100, blank - 100 + 2 * CHUNK)
    found = place(load(path), [offered], CHUNK)
    assert (found.captured, found.silent) == (2 * CHUNK, 0)


def test_a_later_life_is_not_taken_for_the_one_before(tmp_path: Path) -> None:
    writer = RecordingWriter.create(Store(tmp_path), DEFINITION)
    lives = [Incarnation(1, 1 << 29, 0, 1 << 29), Incarnation(2, 1 << 20, 0, 1 << 20)]
    writer.anchor(ClockAnchor(0, 0, 0, 0))
    for chunk, source_id in enumerate([1, 2, 2]):
        first = (chunk - (source_id == 2)) * CHUNK
        data = encode(np.arange(first, first + CHUNK), 2, source_id)
        writer.seal(chunk, memoryview(data.tobytes()), chunk * CHUNK, CHUNK)
    writer.finish(3 * CHUNK, clean=True)
    found = place(load(writer.path), lives, 1 << 30)
    assert (found.captured, found.wrongly_placed, found.foreign) == (3 * CHUNK, 0, 0)


def test_what_the_timeline_has_no_room_for_is_unaccounted(tmp_path: Path) -> None:
    offered = Incarnation(1, 4 * CHUNK, 1000, 1000 + 4 * CHUNK)
    found = place(load(record(tmp_path, [first(0), first(1)], [])), [offered], CHUNK)
    assert found.unaccounted == CHUNK
    assert not found.ok
