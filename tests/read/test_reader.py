from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from handmade import Engine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded import START_NS, Rotator, checked, definition

from chaos.read import recording as reader
from chaos.read.events import MidiContent
from chaos.store.lines import GapLine
from chaos.store.slices import chunk_spans
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import InvalidRange, InvalidRequest, InvalidURI, RecordingNotFound, StorageFailed
from chaos.terms.form import MidiForm
from chaos.terms.ledger import Cause, ClockAnchor


@pytest.fixture
def rotator(tmp_path: Path) -> Rotator:
    """85 frames: chunk 0, a gap of 3 in chunk 1, chunks 2 and 3 in a gap, chunk 4, chunk 5 with 5 frames."""
    rotator = Rotator(RecordingWriter.create(Store(tmp_path), definition()))
    rotator.write(20)
    rotator.gap(3)
    rotator.write(9)
    rotator.gap(32, Cause.DEVICE_AWAY)
    rotator.write(21)
    rotator.stop()
    return rotator


@pytest.fixture
def recording(rotator: Rotator) -> reader.Recording:
    return reader.open(rotator.writer.path)


@pytest.mark.usefixtures("rotator")
def test_it_opens_by_uri_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recordings" / "mic" / "take.zarr"
    assert reader.open("stream://mic/take", tmp_path).path == path
    assert reader.open(str(path)).path == path
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "chaos").symlink_to(tmp_path)
    assert len(reader.open("stream://mic/take")) == 85
    with pytest.raises(RecordingNotFound):
        reader.open("stream://mic/other", tmp_path)
    with pytest.raises(InvalidURI):
        reader.open("stream://mic", tmp_path)


def test_it_says_what_it_is(recording: reader.Recording) -> None:
    assert (recording.uri, recording.channels, recording.sample_rate) == ("stream://mic/take", 2, 48000)
    assert (len(recording), recording.state, recording.dtype) == (85, "finished", np.dtype("<f4"))
    assert [gap.n_frames for gap in recording.gaps] == [3, 32]
    assert repr(recording) == "<Recording stream://mic/take: 48000 Hz, 85 frames, 0.002 s>"


def test_what_becomes_of_gaps_is_one_of_three(recording: reader.Recording) -> None:
    banana: Any = "banana"
    for ask in (
        lambda: recording.read(0, 1, banana),
        lambda: recording.between(8.0, 9.0, missing=banana),
        lambda: recording.follow(4, missing=banana),
    ):
        with pytest.raises(ValueError, match='"zeros", "nan" or "error"'):
            ask()


def test_the_hint_names_a_command_that_help_shows(tmp_path: Path) -> None:
    for what in ("stream://mic/none", str(tmp_path / "none.zarr")):
        with pytest.raises(RecordingNotFound) as refused:
            reader.open(what, tmp_path)
        assert refused.value.hint == "chaosctl list shows what there is"


@given(first=st.integers(-100, 100), last=st.integers(-100, 100))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_slice_equals_the_model(
    rotator: Rotator, recording: reader.Recording, first: int, last: int
) -> None:
    np.testing.assert_array_equal(recording[first:last], rotator.model[:, first:last])
    np.testing.assert_array_equal(recording[first:], rotator.model[:, first:])
    begin, end, _ = slice(first, last).indices(85)
    planes = recording.planes(begin, max(begin, end))
    np.testing.assert_array_equal(planes, rotator.model[:, begin : max(begin, end)])


def test_a_range_in_one_chunk_is_not_copied(recording: reader.Recording) -> None:
    block = recording[65:79]
    assert isinstance(block.base, np.memmap) or isinstance(getattr(block.base, "base", None), np.memmap)
    assert not block.flags.writeable
    assert not block.flags.owndata
    recording.close()
    assert block.shape == (2, 14)
    assert block.any()


def test_gaps_become_what_was_asked_for(rotator: Rotator, recording: reader.Recording) -> None:
    for first, last in [(0, 85), (18, 25), (20, 23), (30, 66), (40, 50), (21, 22)]:
        block = recording.read(first, last, "nan")
        is_gap = np.zeros(85, bool)
        is_gap[20:23] = is_gap[32:64] = True
        np.testing.assert_array_equal(np.isnan(block), np.tile(is_gap[first:last], (2, 1)))
        np.testing.assert_array_equal(np.nan_to_num(block), rotator.model[:, first:last])
        with pytest.raises(InvalidRange) as caught:
            recording.read(first, last, "error")
        assert caught.value.details["gaps"]
    for first, last in [(0, 20), (23, 32), (64, 85), (20, 20)]:
        expected = rotator.model[:, first:last]
        np.testing.assert_array_equal(recording.read(first, last, "error"), expected)
        np.testing.assert_array_equal(recording.read(first, last, "nan"), expected)
    np.testing.assert_array_equal(recording[16:32], rotator.model[:, 16:32])


def test_integers_have_no_nan(tmp_path: Path) -> None:
    rotator = Rotator(RecordingWriter.create(Store(tmp_path), definition(sample_format="s16")))
    rotator.write(20)
    rotator.stop()
    recording = reader.open(rotator.writer.path)
    assert recording[:].dtype == np.int16
    with pytest.raises(InvalidRequest, match="NaN"):
        recording.read(0, 20, "nan")


@pytest.mark.parametrize(("first", "last"), [(0, 86), (-1, 5), (5, 4), (86, 86)])
def test_frames_that_are_not_there_are_refused(recording: reader.Recording, first: int, last: int) -> None:
    with pytest.raises(InvalidRange, match="85"):
        recording.read(first, last)


def test_only_slices_index(recording: reader.Recording) -> None:
    with pytest.raises(TypeError, match="slice"):
        recording[3]  # type: ignore[index]
    with pytest.raises(TypeError, match="slice"):
        recording[::2]
    for bounds in (slice(1.5, 3), slice(0, "3"), slice(b"1", None)):
        with pytest.raises(TypeError, match="whole frames, not"):
            recording[bounds]
    assert recording[np.int64(3) : np.uint8(5)].shape == (2, 2)


def test_moments_are_found(tmp_path: Path) -> None:
    rotator = Rotator(RecordingWriter.create(Store(tmp_path), definition(chunk_frames=1000)))
    start = datetime.fromtimestamp(START_NS // 1_000_000_000, UTC)
    rotator.writer.anchor(ClockAnchor(0, 0, 0, START_NS))
    rotator.write(48_000)
    rotator.writer.anchor(ClockAnchor(48_000, 0, 2_000_000_000, START_NS + 2_000_000_000))
    rotator.stop()
    recording = reader.open(rotator.writer.path)
    np.testing.assert_array_equal(recording.between(0.25, 0.5), rotator.model[:, 12_000:24_000])
    np.testing.assert_array_equal(recording.between(0.5, 99), rotator.model[:, 24_000:])
    assert recording.between(5.0, 6.0).shape == (2, 0)
    for begin, end in ((-1.0, None), (-1.0, 1.0), (0.0, -0.5), (0.0, float("nan")), (True, 1.0)):
        with pytest.raises(ValueError, match=r"first frame|from the start"):
            recording.between(begin, end)  # type: ignore[arg-type]
    assert (recording.shape, recording.device["identity"]) == (recording[:].shape, "serial:1")
    one, other = (start + timedelta(seconds=second) for second in (0.5, 1.0))
    np.testing.assert_array_equal(recording.between(one, other), rotator.model[:, 12_000:24_000])
    with pytest.raises(InvalidRequest, match="zone"):
        recording.between(datetime(2026, 1, 31), 1.0)


def test_without_anchors_the_definition_tells_the_start(recording: reader.Recording) -> None:
    start = datetime.fromtimestamp(START_NS // 1_000_000_000, UTC)
    assert recording.frame_of(start) == 0
    assert recording.frame_of(start - timedelta(seconds=1)) == -48_000


def test_a_live_recording_grows(tmp_path: Path) -> None:
    rotator = Rotator(RecordingWriter.create(Store(tmp_path), definition()))
    recording = reader.open(rotator.writer.path)
    assert (len(recording), recording.state) == (0, "recording")
    rotator.write(40)
    recording.refresh()
    assert len(recording) == 32
    np.testing.assert_array_equal(recording[:], rotator.model[:, :32])
    rotator.gap(60)
    rotator.stop()
    recording.refresh()
    assert recording.state == "finished"
    np.testing.assert_array_equal(recording[:], rotator.model)
    assert [gap.n_frames for gap in recording.gaps] == [60]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path)
    yield engine
    engine.close()


def test_a_live_reader_follows_the_head(engine: Engine) -> None:
    with reader.open(engine.writer.path) as recording:
        for n_frames in (300, 1024, 700, 24, 1500, 1, 2000):
            engine.cycle(n_frames)
            assert len(recording) == engine.model.shape[1]
            np.testing.assert_array_equal(recording[-n_frames:], engine.model[:, -n_frames:])
            np.testing.assert_array_equal(recording.planes(0, len(recording)), engine.model)
            engine.rotate()
            np.testing.assert_array_equal(recording[:], engine.model)
    recording.close()
    recording.refresh()
    assert len(recording) == 5 * 1024


def test_a_live_reader_sees_an_open_gap_as_zeros(engine: Engine) -> None:
    engine.cycle(100)
    with reader.open(engine.writer.path) as recording:
        engine.cycle(100, skipped=500)
        np.testing.assert_array_equal(recording[:], engine.model)
        assert len(recording) == 700


def test_a_live_reader_without_staging_has_what_is_sealed(engine: Engine) -> None:
    engine.cycle(1500)
    engine.rotate()
    engine.path.unlink()
    with reader.open(engine.writer.path) as recording:
        np.testing.assert_array_equal(recording[:], engine.model[:, :1024])
    engine.path.write_bytes(b"something else")
    with reader.open(engine.writer.path) as recording:
        assert len(recording) == 1024


def test_a_lost_chunk_is_never_silence(recording: reader.Recording) -> None:
    (recording.path / "audio/c/0/4").unlink()
    np.testing.assert_array_equal(recording[0:64].shape, (2, 64))
    with pytest.raises(InvalidRange, match="64"):
        recording[60:70]


def test_a_cut_chunk_is_never_read(recording: reader.Recording) -> None:
    chunk = recording.path / "audio/c/0/4"
    content = chunk.read_bytes()
    chunk.unlink()
    chunk.write_bytes(content[:100])
    with pytest.raises(StorageFailed, match="4"):
        recording[64:65]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_in_place_of_a_chunk_is_told(
    recording: reader.Recording, tmp_path: Path, make: Callable[[Path], object]
) -> None:
    """Reading waited for ever for whoever would write into a pipe."""
    chunk = recording.path / "audio/c/0/4"
    chunk.unlink()
    make(chunk)
    with pytest.raises(StorageFailed, match="could not read"):
        recording[64:65]
    with pytest.raises(StorageFailed, match="could not read"):
        recording.planes(64, 65)


def test_nor_does_a_pipe_hold_up_who_reads_events(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "chunk")
    with pytest.raises(OSError, match="not a regular file"):
        MidiContent(MidiForm(16, 1024)).of_file(str(tmp_path / "chunk"), 0, 0, 16)


def test_what_is_retired_meanwhile_is_a_gap(rotator: Rotator, recording: reader.Recording) -> None:
    """A reader that was opened before, and so knows the chunk."""
    path = recording.path
    line = msgspec.json.encode(GapLine(64, 16, "retired", "exact"))
    with (path / "journal.jsonl").open("ab") as journal:
        journal.write(checked(line))
    (path / "audio/c/0/4").unlink()
    expected = rotator.model[:, 60:85].copy()
    expected[:, 4:20] = 0
    np.testing.assert_array_equal(recording[60:85], expected)
    assert recording.gaps_between(64, 80)[0].cause is Cause.RETIRED
    assert np.isnan(recording.read(64, 80, "nan")).all()
    assert [span.chunk for span in chunk_spans(recording.info, 0, 85)] == [0, 1, 5]
