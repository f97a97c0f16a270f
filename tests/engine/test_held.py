"""Standby: the last seconds are held in the slots, and become a recording from the oldest frame on when asked for.

Every frame carries its number, so that each one can be looked for at its place over the seam.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from crashing import fast_folder
from hypothesis import given
from hypothesis import strategies as st
from lone import CYCLE, RATE, URI, LoneStream, microphone

from chaos.engine import messages as m
from chaos.engine.standby import Standby
from chaos.protocol.answers import MidiActivity
from chaos.read.recording import open as open_recording
from chaos.staging.reader import StagingReader
from chaos.store.info import load
from chaos.store.lines import LatencyLine
from chaos.store.recovery import recover
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import ChaosError, InvalidRange, InvalidRequest, StorageFull
from chaos.terms.latency import Latency
from chaos.terms.ledger import Cause, ClockAnchor, Confidence, Gap, lost_frames
from chaos.terms.marks import Mark

CHUNK = 1024
SECOND = 188 * CYCLE


class Held(LoneStream):
    """A stream in standby for a second, of frames that carry their number."""

    def __init__(self, folder: Path, **request: Any) -> None:
        super().__init__(folder, standby_s=1.0, **request)
        self.folder = folder
        self.n_frames = 0
        self.plug()

    def count(self, n_frames: int, *, lacks: bool = False) -> None:
        """So many frames come, cycle by cycle; the rotator keeps up with them. With `lacks` the device has none."""
        for k in range(0, n_frames, CYCLE):
            numbers = np.arange(self.n_frames, self.n_frames + CYCLE, dtype="<f4")
            self.capture.cycle(None if lacks else np.tile(numbers, 2).tobytes())  # type: ignore[arg-type]
            self.n_frames += CYCLE
            if k // CYCLE % 8 == 0:
                self.catch_up()
        self.catch_up()

    def miss(self, n_cycles: int) -> None:
        """Cycles run without us."""
        self.capture._position += n_cycles * CYCLE
        self.n_frames += n_cycles * CYCLE

    def keep(self) -> Any:
        future: Future[Any] = Future()
        self.give(m.KeepStandby(future))
        return future.result(20)

    def check(self, first: int, gaps: list[tuple[int, int]]) -> None:
        """The recording has each number from `first` on at its place, and zeros in just these gaps."""
        with open_recording(URI, self.folder / "store") as recording:
            expected = np.arange(first, first + recording.n_frames, dtype="<f4")
            for begin, end in gaps:
                expected[begin:end] = 0
            assert np.array_equal(recording[:], np.tile(expected, (2, 1)))
            assert [(gap.first_frame, gap.end_frame) for gap in recording.gaps] == gaps

    def held_events(self) -> list[tuple[str, dict[str, Any]]]:
        found = []
        while not self.events.empty():
            found.append(self.events.get())
        return found


@pytest.fixture
def held(folder: Path) -> Iterator[Held]:
    stream = Held(folder)
    yield stream
    stream.close()


def test_nothing_is_written_before_it_is_kept(held: Held) -> None:
    held.count(3 * SECOND)
    assert list((held.folder / "store").rglob("*.zarr")) == []
    assert list((held.folder / "store" / "recordings").glob("*")) == []
    held.take_in(m.Began)
    begun = held.start.result(0)
    assert begun.recording == ""
    status = held.view.status()
    assert (status.standby_s, status.recording, status.overruns, status.lost_frames) == (1.0, "", 0, 0)
    assert status.started_utc is not None


def test_what_it_held_and_what_comes_have_no_seam(held: Held) -> None:
    held.count(3 * SECOND + 700)
    kept = held.keep()
    first = held.n_frames - kept.n_frames
    assert RATE <= kept.n_frames <= RATE + 2 * CHUNK
    assert first % CHUNK == 0
    held.count(SECOND)
    stopped = held.stop()
    assert (stopped.n_frames, stopped.n_gaps, stopped.lost_frames) == (kept.n_frames + SECOND, 0, 0)
    assert stopped.recording == kept.recording
    held.check(first, [])
    report = verify(Path(kept.recording))
    assert (report.ok, report.clean, report.lost_frames) == (True, True, 0)
    info = load(Path(kept.recording))
    anchors = sorted(info.anchors, key=lambda anchor: anchor.frame)
    assert anchors[0].frame == 0
    assert {anchor.position - anchor.frame for anchor in anchors} == {held.capture._first + first}
    assert info.definition.started_monotonic_ns == pytest.approx(held.capture.began_ns + first * 1e9 / RATE, abs=2)


def test_before_the_first_second_all_is_there(held: Held) -> None:
    held.count(1000)
    kept = held.keep()
    assert kept.n_frames == held.n_frames
    held.count(SECOND)
    held.stop()
    held.check(0, [])


def test_gaps_that_began_in_standby_are_in_the_ledger_as_they_were(held: Held) -> None:
    held.count(SECOND)
    held.miss(3)  # forgotten with the second around it
    held.count(2 * SECOND)
    held.miss(5)
    held.count(4000)
    kept = held.keep()
    first = held.n_frames - kept.n_frames
    assert (kept.n_gaps, kept.lost_frames) == (1, 5 * CYCLE)
    gap = held.n_frames - 4096 - 5 * CYCLE - first
    status = held.view.status()
    assert (status.n_gaps, status.lost_frames) == (1, 5 * CYCLE)
    stopped = held.stop()
    assert (stopped.n_gaps, stopped.lost_frames) == (1, 5 * CYCLE)
    held.check(first, [(gap, gap + 5 * CYCLE)])
    assert verify(Path(kept.recording)).ok
    told = [fields["first_frame"] for kind, fields in held.held_events() if kind == "stream_gap"]
    assert told[-1] == gap, "told anew, as the recording counts"


def test_a_gap_over_the_begin_counts_from_there(held: Held) -> None:
    """The device has been away for longer than what is held."""
    held.count(4 * CHUNK)
    held.count(2 * SECOND, lacks=True)
    kept = held.keep()
    held.count(CHUNK, lacks=True)
    held.count(SECOND)
    first = held.n_frames - held.view.head_frame
    lost = 4 * CHUNK + 2 * SECOND + CHUNK - first
    assert first > 4 * CHUNK
    assert kept.n_frames == lost - CHUNK
    stopped = held.stop()
    assert (stopped.n_gaps, stopped.lost_frames) == (1, _whole(lost))
    held.check(first, [(0, _whole(lost))])
    info = load(Path(kept.recording))
    assert lost_frames(info.gaps) == _whole(lost)
    assert verify(info.path).ok


def _whole(n_frames: int) -> int:
    return -(-n_frames // CYCLE) * CYCLE


def test_keep_is_harmless_twice_and_refused_where_there_is_nothing_to_keep(held: Held, folder: Path) -> None:
    held.count(CHUNK)
    assert held.keep().recording == held.keep().recording
    held.stop()
    with fast_folder() as other:
        stream = LoneStream(other)
        stream.plug()
        stream.run(4)
        future: Future[Any] = Future()
        stream.give(m.KeepStandby(future))
        with pytest.raises(InvalidRequest, match="from its start"):
            future.result(10)
        stream.close()


def test_kept_before_the_first_frame_it_records_from_that_on(held: Held) -> None:
    assert held.keep().recording == ""
    held.count(SECOND)
    assert held.stop().n_frames == held.n_frames
    held.check(0, [])


def test_the_callback_counts_on_where_frames_and_gaps_count_anew(held: Held) -> None:
    held.count(SECOND)
    held.miss(3)
    held.count(3 * SECOND)
    before = held.view.status()
    assert (before.xruns, before.n_gaps, before.lost_frames) == (1, 1, 3 * CYCLE)
    held.keep()
    after = held.view.status()
    assert (after.n_gaps, after.lost_frames) == (0, 0)
    assert after.head_frame < before.head_frame
    assert after.callbacks == before.callbacks > 0
    assert (after.xruns, after.overruns, after.callback_ns) == (before.xruns, before.overruns, before.callback_ns)


def test_nothing_is_said_in_frames_of_the_time_in_standby(held: Held) -> None:
    held.count(3 * SECOND)
    held.take_in(m.Began)
    take = held.actor._takes.current
    assert take is not None
    take.rotator.tell(m.Tick())
    held.catch_up()
    before = held.view.status().signal
    assert before is not None
    assert before.frame == held.n_frames
    held.view.heard = MidiActivity(1.0, "note on C4 97, channel 1", held.n_frames)
    kept = held.keep()
    held.take_in(m.Began)
    assert held.view.heard is None
    take.rotator.tell(m.Tick())
    held.catch_up()
    after = held.view.status().signal
    assert after is not None
    assert 0 < after.frame <= kept.n_frames < before.frame


def test_storage_that_refuses_leaves_it_in_standby(held: Held) -> None:
    held.count(2 * SECOND)
    held.miss(2)
    held.count(CHUNK)
    for _ in range(2):
        with (
            mock.patch.object(RecordingWriter, "create", side_effect=StorageFull("full", hint="make room")),
            pytest.raises(StorageFull),
        ):
            held.keep()
        assert held.view.status().standby_s == 1.0
    held.count(CHUNK)
    kept = held.keep()
    first = held.n_frames - kept.n_frames
    stopped = held.stop()
    assert (stopped.n_gaps, stopped.lost_frames) == (1, 2 * CYCLE)
    gap = held.n_frames - 2 * CHUNK - 2 * CYCLE - first
    held.check(first, [(gap, gap + 2 * CYCLE)])


def test_stopped_in_standby_nothing_is_left(held: Held) -> None:
    held.count(2 * SECOND)
    stopped = held.stop()
    assert (stopped.recording, stopped.n_frames, stopped.lost_frames, stopped.clean) == ("", 0, 0, True)
    assert list((held.folder / "staging").iterdir()) == []
    assert list((held.folder / "store").rglob("*.zarr")) == []


def test_a_reader_sees_what_is_held_and_not_sealed_yet(held: Held) -> None:
    held.count(2 * SECOND + 300)
    held.miss(1)
    held.count(CHUNK)
    kept = held.keep()
    first = held.n_frames - kept.n_frames
    with open_recording(URI, held.folder / "store") as recording:
        held.count(CHUNK // 2)
        assert recording.n_frames == kept.n_frames + CHUNK // 2
        tail = recording[kept.n_frames - 100 :]
        assert np.array_equal(tail[0], np.arange(held.n_frames - CHUNK // 2 - 100, held.n_frames, dtype="<f4"))
        assert [gap.n_frames for gap in recording.gaps] == [CYCLE]
    held.stop()
    assert first


def test_marks_of_what_was_held_are_in_the_recording(held: Held) -> None:
    held.count(2 * SECOND)
    marked: Future[Any] = Future()
    held.give(m.MarkFrame("that was it", None, marked))
    assert (marked.result(10).recording, marked.result().frame) == ("", held.n_frames)
    at = held.n_frames
    held.count(CHUNK)
    kept = held.keep()
    held.stop()
    assert load(Path(kept.recording)).marks == [Mark(at - (held.n_frames - kept.n_frames), "that was it")]


def test_marks_stay_at_their_frames_and_those_that_go_are_told(held: Held) -> None:
    def mark(label: str, frame: int | None = None) -> Any:
        future: Future[Any] = Future()
        held.give(m.MarkFrame(label, frame, future))
        return future.result(10)

    held.count(SECOND // 2)
    mark("goes")
    mark("goes, too", 5)
    held.count(3 * SECOND)
    now = mark("stays").frame
    with pytest.raises(InvalidRange, match=r"frame 5 of stream.* is no longer held") as refused:
        mark("too late", 5)
    first = int(refused.value.hint.split()[3])
    assert mark("the oldest", first).frame == first
    kept = held.keep()
    assert (kept.n_marks, kept.n_marks_gone) == (2, 2)
    begin = held.n_frames - kept.n_frames
    assert begin == first
    assert held.keep() == kept, "asked again it answers the same"
    held.stop()
    assert load(Path(kept.recording)).marks == [Mark(now - begin, "stays"), Mark(0, "the oldest")]
    told = [fields for name, fields in held.held_events() if name == "stream_mark"]
    assert [(each["frame"], each["label"]) for each in told[-2:]] == [(now - begin, "stays"), (0, "the oldest")]


def test_a_device_in_another_shape_is_waited_for(held: Held) -> None:
    held.count(CHUNK)
    held.take_in(m.Began)
    held.plug(microphone(names=("MONO",)))
    assert held.view.state == "waiting"


def crashed(held: Held) -> Any:
    """The daemon dies; what it left is brought in."""
    held.close()
    return recover(Store(held.folder / "store"), held.folder / "staging")


def test_a_crash_in_standby_leaves_nothing(folder: Path) -> None:
    held = Held(folder)
    held.count(2 * SECOND)
    [item] = crashed(held).items
    assert (item.outcome, item.recording) == ("removed", None)
    assert "standby" in item.text
    assert list((folder / "staging").iterdir()) == []


def test_a_crash_after_it_was_kept_loses_nothing(folder: Path) -> None:
    """Also of what was not sealed: it is in the staging file, in the callback's own count."""
    held = Held(folder)
    held.count(2 * SECOND)
    held.miss(4)
    held.count(CHUNK)
    kept = held.keep()
    held.miss(2)
    held.count(CHUNK + CHUNK // 2)
    first, n_frames = held.n_frames - held.view.head_frame, held.view.head_frame
    report = crashed(held)
    assert report.ok
    info = load(Path(kept.recording))
    assert info.n_frames == n_frames
    gaps = [(gap.first_frame, gap.end_frame) for gap in info.gaps]
    assert [end - begin for begin, end in gaps] == [4 * CYCLE, 2 * CYCLE]
    held.check(first, gaps)
    assert verify(info.path).ok


def test_a_crash_before_the_recording_was_made_loses_nothing_either(folder: Path) -> None:
    """It was asked for, and storage was about to be: recovery makes it, from the oldest frame on."""
    held = Held(folder)
    held.count(2 * SECOND)
    with (
        mock.patch.object(RecordingWriter, "create", side_effect=StorageFull("full")),
        mock.patch("chaos.staging.owner.Staging.hold_on"),
        pytest.raises(ChaosError),
    ):
        held.keep()
    n_frames = held.view.head_frame
    first = held.n_frames - n_frames
    assert crashed(held).ok
    info = load(held.folder / "store" / "recordings" / "mic" / "1.zarr")
    assert info.n_frames == n_frames
    held.check(first, [])
    assert info.definition.started_monotonic_ns == pytest.approx(held.capture.began_ns + first * 1e9 / RATE, abs=2)


def test_another_process_sees_that_it_is_in_standby(held: Held) -> None:
    held.count(CHUNK)
    [path] = (held.folder / "staging").iterdir()
    with StagingReader(path) as staging:
        assert staging.is_standby
        held.keep()
        assert not staging.is_standby


# -- the ledger alone


def anchor(frame: int, clock: int = 1) -> ClockAnchor:
    return ClockAnchor(frame, frame + 7_000, frame * 1_000_000_000 // RATE, frame * 1_000_000_000 // RATE + 5, clock)


@given(
    gaps=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30)), max_size=12),
    steps=st.lists(st.integers(0, 60), max_size=4),
    chunk=st.integers(0, 60),
)
def test_what_is_forgotten_and_what_is_left_are_all(
    gaps: list[tuple[int, int]], steps: list[int], chunk: int
) -> None:
    """However often it forgets, the gaps before the begin and those after it are all there were."""
    ledger: deque[Any] = deque([anchor(0)])
    at = 0
    for between, n_frames in gaps:
        at += between + 1
        ledger.append(Gap(at, n_frames, Cause.MISSED, Confidence.EXACT))
        at += n_frames
        ledger.append(anchor(at))
    total = lost_frames(entry for entry in ledger if isinstance(entry, Gap))
    standby = Standby(1.0)
    for first in [*sorted(step for step in steps if step <= chunk), chunk]:
        ledger = standby.forget(ledger, first)
    begin = standby.begin(ledger, chunk, 1, RATE, None, anchor(0))
    left = [entry for entry in begin.entries if isinstance(entry, Gap)]
    assert begin.n_lost + lost_frames(left) == total
    assert begin.n_gaps + len(left) == len(gaps)
    assert all(gap.first_frame >= 0 for gap in left)
    for entry in begin.entries:
        if isinstance(entry, ClockAnchor):
            assert entry.position - entry.frame == 7_000 + chunk
            assert entry.frame >= 0


def test_the_clock_is_not_believed_over_a_gap_that_reaches_over_the_begin() -> None:
    away = Gap(10, 100, Cause.DEVICE_AWAY, Confidence.CLOCK)
    ledger: deque[Any] = deque([anchor(0), away, anchor(110, clock=2)])
    standby = Standby(1.0)
    begin = standby.begin(standby.forget(ledger, 50), 50, 1, RATE, None, anchor(0))
    assert [each.frame for each in begin.entries if isinstance(each, ClockAnchor)] == [60]
    assert begin.monotonic_ns == pytest.approx(50 * 1e9 / RATE, abs=2)
    assert (begin.n_lost, begin.n_gaps) == (40, 0)


def test_the_last_word_of_the_latency_holds_on() -> None:
    said = [LatencyLine(frame, Latency(float(frame), 0, 0)) for frame in (0, 10, 90)]
    standby = Standby(1.0)
    begin = standby.begin(standby.forget(deque([anchor(0), *said]), 50), 50, 1, RATE, None, anchor(0))
    left = [each for each in begin.entries if isinstance(each, LatencyLine)]
    assert [(each.frame, each.latency.quanta) for each in left] == [(0, 10.0), (40, 90.0)]
