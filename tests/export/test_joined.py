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
from chaos.terms.errors import InvalidRequest
from chaos.terms.ledger import Cause

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


def test_several_takes_are_not_aligned_as_a_whole(store: Path, takes: list[Rotator], tmp_path: Path) -> None:
    with reader.open(URI, store) as stream, pytest.raises(InvalidRequest) as caught:
        save_aligned([stream], tmp_path)
    assert f"{URI}.0001" in caught.value.hint
