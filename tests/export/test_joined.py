"""A save of a stream that has rolled: one file of several takes, with all that it says made from what was read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from blake3 import blake3
from crashing import fast_folder
from recorded import START_NS, Rotator, definition

from chaos.export.save import save, save_aligned
from chaos.read import recording as reader
from chaos.store.info import load
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.ledger import Cause, ClockAnchor

URI = "stream://mic/1"


@pytest.fixture
def store() -> Iterator[Path]:
    with fast_folder() as folder:
        yield folder / "store"


@pytest.fixture
def takes(store: Path) -> list[Rotator]:
    """40 frames, their 37 neighbours with a gap of 7 in them, and 30 more after 48 frames in which a crash was."""
    made = []
    more: list[dict[str, object]] = [{}, {"continues": URI}, {"follows": f"{URI}.0002", "away_ns": 1_000_000}]
    for number, (begins_at, also) in enumerate(zip((0, 40, 125), more, strict=True), 1):
        take = "1" if number == 1 else f"1.{number:04}"
        started_ns = START_NS + begins_at * 1_000_000_000 // 48000
        shape = definition(f"stream://mic/{take}", started_wall_ns=started_ns, **also)  # type: ignore[arg-type]
        stream = Rotator(RecordingWriter.create(Store(store), shape), number)
        stream.write(20)
        if number == 2:
            stream.gap(7, Cause.OVERRUN)
        stream.write({1: 20, 2: 10, 3: 10}[number])
        stream.stop()
        made.append(stream)
    return made


def whole(takes: list[Rotator]) -> np.ndarray:  # type: ignore[type-arg]
    first, second, third = (each.model for each in takes)
    return np.concatenate([first, second, np.zeros((2, 48), "<f4"), third], axis=1)


def test_a_save_goes_across_takes(store: Path, takes: list[Rotator], tmp_path: Path) -> None:
    with reader.open(URI, store) as stream:
        report = save(stream, tmp_path / "all.wav")
        part = save(stream, tmp_path / "part.wav", 35, 100)
    data, rate = soundfile.read(tmp_path / "all.wav", dtype="float32", always_2d=True)
    assert rate == 48000
    np.testing.assert_array_equal(data.T, whole(takes))
    hashes = [sealed.hash for take in takes for sealed in load(take.writer.path).chunks]
    assert report.root_hash == blake3(b"".join(map(bytes.fromhex, hashes))).hexdigest()
    assert (report.uri, report.n_written, report.n_chunks) == (URI, 155, len(hashes))
    assert [(gap["first_frame"], gap["n_frames"], gap["cause"]) for gap in report.gaps] == [
        (60, 7, "overrun"),
        (77, 48, "engine_down"),
    ]
    assert report.lost_frames == 55
    assert report.started_utc.startswith("2026-01-31T12:00:00.000000000")
    data, _ = soundfile.read(tmp_path / "part.wav", dtype="float32", always_2d=True)
    np.testing.assert_array_equal(data.T, whole(takes)[:, 35:135])
    assert part.started_utc.startswith("2026-01-31T12:00:00.000729")


def test_the_newest_audio_is_the_newest_takes(store: Path, takes: list[Rotator], tmp_path: Path) -> None:
    with reader.open(URI, store) as stream:
        save(stream, tmp_path / "last.wav", stream.n_frames - 10)
    data, _ = soundfile.read(tmp_path / "last.wav", dtype="float32", always_2d=True)
    np.testing.assert_array_equal(data.T, takes[2].model[:, -10:])


def test_cutting_takes_the_time_between_takes_out_too(store: Path, takes: list[Rotator], tmp_path: Path) -> None:
    with reader.open(URI, store) as stream:
        report = save(stream, tmp_path / "cut.wav", gaps="cut")
    data, _ = soundfile.read(tmp_path / "cut.wav", dtype="float32", always_2d=True)
    kept = [at for at in range(155) if not (60 <= at < 67 or 77 <= at < 125)]
    np.testing.assert_array_equal(data.T, whole(takes)[:, kept])
    assert report.n_written == 100


def test_nan_marks_the_time_between_takes(store: Path, takes: list[Rotator], tmp_path: Path) -> None:
    with reader.open(URI, store) as stream:
        save(stream, tmp_path / "nan.wav", gaps="nan")
    data, _ = soundfile.read(tmp_path / "nan.wav", dtype="float32", always_2d=True)
    missing = [bool(each) for each in np.isnan(data[:, 0])]
    assert missing == [60 <= at < 67 or 77 <= at < 125 for at in range(155)]


def test_a_damaged_chunk_of_a_take_is_told(store: Path, takes: list[Rotator], tmp_path: Path) -> None:
    chunk = Path(load(takes[1].writer.path).chunks[0].path)
    chunk.chmod(0o644)
    chunk.write_bytes(b"\1" * chunk.stat().st_size)
    with reader.open(URI, store) as stream:
        report = save(stream, tmp_path / "all.wav")
    assert not report.is_exact
    assert [damage.first_frame for damage in report.damaged] == [40]


def test_a_stream_that_has_rolled_is_aligned_as_a_whole(store: Path, tmp_path: Path) -> None:
    """Beside one that began 10 frames later, and from a place in the second take on."""
    made = {}
    for uri, position, n_frames, more in (
        ("stream://mic/1", 1000, 40, {}),
        ("stream://mic/1.0002", 1040, 60, {"continues": URI}),
        ("stream://desk/1", 1010, 70, {}),
    ):
        rotator = Rotator(RecordingWriter.create(Store(store), definition(uri, channels=1, **more)), position)
        ns = position * 1_000_000_000 // 48_000
        rotator.writer.anchor(ClockAnchor(0, position, ns, START_NS + ns, 7))
        rotator.write(n_frames)
        rotator.stop()
        made[uri] = rotator.model[0]
    mic, desk = np.append(made[URI], made[f"{URI}.0002"]), made["stream://desk/1"]
    with reader.open(URI, store) as rolled, reader.open("stream://desk/1", store) as other:
        reports = save_aligned([rolled, other], tmp_path / "all")
        part = save_aligned([other, rolled], tmp_path / "part", 35, 20)
    assert [(each.n_written, each.aligned_by) for each in reports] == [(70, "graph_clock")] * 2
    for each, wanted in zip([*reports, *part], [mic[10:80], desk, desk[35:55], mic[45:65]], strict=True):
        np.testing.assert_array_equal(soundfile.read(each.path, dtype="float32")[0], wanted)
