"""A gap that has not ended is in the journal as soon as zeros of it are on disk, and the recording shows it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from crashing import CrashingStream, causes_of, check_recording, fast_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.store.info import load
from chaos.store.recovery import recover
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.terms.ledger import Cause, Confidence, Gap


@pytest.fixture
def folder() -> Iterator[Path]:
    with fast_folder() as folder:
        yield folder


def power_cut(stream: CrashingStream) -> None:
    """What was in memory, the staging file too, is gone."""
    stream.crash()
    stream.staging.path.unlink()


def recover_from_disk(folder: Path) -> None:
    assert [item.outcome for item in recover(Store(folder / "store"), folder / "slots").items] == ["recovered"]


def test_after_a_power_cut_the_zeros_of_an_open_gap_are_told(folder: Path) -> None:
    stream = CrashingStream(folder / "store", folder / "slots", chunk_frames=64)
    stream.write(20)
    stream.tick()
    stream.no_data(10)
    stream.tick()
    power_cut(stream)
    recover_from_disk(folder)
    info = load(stream.recording)
    assert info.gaps == [Gap(20, 10, Cause.NO_DATA, Confidence.EXACT)]
    assert info.n_frames == 30
    assert verify(stream.recording).bad == []


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        (None, Gap(20, 10, Cause.NO_DATA, Confidence.EXACT)),
        (Cause.DEVICE_AWAY, Gap(20, 48, Cause.DEVICE_AWAY, Confidence.CLOCK)),
    ],
)
def test_a_gap_that_is_open_at_the_end_is_as_sure_as_its_cause(folder: Path, hint: Cause | None, told: Gap) -> None:
    stream = CrashingStream(folder / "store", folder / "slots", chunk_frames=64)
    stream.write(20)
    if hint is None:
        stream.no_data(10)
    else:
        stream.staging.slots.set_hint(hint)
    end_ns = stream.staging.slots.stats()["end_ns"]
    stream.stop(None if hint is None else end_ns + 1_000_000)
    assert load(stream.recording).gaps == [told]


def test_a_chunk_that_ends_in_an_open_gap_is_told_too(folder: Path) -> None:
    stream = CrashingStream(folder / "store", folder / "slots")
    stream.write(10)
    stream.no_data(30)
    stream.rotate()
    assert load(stream.recording).open_gap == Gap(10, 6, Cause.NO_DATA, Confidence.EXACT)
    power_cut(stream)
    recover_from_disk(folder)
    assert load(stream.recording).gaps == [Gap(10, 6, Cause.NO_DATA, Confidence.EXACT)]
    assert verify(stream.recording).bad == []


def test_a_running_take_shows_its_open_gap_in_zarr(folder: Path) -> None:
    stream = CrashingStream(folder / "store", folder / "slots")
    stream.write(10)
    stream.no_data(10)
    stream.tick()
    group = zarr.open_group(stream.recording, mode="r")
    assert group["audio"].shape[1] >= 16
    np.testing.assert_array_equal(group["gaps"][:], [[10, 10, Cause.NO_DATA, Confidence.EXACT]])
    assert verify(stream.recording).bad == []
    stream.write(20)
    stream.no_data(10)
    stream.tick()
    rows = zarr.open_group(stream.recording, mode="r")["gaps"]
    np.testing.assert_array_equal(rows[:, :2], [[10, 10], [40, 10]])
    assert verify(stream.recording).bad == []
    stream.stop()
    assert load(stream.recording).open_gap is None
    assert verify(stream.recording).bad == []


def test_a_gap_that_goes_on_for_long_fills_no_journal(folder: Path) -> None:
    stream = CrashingStream(folder / "store", folder / "slots")
    stream.write(10)
    for _ in range(3000):
        stream.no_data(16)
        stream.tick()
    n_lines = (stream.recording / "journal.jsonl").read_bytes().count(b"\n")
    assert n_lines < 400
    told = load(stream.recording).open_gap
    assert told is not None
    assert told.n_frames > 3000 * 16 * 0.95
    stream.stop()
    check_recording(stream)


def test_a_closed_gap_is_told_once(folder: Path) -> None:
    stream = CrashingStream(folder / "store", folder / "slots")
    stream.write(10)
    stream.no_data(5)
    stream.tick()
    stream.write(10)
    stream.tick()
    stream.stop()
    info = load(stream.recording)
    assert info.ledger == info.gaps == [Gap(10, 5, Cause.NO_DATA, Confidence.EXACT)]


_STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "write", "no_data", "miss", "tick", "rotate"]), st.integers(1, 40)), max_size=25
)


@settings(max_examples=150)
@given(steps=_STEPS)
def test_after_any_power_cut_every_frame_is_stored_or_told(steps: list[tuple[str, int]]) -> None:
    """The staging file is lost with all else in memory: what is left must be right as far as it goes."""
    with fast_folder() as folder:
        stream = CrashingStream(folder / "store", folder / "slots")
        stream.write(5)
        stream.tick()
        for what, n_frames in steps:
            if what in ("tick", "rotate"):
                getattr(stream, what)()
            else:
                getattr(stream, what)(n_frames)
        power_cut(stream)
        recover_from_disk(folder)
        info = load(stream.recording)
        assert verify(stream.recording).bad == []
        causes = causes_of(info.gaps, info.n_frames)
        audio = zarr.open_group(stream.recording, mode="r")["audio"][:]
        kept = min(info.n_frames, stream.n_frames)
        is_stored = causes[:kept] == 0
        assert not audio[:, causes != 0].any()
        np.testing.assert_array_equal(audio[:, :kept][:, is_stored], stream.model[:, :kept][:, is_stored])
        told = causes[:kept][~is_stored]
        known = told != int(Cause.ENGINE_DOWN)
        np.testing.assert_array_equal(told[known], stream.causes[:kept][~is_stored][known])
        assert (stream.causes[:kept][is_stored] == 0).all(), "no zeros of a gap pass for audio"
        shutil.rmtree(stream.recording)
