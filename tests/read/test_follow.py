from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from handmade import Engine

from chaos import _layout
from chaos.read import follow
from chaos.read import recording as reader
from chaos.read.follow import Interrupted, Lapped
from chaos.staging import reader as staging
from chaos.terms.errors import InvalidRequest, TimedOut
from chaos.terms.ledger import Cause


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path, n_slots=4)
    yield engine
    engine.close()


def test_blocks_come_as_frames_do(engine: Engine) -> None:
    engine.cycle(100)
    with reader.open(engine.writer.path) as recording:
        follower = recording.follow(256, first_frame=0)
        for n_frames in (200, 1000, 3, 700, 2100):
            engine.cycle(n_frames)
            while follower.frame + 256 <= len(recording):
                first = follower.frame
                np.testing.assert_array_equal(next(follower), engine.model[:, first : first + 256])
            engine.rotate()
        engine.finish()
        rest = np.concatenate(list(follower), axis=1)
        np.testing.assert_array_equal(rest, engine.model[:, -rest.shape[1] :])
        assert (follower.frame, follower.n_laps) == (4103, 0)
        with pytest.raises(StopIteration):
            next(follower)


def test_it_begins_at_the_head_and_waits(engine: Engine) -> None:
    engine.cycle(1500)
    with reader.open(engine.writer.path) as recording:
        follower = recording.follow(1024)

        def feed() -> None:
            for _ in range(4):
                engine.cycle(256)

        feeder = threading.Thread(target=feed)
        feeder.start()
        block = next(follower)
        feeder.join()
        np.testing.assert_array_equal(block, engine.model[:, 1500:2524])


def test_a_finished_recording_is_given_whole(engine: Engine) -> None:
    engine.cycle(3000)
    engine.finish()
    with reader.open(engine.writer.path) as recording:
        blocks = list(recording.follow(700, first_frame=0))
        assert [block.shape[1] for block in blocks] == [700, 700, 700, 700, 200]
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), engine.model)
        assert list(recording.follow(700)) == []


def lap(engine: Engine) -> None:
    """The slots go round more than once."""
    for _ in range(6):
        engine.cycle(1024)
        engine.rotate()


def test_one_that_was_lapped_is_told_once_and_misses_nothing(engine: Engine) -> None:
    engine.cycle(500)
    with reader.open(engine.writer.path) as recording:
        follower = recording.follow(400, first_frame=0)
        next(follower)
        lap(engine)
        with pytest.raises(Lapped, match="stands at frame 400") as caught:
            next(follower)
        assert caught.value.details == {"frame": 400, "oldest_frame": 3072, "head": 6644}
        blocks = [next(follower) for _ in range(15)]
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), engine.model[:, 400:6400])
        lap(engine)
        with pytest.raises(Lapped):
            next(follower)
        assert follower.n_laps == 2


@pytest.mark.parametrize(("lapped", "goes_on"), [("catch_up", 400), ("skip", 6644)])
def test_one_that_was_lapped_goes_on_as_asked(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, lapped: str, goes_on: int
) -> None:
    engine.cycle(500)
    with reader.open(engine.writer.path) as recording:
        follower = recording.follow(400, first_frame=0, lapped=lapped)  # type: ignore[arg-type]
        next(follower)
        lap(engine)
        engine.cycle(500)
        goes_on += 0 if lapped == "catch_up" else 500
        engine.cycle(500)
        if lapped == "skip":
            goes_on += 500
            naps = iter([lambda: engine.cycle(400)])  # more comes only once it waits at the head
            monkeypatch.setattr(follow.time, "sleep", lambda _: next(naps)())
        block = next(follower)
        np.testing.assert_array_equal(block, engine.model[:, goes_on : goes_on + 400])
        assert (follower.frame, follower.n_laps) == (goes_on + 400, 1)


def test_catching_up_from_far_behind_is_no_lap(engine: Engine) -> None:
    lap(engine)
    with reader.open(engine.writer.path) as recording:
        follower = recording.follow(1000, first_frame=0)
        blocks = [next(follower) for _ in range(6)]
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), engine.model[:, :6000])


def test_a_slot_that_is_taken_away_in_mid_copy_is_never_given(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slot is given back and filled anew between the copy and the look at its number."""
    engine.cycle(1024)
    calls: list[None] = []
    real = _layout.acquire_fence

    def fence() -> None:
        calls.append(None)
        if len(calls) == 1:
            engine.rotate()
            engine.cycle(4096)
        real()

    with staging.StagingReader(engine.path) as straight:
        monkeypatch.setattr(_layout, "acquire_fence", fence)
        assert straight.read_chunk(0, 0, 1024) is None
        assert len(calls) == 1
    monkeypatch.undo()
    engine.rotate()
    calls.clear()
    with reader.open(engine.writer.path) as recording:
        np.testing.assert_array_equal(recording[:], engine.model)


def test_gaps_are_known_before_the_journal_has_them(engine: Engine) -> None:
    engine.cycle(300)
    with reader.open(engine.writer.path) as recording:
        assert recording.gaps == []
        engine.cycle(100, skipped=250)
        engine.cycle(100, skipped=1000)
        known = [(gap.first_frame, gap.n_frames, gap.cause) for gap in recording.gaps]
        assert known == [(300, 250, Cause.MISSED), (650, 1000, Cause.MISSED)]
        block = recording.read(0, 1750, "nan")
        is_gap = np.zeros(1750, bool)
        is_gap[300:550] = is_gap[650:1650] = True
        np.testing.assert_array_equal(np.isnan(block[0]), is_gap)
        before = recording.gaps
        engine.rotate()
        recording.refresh()
        assert recording.gaps == before
        engine.cycle(10)
        assert recording.gaps == before


def test_an_open_gap_reaches_up_to_the_head(engine: Engine) -> None:
    engine.cycle(100)
    with reader.open(engine.writer.path) as recording:
        for _ in range(5):
            engine.cycle(1024)
        (gap,) = recording.gaps
        assert (gap.first_frame, gap.end_frame, gap.cause) == (4096, 5220, Cause.OVERRUN)
        assert recording.gaps_between(5000, 5100) == [gap]
        assert np.isnan(recording.read(5000, 5220, "nan")).all()
        engine.rotate()
        engine.cycle(200)
        (gap,) = recording.gaps
        assert (gap.first_frame, gap.end_frame) == (4096, 5220)
        np.testing.assert_array_equal(recording[5220:], engine.model[:, 5220:])


def test_more_gaps_than_the_ring_of_notes_has_are_all_known(engine: Engine) -> None:
    engine.cycle(8)
    with reader.open(engine.writer.path) as recording:
        for _ in range(3):
            for _ in range(1500):
                engine.cycle(8, skipped=8)
                engine.rotate()
        assert len(recording.gaps) == 4500


def test_silence_times_out(engine: Engine) -> None:
    engine.cycle(100)
    with reader.open(engine.writer.path) as recording:
        follower = recording.follow(200, first_frame=0, timeout_s=0.05)
        with pytest.raises(TimedOut, match="no new frame"):
            next(follower)
        engine.cycle(100)
        assert next(follower).shape == (2, 200)


@pytest.mark.parametrize(("n_frames", "first_frame"), [(0, 0), (-1, 0), (1, -1)])
def test_bad_blocks_are_refused(engine: Engine, n_frames: int, first_frame: int) -> None:
    with reader.open(engine.writer.path) as recording, pytest.raises(InvalidRequest):
        recording.follow(n_frames, first_frame)


def test_a_follower_of_a_dead_engine_gets_what_it_had(engine: Engine) -> None:
    engine.cycle(1500)
    with reader.open(engine.writer.path) as recording:
        engine.writer.close()
        follower, blocks = recording.follow(1000, first_frame=0), []
        with pytest.raises(Interrupted, match="ended without being stopped") as ended:
            blocks.extend(iter(follower))
        assert ended.value.details == {"frame": 1500}
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), engine.model)
        assert recording.state == "interrupted"


@pytest.mark.parametrize("clean", [True, False])
def test_a_follower_tells_a_stop_from_an_end_that_nobody_asked_for(engine: Engine, clean: bool) -> None:
    """Also where the take was recovered before it looked again."""
    engine.cycle(1500)
    with reader.open(engine.writer.path) as recording:
        follower = recording.follow(1000, first_frame=0)
        next(follower)
        engine.finish(clean=clean)
        assert next(follower).shape == (2, 500)
        with nullcontext() if clean else pytest.raises(Interrupted):
            assert list(follower) == []


def test_whatever_is_read_beside_the_writer_is_right(tmp_path: Path) -> None:
    """Random ranges near the head, while a thread feeds, skips, seals and runs out of slots."""
    engine = Engine(tmp_path, n_slots=3)
    engine.cycle(256)
    random = np.random.default_rng(5)

    def feed() -> None:
        for step in range(160):
            skipped = int(random.choice([100, 3000])) if random.random() < 0.1 else 0
            engine.cycle(int(random.choice([64, 256, 512])), skipped=skipped)
            if random.random() < 0.6 and not 60 < step < 90:
                engine.rotate()
            steps.put(step)
        engine.finish()
        steps.put(None)

    steps: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    feeder = threading.Thread(target=feed)
    read = []
    with reader.open(engine.writer.path) as recording:
        feeder.start()
        ranges = np.random.default_rng(6)
        while steps.get() is not None:
            for _ in range(5):
                last = int(ranges.integers(0, len(recording), endpoint=True))
                first = int(ranges.integers(max(0, last - 5000), last, endpoint=True))
                read.append((first, last, recording.read(first, last), recording.gaps_between(first, last)))
        feeder.join()
        recording.refresh()
        assert {gap.cause for gap in recording.gaps} == {Cause.MISSED, Cause.OVERRUN}
        for gap in recording.gaps:
            engine.model[:, gap.first_frame : gap.end_frame] = 0
        np.testing.assert_array_equal(recording[:], engine.model)
        for first, last, block, gaps in read:
            np.testing.assert_array_equal(block, engine.model[:, first:last])
            lost = [(gap.first_frame, min(gap.end_frame, last)) for gap in recording.gaps_between(first, last)]
            assert [(gap.first_frame, min(gap.end_frame, last)) for gap in gaps] == lost
    engine.close()
