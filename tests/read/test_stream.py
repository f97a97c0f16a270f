"""A stream is all its takes on one timeline: what was captured, where it was, and the time between takes as a gap."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from crashing import fast_folder
from recorded import START_NS, Rotator
from rolled import URI, begin, three_takes

from chaos.read import recording as reader
from chaos.read.recording import StreamRecording
from chaos.store.store import Store
from chaos.store.takes import take_paths
from chaos.terms.errors import InvalidRange, InvalidRequest, RecordingNotFound
from chaos.terms.ledger import Cause

FRAME_NS = 1_000_000_000 / 48000


@pytest.fixture
def store() -> Iterator[Path]:
    with fast_folder() as folder:
        yield folder / "store"


@pytest.fixture
def takes(store: Path) -> list[Rotator]:
    return three_takes(store)


def whole(takes: list[Rotator]) -> np.ndarray:  # type: ignore[type-arg]
    first, second, third = (each.model for each in takes)
    return np.concatenate([first, second, np.zeros((2, 48), "<f4"), third], axis=1)


def test_a_stream_is_its_takes_in_order(store: Path, takes: list[Rotator]) -> None:
    takes[2].stop()
    with reader.open(URI, store) as stream:
        assert isinstance(stream, StreamRecording)
        assert [(take.origin, take.away) for take in stream.takes] == [(0, 0), (40, 0), (125, 48)]
        assert (stream.n_frames, stream.state) == (155, "finished")
        assert repr(stream) == f"<StreamRecording {URI}: 48000 Hz, 155 frames, 0.003 s>"
        with pytest.raises(ValueError, match='"zeros", "nan" or "error"'):
            stream.read(0, 1, "banana")  # type: ignore[arg-type]
        np.testing.assert_array_equal(stream[:], whole(takes))
        np.testing.assert_array_equal(stream.planes(3, 150), whole(takes)[:, 3:150])
        np.testing.assert_array_equal(stream[35:45], whole(takes)[:, 35:45])
        np.testing.assert_array_equal(stream[100:130], whole(takes)[:, 100:130])
        np.testing.assert_array_equal(stream[-5:], takes[2].model[:, -5:])


def test_the_gap_between_takes_shows(store: Path, takes: list[Rotator]) -> None:
    takes[2].stop()
    with reader.open(URI, store) as stream:
        assert [(gap.first_frame, gap.n_frames, gap.cause) for gap in stream.gaps] == [
            (60, 7, Cause.MISSED),
            (77, 48, Cause.ENGINE_DOWN),
        ]
        assert [gap.first_frame for gap in stream.gaps_between(70, 80)] == [77]
        missing = np.isnan(stream.read(50, 130, "nan"))[0]
        assert [bool(each) for each in missing] == [10 <= at < 17 or 27 <= at < 75 for at in range(80)]
        with pytest.raises(InvalidRange) as caught:
            stream.read(70, 80, "error")
        assert [gap["cause"] for gap in caught.value.details["gaps"]] == ["engine_down"]
        with pytest.raises(InvalidRange):
            stream.read(0, 156)


def test_moments_are_found_across_takes(store: Path, takes: list[Rotator]) -> None:
    takes[2].stop()
    with reader.open(URI, store) as stream:
        at = {frame: datetime.fromtimestamp((START_NS + frame * FRAME_NS) / 1e9, UTC) for frame in (10, 50, 90, 140)}
        for frame, moment in at.items():
            assert stream.frame_of(moment) == pytest.approx(frame, abs=1)
        assert stream.frame_of(100 / 48000) == 100
        np.testing.assert_array_equal(stream.between(0.0, 155 / 48000), stream[:])
        assert (stream.shape, stream.device["identity"], stream.clean) == ((2, 155), "serial:1", stream.info.clean)


def test_a_take_has_a_uri_of_its_own(store: Path, takes: list[Rotator]) -> None:
    takes[2].stop()
    for number, take in enumerate(takes, 1):
        with reader.open(f"{URI}.{number:04}", store) as recording:
            assert not isinstance(recording, StreamRecording)
            np.testing.assert_array_equal(recording[:], take.model)


def test_a_stream_of_one_take_is_that(store: Path) -> None:
    only = begin(store, "1", 0, 1)
    only.write(20)
    only.stop()
    other = begin(store, "12.0002", 0, 2)
    other.write(20)
    other.stop()
    assert take_paths(Store(store), URI) == [only.writer.path]
    with reader.open(URI, store) as recording:
        assert not isinstance(recording, StreamRecording)
    with pytest.raises(RecordingNotFound):
        reader.open("stream://mic/3", store)


def test_a_stream_goes_on_into_takes_that_come_while_it_is_read(store: Path, takes: list[Rotator]) -> None:
    with reader.open(URI, store) as stream:
        assert stream.state == "recording"
        takes[2].stop()
        stream.refresh()
        assert stream.state == "recording", "it may have rolled"
        fourth = begin(store, "1.0004", 155, 4, continues=f"{URI}.0003")
        fourth.write(32)
        stream.refresh()
        assert stream.n_frames == 187
        np.testing.assert_array_equal(stream[150:187], np.concatenate([takes[2].model[:, -5:], fourth.model], axis=1))
        fourth.stop()


def test_what_began_by_itself_under_such_a_name_is_another_stream(store: Path) -> None:
    for take in ("1", "1.0002"):
        stream = begin(store, take, 0, 1)
        stream.write(20)
        stream.stop()
    with reader.open(URI, store) as recording:
        assert recording.n_frames == 20


def test_takes_of_different_formats_are_no_one_timeline(store: Path) -> None:
    first = begin(store, "1", 0, 1)
    first.write(20)
    first.stop()
    second = begin(store, "1.0002", 20, 2, channels=1, continues=URI)
    second.write(20)
    second.stop()
    with pytest.raises(InvalidRequest) as caught:
        reader.open(URI, store)
    assert f"{URI}.0001" in caught.value.hint
