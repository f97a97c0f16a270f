"""The hand-off's properties, on the very code that the RT callback runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prepared import await_ready, in_graph

from chaos import _layout
from chaos.staging.owner import Staging
from chaos.terms.form import AudioForm
from chaos.terms.ledger import Cause, Confidence

DTYPES = {"f32": np.dtype("<f4"), "s16": np.dtype("<i2"), "s32": np.dtype("<i4")}
GAP = _layout.NOTE_KINDS["gap"]

Samples = npt.NDArray[np.generic]


class Rig:
    """A staging file with the callback's side in one hand and a rotator that keeps all it is given in the other."""

    def __init__(self, staging: Staging) -> None:
        self.staging = staging
        self.slots = staging.slots
        self.chunks: dict[int, Samples] = {}
        self.gaps: list[tuple[int, int, int, int]] = []
        self.anchors: list[tuple[int, int]] = []
        self.position = 1000
        self.ns = 10**9

    def cycle(self, data: Samples | None, n_frames: int = 0, *, jump: int = 0, interleaved: bool = False,
              torn: bool = False, clock_id: int = 1) -> None:  # fmt: skip
        """One cycle of the graph with (channels, n) samples as they are to be recorded, or of n_frames without data."""
        n = data.shape[1] if data is not None else n_frames
        self.position += jump
        self.ns += jump * 10**9 // 48000
        raw = None if data is None else (np.ascontiguousarray(data.T) if interleaved else in_graph(data)).tobytes()
        self.slots.cycle(
            self.position, n, raw, interleaved=interleaved, torn=torn, clock_id=clock_id, monotonic_ns=self.ns
        )
        self.position += n
        self.ns += n * 10**9 // 48000

    def rotate(self, most: int = 1 << 30) -> None:
        """Takes notes and up to `most` full slots, and gives the slots back."""
        for kind, cause, confidence, _, first, n, position, _, _ in self.slots.take_notes():
            if kind == GAP:
                self.gaps.append((first, n, cause, confidence))
            else:
                self.anchors.append((first, position))
        while most > 0 and (full := self.slots.take_full()) is not None:
            slot, chunk = full
            assert chunk not in self.chunks
            with self.staging.slot(slot) as view:
                flat = np.frombuffer(view, DTYPES[self.staging.form.sample_format])
                self.chunks[chunk] = flat.reshape(self.staging.form.channels, -1).copy()
                del flat
            self.slots.give_back(slot)
            most -= 1

    def finish(self, end_ns: int | None = None) -> Samples:
        """Ends the take and returns its whole timeline, gaps as zeros."""
        n_frames, gap = self.slots.finish(end_ns)
        if gap is not None:
            self.rotate()
            self.gaps.append(gap)
        self.rotate()
        whole = np.zeros((self.staging.form.channels, n_frames), DTYPES[self.staging.form.sample_format])
        size = self.staging.form.chunk_frames
        for chunk, samples in self.chunks.items():
            part = whole[:, chunk * size : (chunk + 1) * size]
            part[:] = samples[:, : part.shape[1]]
            assert not samples[:, part.shape[1] :].any(), "what lies behind the last frame is zero"
        return whole


@contextmanager
def rig(channels: int = 2, sample_format: str = "f32", chunk_frames: int = 64, n_slots: int = 4) -> Iterator[Rig]:
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    path = Path(f"/dev/shm/test-{os.getpid()}-{os.urandom(4).hex()}.staging")
    staging = Staging(
        path, uri="stream://t/1", recording="", run_id="0" * 32,
        form=AudioForm(channels, chunk_frames, sample_format), n_slots=n_slots, sample_rate=48000, wake_fd=wake,
    )  # fmt: skip
    await_ready(staging)
    try:
        yield Rig(staging)
    finally:
        staging.close()
        os.close(wake)


def noise(channels: int, n_frames: int, sample_format: str = "f32", seed: int = 1) -> Samples:
    """Random bit patterns, NaNs and all; of s32 those of 24 bits, which the graph's f32 holds."""
    dtype = DTYPES[sample_format]
    raw = np.random.default_rng(seed).bytes(channels * n_frames * dtype.itemsize)
    samples = np.frombuffer(raw, dtype).reshape(channels, n_frames)
    return samples & ~0xFF if sample_format == "s32" else samples


def same(a: Samples, b: Samples) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


@given(
    channels=st.integers(1, 64),
    sample_format=st.sampled_from(sorted(DTYPES)),
    interleaved=st.booleans(),
    chunk_frames=st.integers(1, 3000),
    n_slots=st.integers(2, 6),
    buffers=st.lists(st.integers(1, 8192), min_size=1, max_size=6),
)
def test_any_partition_gives_the_same_bytes_in_the_same_chunks(
    channels: int, sample_format: str, interleaved: bool, chunk_frames: int, n_slots: int, buffers: list[int]
) -> None:
    # A slot for every chunk that one buffer can touch: the rotator only comes between buffers.
    n_slots = max(n_slots, max(buffers) // chunk_frames + 3)
    if n_slots * chunk_frames * channels > 2_000_000:
        channels = 1 + channels % 4
    source = noise(channels, sum(buffers), sample_format)
    with rig(channels, sample_format, chunk_frames, n_slots) as r:
        at = 0
        for n in buffers:
            r.cycle(source[:, at : at + n], interleaved=interleaved)
            r.rotate()
            at += n
        assert same(r.finish(), source)
        assert sorted(r.chunks) == list(range(-(-at // chunk_frames)))
        assert r.gaps == []
        assert r.slots.stats()["lost_frames"] == 0
        assert all(position - first == 1000 for first, position in r.anchors)


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("data"), st.integers(1, 400)),
            st.tuples(st.just("missed"), st.integers(1, 700)),
            st.tuples(st.just("silent"), st.integers(1, 300)),
            st.tuples(st.just("torn"), st.integers(1, 300)),
            st.tuples(st.just("rotate"), st.integers(1, 3)),
        ),
        max_size=40,
    ),
    chunk_frames=st.integers(1, 200),
    n_slots=st.integers(1, 5),
)
def test_every_frame_is_stored_or_in_exactly_one_gap(
    steps: list[tuple[str, int]], chunk_frames: int, n_slots: int
) -> None:
    with rig(1, "s32", chunk_frames, n_slots) as r:
        r.cycle(np.array([[1]], "<i4"))
        truth = [1]
        for what, n in steps:
            numbers = np.arange(len(truth) + 1, len(truth) + 1 + n, dtype="<i4")[None]
            if what == "rotate":
                r.rotate(n)
            elif what == "missed":
                truth += [0] * n
                r.cycle(np.array([[len(truth) + 1]], "<i4"), jump=n)
                truth.append(len(truth) + 1)
            else:
                r.cycle(None if what == "silent" else numbers, n, torn=what == "torn")
                truth += [0] * n if what == "silent" else numbers[0].tolist()
        stored = r.finish()[0]
        lost = np.zeros(len(truth), int)
        for first, n, _, _ in r.gaps:
            assert n > 0
            lost[first : first + n] += 1
        assert len(stored) == len(truth)
        assert lost.max(initial=0) <= 1, "no frame lies in two gaps"
        present = lost == 0
        assert np.array_equal(stored[present], np.array(truth)[present])
        assert not stored[~present].any(), "a gap reads as zeros"
        stats_lost = sum(n for _, n, _, _ in r.gaps)
        assert stats_lost == int((~present).sum())


@given(n_slots=st.integers(1, 4), chunk_frames=st.integers(1, 300), extra=st.integers(1, 2000))
def test_with_all_slots_full_the_overrun_is_what_was_offered(n_slots: int, chunk_frames: int, extra: int) -> None:
    with rig(1, "f32", chunk_frames, n_slots) as r:
        source = noise(1, n_slots * chunk_frames + extra)
        r.cycle(source[:, : n_slots * chunk_frames])
        r.cycle(source[:, n_slots * chunk_frames :])
        stats = r.slots.stats()
        assert stats["overruns"] == 1
        assert stats["lost_frames"] == extra
        assert stats["gap_first"] == n_slots * chunk_frames
        r.rotate()
        r.cycle(noise(1, 1))
        r.finish()
        assert r.gaps == [(n_slots * chunk_frames, extra, Cause.OVERRUN, Confidence.EXACT)]


def test_whole_chunks_inside_a_gap_are_skipped_by_number() -> None:
    with rig(1, "f32", 100, 4) as r:
        r.cycle(noise(1, 50))
        r.cycle(noise(1, 50), jump=1000)
        r.finish()
        assert sorted(r.chunks) == [0, 10]
        assert r.gaps == [(50, 1000, Cause.MISSED, Confidence.EXACT)]
        assert r.slots.stats()["xruns"] == 1


def test_a_device_that_comes_back_closes_its_gap_by_the_clock() -> None:
    with rig(1, "f32", 1000, 4) as r:
        r.cycle(noise(1, 100))
        r.cycle(None, 100)
        r.slots.set_hint(Cause.DEVICE_AWAY)
        r.position = 77  # another clock, which counts from elsewhere
        r.ns += 10**9
        r.cycle(noise(1, 100), clock_id=9)
        r.cycle(noise(1, 100), clock_id=9)
        r.finish()
        assert r.gaps == [(100, 100 + 48000, Cause.DEVICE_AWAY, Confidence.CLOCK)]
        assert r.slots.stats()["switches"] == 1


@pytest.mark.parametrize("n_after", [0, 3])
def test_cycles_that_go_on_without_a_device_belong_to_its_absence(n_after: int) -> None:
    """Since PipeWire 1.6 a node that was linked runs on; `n_after` cycles run after the device is known to be away."""
    with rig(1, "f32", 1000, 4) as r:
        r.cycle(noise(1, 100))
        r.cycle(None, 100)
        r.slots.set_hint(Cause.DEVICE_AWAY)
        for _ in range(n_after):
            r.cycle(None, 100)
        r.cycle(noise(1, 100))
        r.cycle(None, 100)
        r.finish()
        away = 100 + 100 * n_after
        assert r.gaps == [
            (100, away, Cause.DEVICE_AWAY, Confidence.EXACT),
            (200 + away, 100, Cause.NO_DATA, Confidence.EXACT),
        ]


def test_a_foreign_link_is_a_gap_of_its_own_also_while_the_device_is_away() -> None:
    with rig(1, "f32", 1000, 8) as r:
        r.cycle(noise(1, 100))
        r.slots.set_hint(Cause.DEVICE_AWAY)
        for jump in (400, 0):
            r.position, r.ns = r.position + jump, r.ns + jump * 10**9 // 48000
            r.slots.cycle(r.position, 100, None, monotonic_ns=r.ns, foreign=True)
            r.position, r.ns = r.position + 100, r.ns + 100 * 10**9 // 48000
        r.cycle(noise(1, 100), jump=300)
        r.cycle(noise(1, 100), jump=50)
        r.finish()
        assert r.gaps == [
            (100, 400, Cause.DEVICE_AWAY, Confidence.EXACT),
            (500, 200, Cause.FOREIGN, Confidence.EXACT),
            (700, 300, Cause.DEVICE_AWAY, Confidence.EXACT),
            (1100, 50, Cause.MISSED, Confidence.EXACT),
        ]


def test_the_first_frame_settles_the_rate() -> None:
    with rig() as r:
        r.slots.set_rate(0)
        r.cycle(noise(2, 64))
        r.slots.cycle(r.position, 64, noise(2, 64).tobytes(), rate=44100)
        stats = r.slots.stats()
        assert (stats["head_frame"], stats["sample_rate"], stats["seen_rate"]) == (64, 48000, 44100)


def test_a_gap_that_is_open_at_the_end_is_closed_at_the_end() -> None:
    with rig(1, "f32", 1000, 4) as r:
        r.cycle(noise(1, 100))
        r.slots.set_hint(Cause.DEVICE_AWAY)
        whole = r.finish(r.ns + 10**9)
        assert whole.shape == (1, 100 + 48000)
        assert r.gaps == [(100, 48000, Cause.DEVICE_AWAY, Confidence.CLOCK)]


@pytest.mark.parametrize(("pause_frames", "n_frames"), [(0, 0), (10, 0), (600, 600)])
def test_a_driver_switch_is_a_discontinuity_of_its_own(pause_frames: int, n_frames: int) -> None:
    with rig(1, "f32", 1000, 4) as r:
        r.cycle(noise(1, 100))
        r.ns += pause_frames * 10**9 // 48000
        r.position = 5
        r.cycle(noise(1, 100), clock_id=2)
        r.finish()
        assert r.gaps == [(100, n_frames, Cause.DRIVER_SWITCH, Confidence.CLOCK)]


def test_nothing_is_kept_at_another_rate_than_the_one_asked_for() -> None:
    with rig() as r:
        r.slots.cycle(0, 64, noise(2, 64).tobytes(), rate=44100)
        stats = r.slots.stats()
        assert (stats["head_frame"], stats["seen_rate"], stats["callbacks"]) == (0, 44100, 1)


def test_capture_begins_with_the_first_whole_cycle() -> None:
    with rig() as r:
        r.cycle(None, 256)
        first = noise(2, 64)
        r.cycle(first)
        assert same(r.finish(), first)
        assert r.gaps == []
        assert r.slots.stats()["first_position"] == 1256


def test_gaps_that_cannot_be_told_of_yet_do_not_end() -> None:
    """The note ring is full: what comes then is one gap that stays open, and the account still adds up."""
    with rig(1, "f32", 1 << 20, 2) as r:
        n = 4096
        for _ in range(n):
            r.cycle(noise(1, 1), jump=1)
        assert r.slots.stats()["gap_first"] >= 0
        r.rotate()
        r.cycle(noise(1, 1))
        whole = r.finish()
        assert r.gaps[-1][1] > 1000
        assert sum(length for _, length, _, _ in r.gaps) + r.slots.stats()["n_captured"] == whole.shape[1] == 2 * n


def test_one_signal_per_full_slot_and_one_to_begin() -> None:
    with rig(1, "f32", 64, 8) as r:
        wake = os.eventfd(0, os.EFD_NONBLOCK)
        path = r.staging.path.with_suffix(".2")
        staging = Staging(
            path, uri="stream://t/2", recording="", run_id="0" * 32,
            form=AudioForm(1, 64, "f32"), n_slots=8, sample_rate=48000, wake_fd=wake,
        )  # fmt: skip
        staging.slots.cycle(0, 64 * 4 + 10, noise(1, 64 * 4 + 10).tobytes())
        assert os.eventfd_read(wake) == 4 + 1
        staging.close()
        os.close(wake)


def test_numbers_are_the_ledgers_own() -> None:
    assert {name: Cause.from_label(name) for name in _layout.CAUSES} == _layout.CAUSES
    assert {name: Confidence.from_label(name) for name in _layout.CONFIDENCES} == _layout.CONFIDENCES


def _calls(r: Rig) -> list[Callable[[], object]]:
    w = r.slots
    return [w.take_full, w.take_notes, w.filling, w.finish, w.stats, w.busy_histogram, lambda: w.give_back(0)]


def test_closed_slots_say_so_and_closing_twice_is_harmless() -> None:
    with rig() as r:
        r.staging.close()
        r.staging.close()
        for call in _calls(r):
            with pytest.raises(ValueError, match="closed"):
                call()


def test_a_slot_that_was_not_taken_is_not_given_back() -> None:
    with rig() as r, pytest.raises(ValueError, match="taken"):
        r.slots.give_back(3)


def test_data_of_the_wrong_size_is_refused() -> None:
    with rig() as r, pytest.raises(ValueError, match="samples"):
        r.slots.cycle(0, 10, b"1234")


def test_a_graph_that_has_stalled_at_the_end_is_a_gap() -> None:
    """PipeWire was stopped for five seconds, and the stream ended meanwhile: nobody says that the device is away."""
    with rig(1, "f32", 1000, 4) as r:
        r.cycle(noise(1, 100))
        whole = r.finish(r.ns + 5 * 10**9)
        assert whole.shape == (1, 100 + 5 * 48000)
        assert r.gaps == [(100, 5 * 48000, Cause.MISSED, Confidence.CLOCK)]


def test_a_cycle_that_is_due_at_the_end_is_no_gap() -> None:
    with rig(1, "f32", 1000, 4) as r:
        r.cycle(noise(1, 100))
        assert r.finish(r.ns + 10**8).shape == (1, 100)
        assert r.gaps == []


def test_torn_frames_were_missed() -> None:
    """The device delivered them; we were late."""
    with rig(1, "f32", 1000, 4) as r:
        r.cycle(noise(1, 100))
        r.cycle(noise(1, 50), torn=True)
        r.cycle(noise(1, 100))
        r.finish()
        assert r.gaps == [(100, 50, Cause.MISSED, Confidence.EXACT)]
