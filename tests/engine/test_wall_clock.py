"""Somebody sets the wall clock while a stream runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zarr
from crashing import CrashingStream, fast_folder

from chaos.read import recording as reader
from chaos.store.info import load
from chaos.store.recovery import recover
from chaos.store.store import Store
from chaos.store.timeline import frame_of_moment, wall_clock
from chaos.store.verify import verify
from chaos.system.kernelclock import ClockQuality
from chaos.terms.errors import InvalidRange
from chaos.terms.ledger import ClockState

DAY_NS = 86_400 * 10**9


@pytest.fixture
def folder() -> Iterator[Path]:
    with fast_folder() as folder:
        yield folder


def stepped(folder: Path, monkeypatch: pytest.MonkeyPatch, by_ns: int) -> CrashingStream:
    stream = CrashingStream(folder / "store", folder / "slots", chunk_frames=4096)
    stream.write(1000)
    stream.tick()
    now_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + by_ns)
    stream.write(1000)
    stream.tick()
    stream.write(1000)
    stream.tick()
    stream.stop()
    return stream


@pytest.mark.parametrize("by_ns", [200 * DAY_NS, -3600 * 10**9])
def test_the_step_is_in_the_ledger_and_told(folder: Path, monkeypatch: pytest.MonkeyPatch, by_ns: int) -> None:
    stream = stepped(folder, monkeypatch, by_ns)
    ((_, told),) = [each for each in stream.events if each[0] == "clock_stepped"]
    assert told["frame"] == 2000
    assert told["by_ns"] == pytest.approx(by_ns, abs=10**9)
    (step,) = wall_clock(load(stream.recording)).steps
    assert step.frame == 2000
    assert step.by_ns == pytest.approx(by_ns, abs=10**9)
    assert verify(stream.recording).bad == []


def test_a_time_that_never_was_is_refused_with_what_would_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = load(stepped(folder, monkeypatch, 200 * DAY_NS).recording)
    never = datetime.fromtimestamp((info.definition.started_wall_ns + 100 * DAY_NS) / 1e9, UTC)
    with pytest.raises(InvalidRange, match="never was") as caught:
        frame_of_moment(info, never)
    assert "frame 2000" in caught.value.hint


class Clock:
    """The wall clock, as somebody sets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_ns = 0
        now_ns = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: now_ns() + self.by_ns)


def begun(folder: Path) -> CrashingStream:
    stream = CrashingStream(folder / "store", folder / "slots", chunk_frames=4096)
    stream.write(1000)
    stream.tick()
    stream.write(1000)
    return stream


@pytest.mark.parametrize("ticks_before", [0, 1])
@pytest.mark.parametrize("by_ns", [40_000_000, -40_000_000, 3600 * 10**9])
def test_a_step_that_the_kernel_tells_of_is_kept_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, by_ns: int, ticks_before: int
) -> None:
    """Also where a tick has seen the new time before the notice comes: a small step is none to a tick."""
    clock, stream = Clock(monkeypatch), begun(folder)
    clock.by_ns = by_ns
    for _ in range(ticks_before):
        stream.tick()
    stream.clock_was_set()
    stream.clock_was_set()
    stream.write(2000)
    stream.tick()
    ((_, told),) = [each for each in stream.events if each[0] == "clock_stepped"]
    assert (told["frame"], told["by_ns"]) == (2000, pytest.approx(by_ns, abs=10**7))
    (anchor,) = [anchor for anchor in load(stream.recording).anchors if anchor.step_ns]
    assert (anchor.frame, anchor.step_ns) == (2000, pytest.approx(by_ns, abs=10**7))
    stream.stop()
    (step,) = wall_clock(load(stream.recording)).steps
    assert (step.frame, step.by_ns) == (2000, pytest.approx(by_ns, abs=10**7))
    assert verify(stream.recording).bad == []


def test_a_step_while_no_frame_comes_is_kept_with_the_next(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(monkeypatch), CrashingStream(folder / "store", folder / "slots", chunk_frames=1000)
    stream.write(1000)
    stream.tick()
    stream.miss(500)
    stream.write(500)  # an anchor after the gap, at the head
    stream.tick()
    frames = [anchor.frame for anchor in load(stream.recording).anchors]
    clock.by_ns = 50_000_000
    stream.clock_was_set()
    stream.miss(700)
    stream.write(100)
    stream.tick()
    after = [anchor for anchor in load(stream.recording).anchors if anchor.frame > frames[-1]]
    assert [anchor.step_ns for anchor in after if anchor.step_ns] == [pytest.approx(50_000_000, abs=10**7)]
    stream.stop()


def test_a_notice_of_no_step_tells_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the clock is set to what it was, or a machine wakes up; also before anything was captured."""
    Clock(monkeypatch)
    early = CrashingStream(folder / "store", folder / "slots", uri="stream://mic/early")
    early.clock_was_set()
    early.stop()
    stream = begun(folder)
    stream.clock_was_set()
    stream.tick()
    stream.stop()
    assert (early.told("clock_stepped"), stream.told("clock_stepped")) == ([], [])
    assert not any(anchor.step_ns for anchor in load(stream.recording).anchors)


@pytest.mark.parametrize(
    "quality",
    [
        ClockQuality(ClockState.SYNCHRONIZED, 250_000, 90_000),
        ClockQuality(ClockState.SYNCHRONIZED, 0, 0),
        ClockQuality(ClockState.TIMESYNCD),
        ClockQuality(ClockState.UNSYNCHRONIZED),
        ClockQuality(ClockState.UNKNOWN),
    ],
)
def test_each_anchor_has_what_the_kernel_knew(folder: Path, quality: ClockQuality) -> None:
    stream = CrashingStream(folder / "store", folder / "slots", chunk_frames=1000, quality=lambda: quality)
    for _ in range(5):
        stream.write(700)
        stream.tick()
    stream.stop()
    with reader.open(stream.recording) as recording:
        assert len(recording.anchors) > 3
        found = {(each.clock_state, each.max_error_ns, each.est_error_ns) for each in recording.anchors}
    assert found == {tuple(quality)}
    table: Any = zarr.open_group(stream.recording, mode="r")["clock"]
    columns = list(table.attrs["columns"])
    state, most, likely = (-1 if value is None else int(value) for value in quality)
    assert {tuple(row[columns.index("max_error_ns") :]) for row in table[:].tolist()} == {(most, likely, state, 0)}
    assert table.attrs["clock_states"][str(state)] == quality.state.label
    assert verify(stream.recording).bad == []


def test_what_is_recovered_claims_no_error(folder: Path) -> None:
    """The anchors of a dead engine that only staging has: what its clock was worth then, nobody knows any more."""
    known = ClockQuality(ClockState.SYNCHRONIZED, 1_000, 500)
    stream = CrashingStream(folder / "store", folder / "slots", chunk_frames=1000, quality=lambda: known)
    stream.write(700)
    stream.tick()
    stream.write(900)
    stream.crash()
    assert recover(Store(folder / "store"), folder / "slots").ok
    states = [anchor.clock_state for anchor in load(stream.recording).anchors]
    assert states[0] is ClockState.SYNCHRONIZED
    assert set(states[1:]) == {ClockState.UNKNOWN}
    assert verify(stream.recording).bad == []


def test_without_a_step_nothing_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = stepped(folder, monkeypatch, 0)
    assert stream.told("clock_stepped") == []
    assert wall_clock(load(stream.recording)).steps == []
