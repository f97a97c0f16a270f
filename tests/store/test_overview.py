"""The overview against numpy: each level of it, whatever happened to the recording, and each stretch that is read."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
import rolled
import zarr
from crashing import CrashingStream, fast_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from keys import CrashingKeys
from recorded import DTYPES, Rotator, definition

import chaos
from chaos.store.info import load
from chaos.store.levels import block_frames, file_frames, level_lengths
from chaos.store.metadata import rebuild_metadata
from chaos.store.recovery import recover
from chaos.store.retention import retire
from chaos.store.retired import retired_gaps
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import InvalidRange
from chaos.terms.formats import SAMPLES
from chaos.terms.ledger import Cause, Gap
from chaos.terms.marks import Mark
from chaos.terms.units import Keep

CHUNK = 30_000
Floats = npt.NDArray[Any]


def begin(
    store: Path, sample_format: Any = "f32", channels: int = 2, chunk_frames: int = CHUNK, **more: Any
) -> Rotator:
    shape = definition(channels=channels, chunk_frames=chunk_frames, sample_format=sample_format, **more)
    return Rotator(RecordingWriter.create(Store(store), shape))


def there(rotator: Rotator, gaps: Iterable[Gap] | None = None) -> Floats:
    """The frames of the model, full scale being 1.0, NaN where they are missing."""
    shape = rotator.writer.definition
    frames: Floats = rotator.model.astype(np.float64) / float(SAMPLES[shape.sample_format].full_scale)  # type: ignore[index]
    for gap in rotator.gaps if gaps is None else gaps:
        frames[:, gap.first_frame : gap.end_frame] = np.nan
    return frames


def expected(frames: Floats, edges: npt.NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    """min, max and rms between the edges."""
    found = np.full((3, frames.shape[0], len(edges) - 1), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for k, (first, end) in enumerate(pairwise(edges)):
            part = np.where(np.isfinite(frames[:, first:end]), frames[:, first:end], np.nan)
            found[:, :, k] = np.nanmin(part, 1), np.nanmax(part, 1), np.sqrt(np.nanmean(part**2, 1))
    return found[0], found[1], found[2]


def check_levels(path: Path, frames: Floats) -> None:
    """Every level that is stored says what numpy says of the frames."""
    n_frames = frames.shape[1]
    group: Any = zarr.open_group(path, mode="r")
    lengths = level_lengths(n_frames, is_whole=True)
    assert sorted(group["overview"]) == [str(level) for level in range(len(lengths))]
    for level, n_blocks in enumerate(lengths):
        size = block_frames(level)
        edges = np.minimum(np.arange(n_blocks + 1) * size, n_frames)
        stored = group[f"overview/{level}"][:]
        for value, want in enumerate(expected(frames, edges)):
            np.testing.assert_allclose(stored[:, :, value], want, rtol=1e-5, atol=1e-7, err_msg=f"{level} {value}")
        share = np.add.reduceat(~np.isnan(frames), edges[:-1], axis=1) / size
        np.testing.assert_allclose(np.nan_to_num(stored[:, :, 3]), share, atol=1e-6)


@settings(max_examples=12, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["write", "write", "gap", "long_gap", "tick", "die"]), st.integers(1, 400_000)),
        min_size=1,
        max_size=8,
    ),
    chunk_frames=st.sampled_from([1024, 30_000, 300_000]),
    sample_format=st.sampled_from(sorted(DTYPES)),
)
def test_every_level_is_what_numpy_says(
    steps: list[tuple[str, int]], chunk_frames: int, sample_format: str
) -> None:
    with fast_folder() as store:
        rotator = begin(store, sample_format, chunk_frames=chunk_frames)
        for what, n in steps:
            if what == "write":
                rotator.write(n)
            elif what == "tick":
                rotator.checkpoint()
                check_read(rotator)
            elif what == "die":
                rotator.checkpoint()
                n_before = rotator.chunk * chunk_frames
                rotator.die_and_recover(store)
                if rotator.frame > n_before:  # what was sealed of the open chunk: the take goes on with the next one
                    rotator._has_data = False
                    rotator.gap(n_before + chunk_frames - rotator.frame)
            else:
                rotator.gap(n * (10 if what == "long_gap" else 1))
        rotator.stop()
        path = rotator.writer.path
        report = verify(path)
        assert report.ok, report.bad
        check_levels(path, there(rotator))
        check_files_can_be_made_again(path)
        with chaos.open(path) as recording:
            for first, last, points in ((0, None, 100), (rotator.frame // 3, rotator.frame // 2, 7)):
                check_points(recording, there(rotator), first, last, points)


def check_read(rotator: Rotator) -> None:
    """What is read while it is being written: some levels are not there yet."""
    with chaos.open(rotator.writer.path) as recording:
        frames = there(rotator)[:, : recording.n_frames]
        check_points(recording, frames, 0, None, 50)


def check_points(recording: Any, frames: Floats, first: int, last: int | None, points: int) -> None:
    found = recording.overview(first, last, points)
    end = recording.n_frames if last is None else last
    assert (found.edges[0], found.edges[-1]) == (first, end)
    assert found.n_points <= points
    if not found.n_points:
        return
    sizes = np.diff(found.edges)
    assert sizes.min() > 0
    wants = expected(frames, found.edges)
    for got, want in zip((found.min, found.max, found.rms), wants, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found.missing, np.add.reduceat(np.isnan(frames[0, :end]), found.edges[:-1]))
    assert ((found.cause > 0) == (found.missing > 0)).all()


def check_files_can_be_made_again(path: Path) -> None:
    files = {each: each.read_bytes() for each in (path / "overview").rglob("*") if each.is_file()}
    for each in files:
        each.unlink()
    if any(each.name.startswith("c.") for each in files):
        assert not verify(path).ok
    rebuild_metadata(path)
    assert {each: each.read_bytes() for each in (path / "overview").rglob("*") if each.is_file()} == files


@pytest.mark.parametrize("sample_format", sorted(DTYPES))
def test_each_stretch_is_told_exactly(tmp_path: Path, sample_format: str) -> None:
    rotator = begin(tmp_path, sample_format, channels=3)
    rotator.write(700_000)
    rotator.gap(5_000)
    rotator.write(1_234_567)
    rotator.stop()
    frames, n = there(rotator), rotator.frame
    stretches = [(0, n, 2000), (0, n, 1), (1, n - 1, 333), (699_999, 705_001, 10), (17, 18, 5), (255, 1_000_003, 3000)]
    with chaos.open(rotator.writer.path) as recording:
        for stretch in stretches:
            check_points(recording, frames, *stretch)
        assert recording.overview(5, 5).n_points == 0
        with pytest.raises(InvalidRange):
            recording.overview(0, n + 1)
        with pytest.raises(ValueError, match="points"):
            recording.overview(points=0)


def test_what_is_no_number_counts_for_nothing(tmp_path: Path) -> None:
    rotator = begin(tmp_path, channels=1, chunk_frames=2048)
    slot = np.full((1, 2048), 0.25, "<f4")
    slot[0, :256] = np.nan
    slot[0, 300], slot[0, 301], slot[0, 302] = np.inf, -np.inf, np.nan
    rotator.writer.seal(0, slot.data, 0, 2048)
    rotator.writer.finish(2048, clean=True)
    stored = zarr.open_array(rotator.writer.path / "overview/0", mode="r")[:]
    np.testing.assert_array_equal(stored[0, 0], [np.nan, np.nan, np.nan, 1])  # type: ignore[index]
    np.testing.assert_array_equal(stored[0, 1], [0.25, 0.25, 0.25, 1])  # type: ignore[index]
    with chaos.open(rotator.writer.path) as recording:
        found = recording.overview(points=8)
    assert np.isnan(found.max[0, 0])
    assert (found.max[0, 1:] == 0.25).all()
    assert not found.missing.any()


def test_a_recording_of_an_older_version_is_read_from_its_samples(tmp_path: Path) -> None:
    rotator = begin(tmp_path, overview=False)
    rotator.write(600_000)
    rotator.gap(300)
    rotator.write(60_000)
    rotator.stop()
    assert not (rotator.writer.path / "overview").exists()
    assert verify(rotator.writer.path).ok
    with chaos.open(rotator.writer.path) as recording:
        check_points(recording, there(rotator), 0, None, 70)
        check_points(recording, there(rotator), 12_345, 654_321, 1000)


@pytest.mark.parametrize("spoil", ["changed", "gone", "short", "added"])
def test_verify_tells_of_an_overview_that_lies(tmp_path: Path, spoil: str) -> None:
    rotator = begin(tmp_path)
    rotator.write(600_000)
    rotator.stop()
    file = rotator.writer.path / "overview" / "1" / "c.0.0.0"
    if spoil == "changed":
        content = bytearray(file.read_bytes())
        content[40] ^= 1
        file.write_bytes(content)
    elif spoil == "gone":
        file.unlink()
    elif spoil == "short":
        file.write_bytes(b"")
    else:
        file.with_name("c.0.9.0").write_bytes(file.read_bytes())
    (bad,) = verify(rotator.writer.path).bad
    assert (bad.reason, bad.found) == ("metadata_mismatch", "overview/1")


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_a_chunk_that_cannot_be_read_just_now_is_not_drawn_as_missing(number: int) -> None:
    """Recovery tells of it, and the next one draws what is there."""
    with fast_folder() as folder:
        stream = CrashingStream(folder / "store", folder / "slots", "stream://mic/1")
        stream.write(100)
        stream.tick()
        stream.crash()
        store = Store(folder / "store")
        refused = OSError(number, os.strerror(number))
        with mock.patch("chaos.store.overview.open_chunk", side_effect=refused):
            assert not recover(store, folder / "slots").ok
        assert recover(store, folder / "slots").ok
        assert verify(stream.recording).bad == []


def test_a_power_cut_before_the_last_files_is_mended(tmp_path: Path) -> None:
    rotator = begin(tmp_path)
    rotator.write(700_000)
    rotator.stop()
    path = rotator.writer.path
    files = {each: each.read_bytes() for each in path.glob("overview/*/c.0.*")}
    for each in list(files)[::2]:
        each.unlink()
    (path / "zarr.json").unlink()
    (done,) = recover(Store(tmp_path), tmp_path / "staging").items
    assert done.outcome == "recovered"
    assert {each: each.read_bytes() for each in path.glob("overview/*/c.0.*")} == files
    assert verify(path).ok


@pytest.mark.parametrize("is_live", [False, True])
def test_retention_takes_what_only_retired_frames_had(tmp_path: Path, is_live: bool) -> None:
    rotator = begin(tmp_path)
    rotator.write(3 * file_frames(0) + 5)
    path = rotator.writer.path
    if is_live:
        chunks = load(path).chunks[:18]
        rotator.writer.retire(chunks, retired_gaps(chunks, []))
        rotator.stop()
    else:
        rotator.stop()
        n_kept = len(load(path).chunks) - 18
        (done,) = retire(Store(tmp_path), Keep(None, n_kept * rotator.writer.definition.form.chunk_bytes))
        assert len(done.chunks) == 18
    assert sorted(each.name for each in (path / "overview/0").glob("c.*")) == ["c.0.2.0", "c.0.3.0"]
    assert verify(path).ok, verify(path).bad
    frames = there(rotator, [Gap(0, 18 * CHUNK, Cause.RETIRED, Cause.RETIRED.confidence)])
    with chaos.open(path) as recording:
        found = recording.overview(points=40)
        for got, want in zip((found.min, found.max), expected(frames, found.edges), strict=False):
            is_whole = (found.missing == 0) | found.is_missing
            np.testing.assert_array_equal(got[:, is_whole], want[:, is_whole].astype("f4"))
        assert found.is_missing[:20].all()
        assert (found.cause[:20] == Cause.RETIRED).all()


def test_the_takes_of_a_stream_are_drawn_as_one(tmp_path: Path) -> None:
    first = rolled.begin(tmp_path, "1", 0, 1, chunk_frames=CHUNK)
    first.write(400_100)
    first.stop()
    second = rolled.begin(tmp_path, "1.0002", 400_100, 2, chunk_frames=CHUNK, continues=rolled.URI)
    second.write(300)
    second.stop()
    third = rolled.begin(tmp_path, "1.0003", 500_000, 3, chunk_frames=CHUNK, follows=second.writer.definition.uri,
                         away_ns=10**9)  # fmt: skip
    third.write(50_000)
    third.gap(20_000)
    third.write(333_333)
    third.writer.mark(Mark(7, "here"))
    away = np.full((2, 48_000), np.nan)
    for is_over in (False, True):
        with chaos.open(rolled.URI, tmp_path) as recording:
            frames = np.concatenate([there(first), there(second), away, there(third)], axis=1)[:, : recording.n_frames]
            for stretch in [(0, None, 2000), (0, None, 3), (400_000, 448_500, 20), (100, 460_000, 500)]:
                check_points(recording, frames, *stretch)
            found = recording.overview(points=30)
            assert [mark.frame for mark in found.marks] == [448_407]
            assert {gap.cause for gap in found.gaps} == {Cause.ENGINE_DOWN, Cause.MISSED}
        if not is_over:
            third.stop()


def test_events_are_counted(tmp_path: Path) -> None:
    stream = CrashingKeys(tmp_path, tmp_path, chunk_frames=400)
    for _ in range(10):
        stream.write(100)
        stream.rotate()
    stream.miss(50)
    stream.write(70)
    stream.stop()
    with chaos.open(stream.recording) as recording:
        found = recording.overview(points=10)
    assert found.n_events is not None
    frames = [frame for frame, _, _ in stream.offered]
    assert found.n_events.tolist() == np.histogram(frames, found.edges)[0].tolist()
    assert found.missing.sum() == 50
    assert found.min.shape == (0, found.n_points)
