"""Somebody sets the wall clock while a stream runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from crashing import CrashingStream, fast_folder

from chaos.store.info import load
from chaos.store.timeline import frame_of_moment, wall_clock
from chaos.store.verify import verify
from chaos.terms.errors import InvalidRange

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


def test_without_a_step_nothing_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = stepped(folder, monkeypatch, 0)
    assert stream.told("clock_stepped") == []
    assert wall_clock(load(stream.recording)).steps == []
