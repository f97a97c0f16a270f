"""Takes by level, out of the ring: each begins and ends at the exact frame, however cycles and chunks lie."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lone import CYCLE, RATE, LoneStream
from racing import filling_within

from chaos.engine import messages as m
from chaos.engine.trigger import Off, On, Trigger, first_above, last_above
from chaos.protocol.requests import Levels
from chaos.read.recording import open as open_recording
from chaos.store.catalog import Catalog
from chaos.store.info import load
from chaos.store.recovery import recover
from chaos.store.store import Store
from chaos.store.summary import summaries
from chaos.store.verify import verify
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import ChaosError, StorageFull, StreamExists
from chaos.terms.ledger import Cause, Confidence

PRE, HOLD = 2_400, 4_800
SECOND = 188 * CYCLE
Signal = npt.NDArray[np.float32]


def expected_takes(loud: npt.NDArray[np.bool_], pre: int, hold: int) -> list[tuple[int, int, int]]:
    """(first wanted, first above, end) of each take, told the slow way; the last may end behind the signal."""
    found: list[tuple[int, int, int]] = []
    for frame in np.flatnonzero(loud):
        if found and frame < found[-1][2]:
            found[-1] = (*found[-1][:2], int(frame) + 1 + hold)
        else:
            found.append((int(frame) - pre, int(frame), int(frame) + 1 + hold))
    return found


@given(
    loud=st.lists(st.booleans(), min_size=1, max_size=120),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=60),
    hold=st.integers(1, 12),
)
def test_the_trigger_is_the_slow_way_however_it_is_cut(loud: list[bool], cuts: list[int], hold: int) -> None:
    signal = np.array(loud)
    trigger, told, end = Trigger(hold), [], 0

    def is_above(first: int, stop: int) -> bool:
        assert 0 <= first < stop <= end, "it looks at what is not there"
        return bool(signal[first:stop].any())

    for cut in [*cuts, len(loud)]:
        end = min(len(loud), end + cut)
        told += trigger.scan(
            end, lambda a, b: first_above(is_above, a, b), lambda a, b: last_above(is_above, a, b)
        )
    end = trigger.frame
    expected: list[On | Off] = []
    for _, above, over in expected_takes(signal[:end], 0, hold):
        expected += [On(above), *([Off(over)] if over <= end else [])]
    assert told == expected


class Loud(LoneStream):
    """A stream with a trigger at -40 dBFS, and a signal that is known frame by frame."""

    def __init__(self, folder: Path, levels: Levels, **request: Any) -> None:
        super().__init__(folder, trigger=levels, **request)
        self.folder = folder
        self.signal: Signal = np.zeros(0, dtype="<f4")
        self.plug()

    def play(self, n_frames: int, *loud: tuple[int, int], missing: bool = False) -> None:
        """Whole cycles; frames carry their number, far below the threshold, but for those in `loud`."""
        part = self.follow(n_frames, *loud, missing=missing)
        for k in range(0, 0 if missing else len(part), CYCLE):
            self.capture.cycle(np.tile(part[k : k + CYCLE], 2).tobytes())
            if k // CYCLE % 8 == 0:
                self.catch_up()
        if not missing:
            self.catch_up()

    def bring(self, n_frames: int, *loud: tuple[int, int]) -> None:
        """As `play`, but nobody looks at it meanwhile."""
        part = self.follow(n_frames, *loud)
        for k in range(0, len(part), CYCLE):
            self.capture.cycle(np.tile(part[k : k + CYCLE], 2).tobytes())

    def follow(self, n_frames: int, *loud: tuple[int, int], missing: bool = False) -> Signal:
        """The next frames of the signal."""
        n_frames = -(-n_frames // CYCLE) * CYCLE
        first = len(self.signal)
        part = (np.arange(first + 1, first + n_frames + 1) * 2.0**-40).astype("<f4")
        for begin, end in loud:
            part[begin:end] = 0.5
        if missing:
            self.capture._position += n_frames
            part[:] = 0
        self.signal = np.concatenate([self.signal, part])
        return part

    def checkpoint(self) -> None:
        """A second has passed, and what is due then is done."""
        take = self.actor._takes.current
        assert take is not None
        take.rotator.tell(m.Tick())
        self.catch_up()
        while not self.actor.actor_inbox.empty():
            self.give(self.actor.actor_inbox.get().message)

    def told(self, kind: str) -> list[dict[str, Any]]:
        found = []
        while not self.events.empty():
            found.append(self.events.get())
        return [fields for name, fields in found if name == kind]

    def recordings(self) -> list[Path]:
        return sorted((self.folder / "store" / "recordings").rglob("*.zarr"), key=lambda p: load(p).definition.uri)

    def check(self, first: int, path: Path, end: int, *, clean: bool = True) -> None:
        """The recording is just these frames of the signal."""
        uri = load(path).definition.uri
        with open_recording(uri, self.folder / "store") as recording:
            assert recording.n_frames == end - first
            assert np.array_equal(recording[:], np.tile(self.signal[first:end], (2, 1)))
        report = verify(path)
        assert (report.ok, report.clean, report.bad) == (True, clean, [])


@pytest.fixture
def loud(folder: Path) -> Iterator[Loud]:
    stream = Loud(folder, Levels(-40.0, PRE / RATE, HOLD / RATE))
    yield stream
    stream.close()


def test_a_mark_during_a_take_is_told_as_of_that_take(loud: Loud) -> None:
    def mark(label: str, frame: int | None = None) -> Any:
        future: Future[Any] = Future()
        loud.give(m.MarkFrame(label, frame, future))
        return future.result(10)

    loud.play(SECOND)
    assert mark("nothing runs").recording == ""
    assert mark("nothing runs").note.startswith("no take has this frame: the mark is kept only if one begins within ")
    loud.play(CYCLE * 8, (100, 110))
    first = SECOND + 100 - PRE
    marked = mark("in it")
    assert marked.note == ""
    take = load(Path(marked.recording))
    assert (marked.uri, marked.frame) == (take.definition.uri, len(loud.signal) - first)
    loud.play(2 * SECOND)
    [path] = loud.recordings()
    assert str(path) == marked.recording
    assert (marked.frame, "in it") in {(each.frame, each.label) for each in load(path).marks}


def test_a_take_is_exact_and_the_ring_goes_on_without_a_seam(loud: Loud) -> None:
    loud.play(SECOND)
    loud.play(SECOND, (1_000, 1_001))
    loud.play(SECOND, (10_000, 30_000), (30_000 + HOLD - 1, 30_000 + HOLD), (45_000, 45_010))
    loud.play(SECOND)
    takes = expected_takes(loud.signal[:] > 0.01, PRE, HOLD)
    assert len(takes) == 3
    ended = loud.told("stream_trigger_ended")
    assert len(ended) == 3
    for told, (first, _, end) in zip(ended, takes, strict=True):
        loud.check(first, Path(told["recording"]), end)
        assert (told["n_frames"], told["lost_frames"], told["n_gaps"]) == (end - first, 0, 0)
        info = load(Path(told["recording"]))
        assert [mark.frame for mark in info.marks] == [PRE]
        assert info.anchors[0].position - loud.capture._first == first, "its clock is that of its frames"
    stopped = loud.stop()
    assert (stopped.recording, stopped.n_frames, stopped.n_takes, stopped.clean) == ("", 0, 3, True)
    assert len(loud.recordings()) == 3


def test_a_stop_tells_the_figures_of_all_takes_together(loud: Loud) -> None:
    """A gap and clipping in one of them are told where nobody has looked at it yet."""
    loud.play(SECOND)
    loud.play(8 * CYCLE, (500, 600))
    loud.play(4096, missing=True)
    loud.play(SECOND, (100, 200))
    loud.play(SECOND)
    loud.capture.cycle(np.full((2, CYCLE), 1.5, dtype="<f4").tobytes())
    loud.catch_up()
    stopped = loud.stop()
    ended = loud.told("stream_trigger_ended")
    assert len(ended) >= 2
    total = stopped.total
    assert total.n_takes == stopped.n_takes == len(ended)
    for figure in ("n_frames", "n_gaps", "lost_frames"):
        assert getattr(total, figure) == sum(each[figure] for each in ended)
    assert total.lost_frames >= 4096
    assert (total.n_clipped, total.n_not_finite) == (2 * CYCLE, 0)


def test_where_the_ring_does_not_reach_back_it_is_said(loud: Loud) -> None:
    loud.play(3 * CYCLE, (300, 301))
    loud.play(SECOND)
    [told] = loud.told("stream_triggered")
    assert (told["first_frame"], told["n_before"], told["is_short"]) == (0, 300, True)
    loud.check(0, Path(told["recording"]), 301 + HOLD)


def test_a_stop_ends_the_take_that_runs(loud: Loud) -> None:
    loud.play(SECOND)
    loud.play(4 * CYCLE, (500, 600))
    stopped = loud.stop()
    assert (stopped.n_takes, stopped.clean) == (1, True)
    [path] = loud.recordings()
    loud.check(SECOND + 500 - PRE, path, len(loud.signal))


def test_gaps_are_in_the_takes_they_lie_in(loud: Loud) -> None:
    loud.play(SECOND)
    loud.play(4 * CYCLE, (500, 501))
    loud.play(3 * CYCLE, missing=True)
    loud.play(4 * CYCLE, (20, 40))
    loud.play(SECOND)
    loud.play(SECOND, (100, 101))
    first_gap = SECOND + 4 * CYCLE
    ended = loud.told("stream_trigger_ended")
    assert len(ended) == 2
    info = load(Path(ended[0]["recording"]))
    [gap] = info.gaps
    begin = SECOND + 500 - PRE
    assert gap.first_frame == first_gap - begin
    assert gap.n_frames >= 3 * CYCLE, "what follows a jump may not be believed at once"
    assert ended[0]["lost_frames"] == gap.n_frames
    assert load(Path(ended[1]["recording"])).gaps == []
    with open_recording(info.definition.uri, loud.folder / "store") as recording:
        expected = loud.signal[begin : begin + recording.n_frames].copy()
        expected[gap.first_frame : gap.end_frame] = 0
        assert np.array_equal(recording[:][0], expected)
    assert verify(info.path).bad == []


def test_what_storage_refuses_is_tried_again_and_nothing_is_missing(folder: Path) -> None:
    stream = Loud(folder, Levels(-40.0, PRE / RATE, HOLD / RATE))
    refused: list[int] = []

    def refusing(name: str, times: int) -> Any:
        real = getattr(RecordingWriter, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if len(refused) < times:
                refused.append(1)
                raise StorageFull("full", hint="wait")
            return real(*arguments, **options)

        return mock.patch.object(RecordingWriter, name, call)

    try:
        stream.play(SECOND)
        for name in ("create", "seal", "finish"):
            refused.clear()
            with refusing(name, 3):
                begin = len(stream.signal)
                stream.play(10 * CYCLE, (300, 320))
                stream.play(SECOND)
            stream.catch_up()
            assert len(refused) == 3
            ended = stream.told("stream_trigger_ended")
            assert len(ended) == 1, name
            stream.check(begin + 300 - PRE, Path(ended[0]["recording"]), begin + 320 + HOLD)
    finally:
        stream.close()


def test_keep_is_refused_and_takes_of_one_second_have_names_of_their_own(loud: Loud) -> None:
    loud.play(SECOND, (20_000, 20_001), (30_000, 30_001))
    loud.play(SECOND)
    future: Future[Any] = Future()
    loud.give(m.KeepStandby(future))
    with pytest.raises(ChaosError, match="trigger"):
        future.result(20)
    uris = [load(path).definition.uri for path in loud.recordings()]
    assert len(set(uris)) == 2
    assert all(Store(loud.folder / "store").path(uri).exists() for uri in uris)


def test_a_name_that_is_taken_meanwhile_is_counted_up_and_costs_no_frame(loud: Loud) -> None:
    real, asked = RecordingWriter.create, []

    def create(store: Store, definition: Any, *more: Any) -> RecordingWriter:
        asked.append(definition.uri)
        if len(asked) == 1:
            raise StreamExists("another process was quicker")
        return real(store, definition, *more)

    with mock.patch.object(RecordingWriter, "create", create):
        loud.play(SECOND, (20_000, 20_001))
    [ended] = loud.told("stream_trigger_ended")
    assert ended["take"] == asked[1] == f"{asked[0]}-2"
    loud.check(20_000 - PRE, Path(ended["recording"]), 20_001 + HOLD)


def test_samples_of_16_bits_are_looked_at_too(folder: Path) -> None:
    stream = Loud(folder, Levels(-6.5, 0.0, 0.1), sample_format="s16")
    try:
        stream.play(SECOND, (7_777, 7_778))
        stream.play(SECOND)
        [ended] = stream.told("stream_trigger_ended")
        assert ended["n_frames"] == 1 + HOLD
    finally:
        stream.close()


def test_a_slot_that_becomes_full_while_it_is_looked_at_is_not_taken_for_silence(loud: Loud) -> None:
    loud.play(SECOND)
    begin = len(loud.signal)
    loud.bring(2 * CYCLE, (300, 310))
    with filling_within("_trigger", lambda room: loud.bring(room + CYCLE)) as filled:
        loud.catch_up()
    assert filled
    loud.play(SECOND)
    [ended] = loud.told("stream_trigger_ended")
    loud.check(begin + 300 - PRE, Path(ended["recording"]), begin + 310 + HOLD)


def test_what_runs_is_told_with_its_length_and_listed_with_what_is_on_disk(loud: Loud) -> None:
    loud.play(SECOND)
    loud.play(20 * CYCLE, (500, 4_000))
    loud.checkpoint()
    trigger = loud.view.status().trigger
    assert trigger is not None
    first = SECOND + 500 - PRE
    assert (trigger.n_takes, trigger.n_frames) == (1, len(loud.signal) - first)
    with Catalog(Store(loud.folder / "store")) as catalog:
        [line] = summaries(catalog.store, catalog.entries())
    assert (line.uri, line.state, line.n_frames) == (trigger.take, "recording", trigger.n_frames)
    assert line.n_bytes == line.n_frames * 2 * 4
    loud.play(SECOND)
    loud.told("stream_trigger_ended")
    with Catalog(Store(loud.folder / "store")) as catalog:
        [line] = summaries(catalog.store, catalog.entries())
    assert (line.state, line.n_frames) == ("finished", 4_000 - 500 + PRE + HOLD)


@pytest.mark.parametrize("hold", [10 * RATE, HOLD])
def test_what_found_no_slot_is_in_the_ledger_of_its_take(folder: Path, hold: int) -> None:
    """Also where the take ends within the gap, as nothing was heard there."""
    loud = Loud(folder, Levels(-40.0, PRE / RATE, hold / RATE))
    try:
        loud.play(SECOND)
        n_loud = 5 * SECOND
        loud.bring(n_loud, (300, n_loud))  # more than there are slots, and nobody empties them
        loud.catch_up()
        loud.play(SECOND)
        loud.stop()
        told = [loud.events.get() for _ in range(loud.events.qsize())]
        [ended, *_] = [fields for kind, fields in told if kind == "stream_trigger_ended"]
        [lost] = [fields for kind, fields in told if kind == "stream_gap" and fields["n_frames"]]
        first = SECOND + 300 - PRE
        [gap] = load(Path(ended["recording"])).gaps
        assert (gap.cause, gap.confidence, gap.n_frames) == (Cause.OVERRUN, Confidence.EXACT, ended["lost_frames"])
        assert first + gap.first_frame == lost["first_frame"]
        assert gap.n_frames == (lost["n_frames"] if hold > HOLD else HOLD)
        report = verify(Path(ended["recording"]))
        assert (report.ok, report.bad, report.lost_frames) == (True, [], gap.n_frames)
        with open_recording(ended["take"], folder / "store") as recording:
            expected = loud.signal[first : first + recording.n_frames].copy()
            expected[gap.first_frame : gap.end_frame] = 0
            assert np.array_equal(recording[:][0], expected)
    finally:
        loud.close()


def test_a_crash_leaves_the_take_up_to_its_last_checkpoint_and_says_so(folder: Path) -> None:
    stream = Loud(folder, Levels(-40.0, PRE / RATE, HOLD / RATE))
    stream.play(SECOND)
    stream.play(20 * CYCLE, (500, 4_000))
    stream.checkpoint()
    n_kept = len(stream.signal) - (SECOND + 500 - PRE)
    stream.bring(CYCLE)
    stream.close()
    first, second = recover(Store(folder / "store"), folder / "staging").items
    assert (first.outcome, first.uri) == ("removed", stream.view.uri)
    assert first.text.endswith("recorded by level: what it held in memory is gone, and its takes are recordings")
    assert (second.outcome, second.n_frames, second.n_recovered) == ("recovered", n_kept, n_kept % 1024)
    assert second.text.endswith("it was a take by level, and ends at its last checkpoint: up to a second of it is lost")
    stream.check(SECOND + 500 - PRE, Path(str(second.recording)), len(stream.signal) - CYCLE, clean=False)
