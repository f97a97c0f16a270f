"""Virtual slices, and recordings brought side by side by their clocks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import START_NS, Rotator, definition

from chaos.cli.saved import saved_lines
from chaos.export.jobs import Slicer
from chaos.export.placing import aligned_frames
from chaos.export.save import save_aligned
from chaos.read import recording as reader
from chaos.store.hashes import root_hash
from chaos.store.info import RecordingInfo, load
from chaos.store.lines import LatencyLine
from chaos.store.retention import retire
from chaos.store.slices import chunk_spans, resolve, virtual
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import InvalidRange, InvalidRequest, PathNotAllowed, RateMismatch
from chaos.terms.latency import Latency
from chaos.terms.ledger import Cause, ClockAnchor, Confidence, Gap
from chaos.terms.moments import Moment
from chaos.terms.units import Keep

RATE = 48_000
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def rotator(tmp_path_factory: pytest.TempPathFactory) -> Rotator:
    """10,000 frames in chunks of 1,024; frames 2,000 to 5,500 are a gap, and so chunks 2, 3 and 4 are not there."""
    store = tmp_path_factory.mktemp("store")
    rotator = Rotator(RecordingWriter.create(Store(store), definition(chunk_frames=1024)))
    rotator.anchor()
    rotator.write(2000)
    rotator.gap(3500, Cause.DEVICE_AWAY)
    rotator.write(4500)
    rotator.stop()
    return rotator


@pytest.fixture(scope="module")
def info(rotator: Rotator) -> RecordingInfo:
    return load(rotator.writer.path)


def test_a_retired_chunk_is_gone_also_where_its_frames_were_missing(tmp_path: Path) -> None:
    rotator = Rotator(RecordingWriter.create(Store(tmp_path), definition(chunk_frames=1024)))
    rotator.gap(500, Cause.DEVICE_AWAY)
    rotator.write(1000)
    rotator.stop()
    assert retire(Store(tmp_path), Keep(None, 0))
    assert chunk_spans(load(rotator.writer.path), 0, 400) == []


@given(first=st.integers(0, 10_000), end=st.integers(0, 10_000))
def test_chunks_and_gaps_make_up_the_slice(info: RecordingInfo, rotator: Rotator, first: int, end: int) -> None:
    made = np.zeros((2, max(0, end - first)), "<f4")
    for span in chunk_spans(info, first, end):
        raw = Path(span.path).read_bytes()
        assert blake3(raw).hexdigest() == span.hash
        at = span.first_frame - span.chunk * 1024
        samples = np.frombuffer(raw, "<f4").reshape(2, 1024)[:, at : at + span.n_frames]
        made[:, span.first_frame - first : span.first_frame - first + span.n_frames] = samples
    np.testing.assert_array_equal(made, rotator.model[:, first:end])


def test_the_root_over_all_chunks_is_the_verified_one(info: RecordingInfo) -> None:
    assert root_hash(chunk_spans(info, 0, 10_000)) == verify(info.path).root_hash
    assert root_hash(chunk_spans(info, 0, 1024)) != verify(info.path).root_hash


def utc(frame: int) -> Moment:
    return Moment(utc=dt.datetime.fromtimestamp(START_NS // SECOND, dt.UTC) + dt.timedelta(seconds=frame / RATE))


@pytest.mark.parametrize(
    ("first", "end", "expected"),
    [
        ("start", "head", (0, 10_000)),
        (Moment(frame=5), Moment(frame=10_000), (5, 10_000)),
        (Moment(seconds_ago=0.1), "head", (5_200, 10_000)),
        (Moment(seconds_ago=99), Moment(seconds_ago=0), (0, 10_000)),
        (utc(480), utc(960), (480, 960)),
        (utc(-480), utc(99_999), (0, 10_000)),
        ("head", "head", (10_000, 10_000)),
    ],
)
def test_times_are_frames(info: RecordingInfo, first: Any, end: Any, expected: tuple[int, int]) -> None:
    assert resolve(info, first, end, 10_000) == expected


@pytest.mark.parametrize(("first", "end"), [("head", "start"), ("start", Moment(frame=10_001)), (utc(960), utc(480))])
def test_what_is_not_there_is_refused(info: RecordingInfo, first: Any, end: Any) -> None:
    with pytest.raises(InvalidRange, match="10000"):
        resolve(info, first, end, 10_000)


FROM, TO = Moment(frame=1000), Moment(frame=8000)


def test_a_virtual_slice_copies_nothing(rotator: Rotator, tmp_path: Path) -> None:
    result = msgspec.to_builtins(virtual(load(rotator.writer.path), FROM, TO))
    assert (result["first_frame"], result["n_frames"]) == (1000, 7000)
    assert [each["chunk"] for each in result["chunks"]] == [0, 1, 5, 6, 7]
    assert {"hash", "first_frame", "n_frames"} < result["chunks"][0].keys()
    assert [gap["cause"] for gap in result["gaps"]] == ["device_away"]
    assert not list(tmp_path.iterdir())


def test_the_process_that_writes_a_slice_takes_no_module_from_the_working_folder(
    rotator: Rotator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "planted" / "chaos"
    planted.mkdir(parents=True)
    (planted / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(planted.parent)
    monkeypatch.setenv("PYTHONPATH", str(planted.parent))
    Slicer(tmp_path / "slices").materialize(rotator.writer.path, FROM, TO)
    assert not (tmp_path / "ran").exists()


def test_a_slice_is_materialised_by_another_process(rotator: Rotator, tmp_path: Path) -> None:
    slicer, recording = Slicer(tmp_path / "slices"), rotator.writer.path
    result = slicer.materialize(recording, FROM, TO)
    path = tmp_path / "slices" / "mic-take-1000-8000.wav"
    assert (result["path"], result["n_frames"], result["lost_frames"]) == (str(path), 7000, 3500)
    np.testing.assert_array_equal(soundfile.read(path, dtype="float32")[0].T, rotator.model[:, 1000:8000])
    with pytest.raises(PathNotAllowed, match="exists already"):
        slicer.materialize(recording, FROM, TO)
    result = slicer.materialize(recording, FROM, TO, out=tmp_path / "new" / "cut.flac", gaps="cut")
    assert (result["container"], result["n_written"]) == ("flac", 3500)
    with pytest.raises(InvalidRequest, match="NaN"):
        slicer.materialize(recording, FROM, TO, out=tmp_path / "x", container="flac", gaps="nan")
    slicer.close()
    with pytest.raises(InvalidRequest, match="stopping"):
        slicer.materialize(recording, FROM, TO, out=tmp_path / "y.wav")


def test_a_slice_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    """It would be a file of a gigabyte."""
    writer = RecordingWriter.create(Store(tmp_path), definition(chunk_frames=1 << 16))
    writer.gap(Gap(0, 1 << 27, Cause.DEVICE_AWAY, Confidence.EXACT))
    writer.finish(1 << 27, True)
    folder = tmp_path / "slices"
    folder.mkdir()
    slicer = Slicer(folder)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(slicer.materialize, writer.path, "start", "head")
        while not any(folder.iterdir()):
            assert not answer.done()
        slicer.close()
        with pytest.raises(InvalidRequest, match="stopping"):
            answer.result()
    assert not any(folder.iterdir())


class Clock:
    """A driver: its count of frames at a moment, as it would be without jitter."""

    def __init__(self, clock_id: int, offset: int, ppm: float = 0) -> None:
        self.clock_id = clock_id
        self._offset = offset
        self._rate = RATE * (1 + ppm * 1e-6)

    def anchor(self, frame: int, position: int) -> ClockAnchor:
        monotonic_ns = round((position - self._offset) / self._rate * SECOND)
        return ClockAnchor(frame, position, monotonic_ns, START_NS + monotonic_ns, self.clock_id)


def record(
    store: Path,
    take: str,
    clock: Clock,
    began: int,
    n_frames: int,
    rate: int = RATE,
    latencies: Sequence[LatencyLine] = (),
    **more: Any,
) -> Path:
    """A recording whose frame 0 is the clock's position `began`; each frame carries its position."""
    shape = msgspec.structs.replace(
        definition(f"stream://mic/{take}", channels=1, chunk_frames=1024), sample_rate=rate, **more
    )
    writer = RecordingWriter.create(Store(store), shape)
    slot = np.zeros((1, 1024), "<f4")
    for line in latencies:
        writer.latency(line)
    for first in range(0, n_frames, 1024):
        slot[0] = np.arange(first, first + 1024) + began
        writer.anchor(clock.anchor(first, began + first))
        writer.seal(first // 1024, slot.data, first, min(1024, n_frames - first))
    writer.finish(n_frames, True)
    return writer.path


@settings(max_examples=30)
@given(began=st.integers(0, 5000), length=st.integers(1, 6000), first=st.integers(0, 4000), n=st.integers(1, 6000))
def test_streams_of_one_graph_are_aligned_to_the_sample(
    tmp_path_factory: pytest.TempPathFactory, began: int, length: int, first: int, n: int
) -> None:
    store = tmp_path_factory.mktemp("store")
    clock = Clock(1, 1_000_000)
    paths = [record(store, "one", clock, 1_002_000, 6000), record(store, "two", clock, 1_000_000 + began, length)]
    recordings = [reader.open(path) for path in paths]
    end = min(first + n, 6000)
    begin = max(1_002_000 + first, 1_000_000 + began)
    stop = min(1_002_000 + end, 1_000_000 + began + length)
    if begin >= stop:
        with pytest.raises(InvalidRange, match="do not overlap in that range"):
            aligned_frames(recordings, first, end)
        return
    aligned = aligned_frames(recordings, first, end)
    assert aligned.first_frames == [begin - 1_002_000, begin - 1_000_000 - began]
    assert (aligned.n_frames, aligned.by) == (stop - begin, "graph_clock")


def test_saved_side_by_side_they_carry_the_same_moments(tmp_path: Path) -> None:
    clock = Clock(1, 0)
    paths = [record(tmp_path, str(began), clock, began, 20_000) for began in (5000, 7001, 1234)]
    out = tmp_path / "out"
    told: list[tuple[int, int]] = []
    reports = save_aligned(
        [reader.open(path) for path in paths], out, 100, 15_000, progress=lambda *done: told.append(done)
    )
    assert [report.n_written for report in reports] == [13_099] * 3
    assert {report.aligned_by for report in reports} == {"graph_clock"}
    assert (told[0], told[-1]) == ((0, 3 * 13_099), (3 * 13_099, 3 * 13_099))
    for report in reports:
        samples = soundfile.read(report.path, dtype="float32")[0]
        np.testing.assert_array_equal(samples, np.arange(7001, 20_100))
    assert sorted(path.name for path in out.iterdir()) == ["mic-1234.wav", "mic-5000.wav", "mic-7001.wav"]


def test_how_late_the_devices_are_is_said_and_moves_nothing(tmp_path: Path) -> None:
    """What held at the end of the range: of one that told twice, of one that told later, of one that never did."""
    clock = Clock(1, 0)
    early, late = Latency(1.0, 12, 0), Latency(0, 0, 500_000)
    told = {"twice": [LatencyLine(0, early), LatencyLine(9_000, late)], "later": [LatencyLine(15_000, late)], "not": []}
    paths = [record(tmp_path, take, clock, 0, 20_000, latencies=lines) for take, lines in told.items()]
    recordings = [reader.open(path) for path in paths]
    for end, expected in ((9_000, [early, None, None]), (9_001, [late, None, None]), (20_000, [late, late, None])):
        reports = save_aligned(recordings, tmp_path / str(end), 0, end)
        assert [report.latency for report in reports] == expected
        for report in reports:
            np.testing.assert_array_equal(soundfile.read(report.path, dtype="float32")[0], np.arange(end))
    said = saved_lines(save_aligned(recordings, tmp_path / "out", 0, 9_000))
    assert said[-2:] == [
        "how late each device says that it is: its latest port, or of an interleaved capture the one that PipeWire"
        " tells of (the files were not moved by that):",
        "  stream://mic/twice: 1 quantum + 12 frames",
    ]


def test_nothing_is_said_of_devices_that_are_not_late(tmp_path: Path) -> None:
    lines = [LatencyLine(0, Latency(0, 0, 0))]
    paths = [record(tmp_path, take, Clock(1, 0), 0, 5_000, latencies=lines) for take in ("one", "two")]
    said = saved_lines(save_aligned([reader.open(path) for path in paths], tmp_path / "out", 0, 5_000))
    assert said[-1].startswith("aligned by")


def test_other_drivers_are_aligned_by_time(tmp_path: Path) -> None:
    """Two drivers whose counts are near each other, one 200 ppm fast: to a frame at any place."""
    slow, fast = Clock(1, 0), Clock(2, 100, ppm=200)
    paths = [record(tmp_path, "slow", slow, 0, 96_000), record(tmp_path, "fast", fast, 50, 96_000)]
    recordings = [reader.open(path) for path in paths]
    for first in (0, 48_000, 90_000):
        aligned = aligned_frames(recordings, first, first + 10)
        assert aligned.by == "monotonic_clock"
        assert aligned.first_frames[1] == pytest.approx(first * 1.0002 + 50, abs=1)


def test_other_runs_are_aligned_by_the_time_of_day(tmp_path: Path) -> None:
    clock = Clock(1, 0)
    paths = [record(tmp_path, "one", clock, 0, 5000), record(tmp_path, "two", clock, 480, 5000, run_id="another")]
    aligned = aligned_frames([reader.open(path) for path in paths], 0, 5000)
    assert (aligned.first_frames, aligned.n_frames, aligned.by) == ([480, 0], 4520, "wall_clock")


def test_what_cannot_be_aligned_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    clock, out = Clock(1, 0), tmp_path / "out"
    one = reader.open(record(tmp_path, "one", clock, 0, 5000))
    other_rate = reader.open(record(tmp_path, "two", clock, 0, 5000, rate=44_100))
    with pytest.raises(RateMismatch, match="44100"):
        save_aligned([one, other_rate], out)
    with pytest.raises(InvalidRequest, match="twice"):
        save_aligned([one, one], out)
    with pytest.raises(InvalidRequest, match="cut"):
        save_aligned([one, one], out, gaps="cut")
    later = reader.open(record(tmp_path, "later", clock, 9000, 5000))
    with pytest.raises(InvalidRange, match="do not overlap in that range"):
        save_aligned([one, later], out)
    near = reader.open(record(tmp_path, "near", clock, 100, 5000))

    def stop(done: int, total: int) -> None:
        if done > 4900:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_aligned([one, near], out, progress=stop)
    assert list(out.iterdir()) == []
