"""A saved file and its report tell of what was read: retired and damaged audio is never exact, nor silent."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from blake3 import blake3
from recorded import Rotator, definition

from chaos.export import save as export
from chaos.read import recording as reader
from chaos.store.age import Now
from chaos.store.hashes import root_hash
from chaos.store.holds import held
from chaos.store.retention import retire
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import InvalidRange
from chaos.terms.ledger import Cause
from chaos.terms.units import Keep

CHUNK = 1024
CHUNK_BYTES = 2 * CHUNK * 4


@pytest.fixture
def rotator(tmp_path: Path) -> Rotator:
    """Ten chunks, of which the fourth has a gap of 100 frames."""
    rotator = Rotator(RecordingWriter.create(Store(tmp_path / "store"), definition(chunk_frames=CHUNK)))
    rotator.write(3 * CHUNK)
    rotator.gap(100)
    rotator.write(7 * CHUNK - 100)
    rotator.stop()
    return rotator


@pytest.fixture
def recording(rotator: Rotator) -> reader.Recording:
    return reader.open(rotator.writer.path)


def keep_chunks(tmp_path: Path, n_chunks: int) -> None:
    retire(Store(tmp_path / "store"), Keep(None, n_chunks * CHUNK_BYTES))


def chunk_file(rotator: Rotator, chunk: int) -> Path:
    return rotator.writer.path / "audio" / "c" / "0" / str(chunk)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def coding_history(path: Path) -> str:
    told = subprocess.run(
        ["ffprobe", "-v", "error", "-of", "json", "-show_format", path], check=True, capture_output=True
    )
    tags: dict[str, Any] = json.loads(told.stdout)["format"]["tags"]
    return str(tags["coding_history"])


def test_the_default_range_begins_where_audio_is(tmp_path: Path, rotator: Rotator) -> None:
    keep_chunks(tmp_path, 6)
    out = tmp_path / "out.wav"
    report = export.save(reader.open(rotator.writer.path), out)
    assert (report.first_frame, report.n_frames, report.missing_frames) == (4 * CHUNK, 6 * CHUNK, 0)
    np.testing.assert_array_equal(soundfile.read(out, dtype="float32")[0].T, rotator.model[:, 4 * CHUNK :])


def test_retired_frames_count_as_missing(tmp_path: Path, rotator: Rotator) -> None:
    keep_chunks(tmp_path, 6)
    report = export.save(reader.open(rotator.writer.path), tmp_path / "out.wav", 0)
    assert report.n_frames == 10 * CHUNK
    assert (report.retired_frames, report.lost_frames, report.missing_frames) == (4 * CHUNK - 100, 100, 4 * CHUNK)


@pytest.mark.parametrize("to_pipe", [False, True])
def test_what_is_being_saved_is_held(tmp_path: Path, rotator: Rotator, to_pipe: bool) -> None:
    """The whole take is to be retired while it is saved: it goes when the save has ended, and not before."""
    steps: list[int] = []

    def meanwhile(done: int, total: int) -> None:
        steps.append(done)
        if done == CHUNK:
            keep_chunks(tmp_path, 0)

    recording = reader.open(rotator.writer.path)
    if to_pipe:
        report = export.save_to(recording, io.BytesIO(), progress=meanwhile)
    else:
        report = export.save(recording, tmp_path / "out.wav", progress=meanwhile)
        np.testing.assert_array_equal(soundfile.read(report.path, dtype="float32")[0].T, rotator.model)
    assert CHUNK in steps
    assert (report.retired_frames, report.n_chunks, report.is_exact) == (0, 10, True)
    assert not list((tmp_path / "store" / "pins").iterdir())
    now = Now.read()
    later = now._replace(wall_ns=now.wall_ns + 86_400 * 10**9, monotonic_ns=now.monotonic_ns + 86_400 * 10**9)
    retire(Store(tmp_path / "store"), Keep(None, 0), later)
    recording.refresh()
    assert sum(gap.n_frames for gap in recording.gaps) == 10 * CHUNK


def test_a_hold_ends_with_its_process(tmp_path: Path, rotator: Rotator) -> None:
    store = Store(tmp_path / "store")
    hashes = [sealed.hash for sealed in reader.open(rotator.writer.path).info.chunks]
    script = """
import sys, os
from pathlib import Path
from chaos.store.holds import hold
from chaos.store.store import Store
with hold(Store(Path(sys.argv[1])), sys.argv[2:]):
    print("held", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", script, str(store.root), *hashes]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    assert held(store) == set(hashes)
    child.kill()
    child.wait()
    child.stdout.close()
    assert child.stdin is not None
    child.stdin.close()
    assert held(store) == set()
    assert not list(store.pins.iterdir())


def test_what_is_retired_all_the_same_is_told_as_it_was_read(
    tmp_path: Path, rotator: Rotator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a pass that had been planned before the save began: after the first chunk was read, the first four go. Three
    of them are missing in the file, and one is not."""
    monkeypatch.setattr("chaos.store.pins.held", lambda _: set())
    expected = rotator.model.copy()
    expected[:, CHUNK : 4 * CHUNK] = 0

    def meanwhile(done: int, total: int) -> None:
        if done == CHUNK:
            keep_chunks(tmp_path, 6)

    out = tmp_path / "out.wav"
    report = export.save(reader.open(rotator.writer.path), out, progress=meanwhile)
    np.testing.assert_array_equal(soundfile.read(out, dtype="float32")[0].T, expected)
    retired = [gap for gap in report.gaps if gap["cause"] == "retired"]
    assert sum(gap["n_frames"] for gap in retired) == report.retired_frames == 3 * CHUNK - 100
    assert min(gap["first_frame"] for gap in retired) == CHUNK
    assert report.n_chunks == 7
    assert report.root_hash in coding_history(out)


def test_the_hash_is_that_of_what_was_read(tmp_path: Path, rotator: Rotator, recording: reader.Recording) -> None:
    report = export.save(recording, tmp_path / "out.wav")
    assert report.root_hash == verify(rotator.writer.path).root_hash == root_hash(recording.info.chunks)
    flip_a_bit(chunk_file(rotator, 5))
    report = export.save(recording, tmp_path / "bad.wav")
    hashes = [blake3(chunk_file(rotator, chunk).read_bytes()).digest() for chunk in range(10)]
    assert report.root_hash == blake3(b"".join(hashes)).hexdigest() != root_hash(recording.info.chunks)
    assert report.root_hash in coding_history(tmp_path / "bad.wav")
    assert "1 of them damaged" in coding_history(tmp_path / "bad.wav")


@pytest.mark.parametrize("name", ["out.wav", "out.flac", "out.caf"])
@pytest.mark.parametrize("reason", ["hash_mismatch", "wrong_size", "missing"])
def test_a_damaged_chunk_is_never_exact(
    tmp_path: Path, rotator: Rotator, recording: reader.Recording, name: str, reason: str
) -> None:
    path = chunk_file(rotator, 5)
    if reason == "hash_mismatch":
        flip_a_bit(path)
    elif reason == "missing":
        path.unlink()
    else:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-4])
    report = export.save(recording, tmp_path / name, 5 * CHUNK + 10, 2000)
    assert not report.is_exact
    (damage,) = report.damaged
    assert (damage.reason, damage.chunk, damage.first_frame, damage.n_frames) == (reason, 5, 5 * CHUNK + 10, CHUNK - 10)
    assert export.save(recording, tmp_path / f"next-{name}", 6 * CHUNK, 1000).damaged == []


def test_damage_is_a_cue_point(tmp_path: Path, rotator: Rotator, recording: reader.Recording) -> None:
    flip_a_bit(chunk_file(rotator, 5))
    out = tmp_path / "out.wav"
    export.save(recording, out, 5 * CHUNK - 24)
    told = subprocess.run(
        ["ffprobe", "-v", "error", "-of", "json", "-show_chapters", out], check=True, capture_output=True
    )
    (chapter,) = json.loads(told.stdout)["chapters"]
    assert chapter["tags"]["title"] == "damaged: chunk 5 (hash_mismatch)"
    assert round(float(chapter["start_time"]) * 48_000) == 24


def test_an_empty_range_is_refused(tmp_path: Path, rotator: Rotator, recording: reader.Recording) -> None:
    for first, n_frames in [(5, 0), (10 * CHUNK, None)]:
        with pytest.raises(InvalidRange, match="empty"):
            export.save(recording, tmp_path / "out.wav", first, n_frames)
    assert not (tmp_path / "out.wav").exists()
    shutil.rmtree(tmp_path / "store")
    writer = RecordingWriter.create(Store(tmp_path / "store"), definition())
    writer.finish(0, True)
    with pytest.raises(InvalidRange, match="empty") as caught:
        export.save(reader.open(writer.path), tmp_path / "out.wav")
    assert "nothing can be read" in caught.value.hint


def test_of_a_take_that_fills_its_first_chunk_it_is_said_what_to_wait_for(tmp_path: Path) -> None:
    """A take by level has no slots of its own: what is not sealed can't be read."""
    writer = RecordingWriter.create(Store(tmp_path / "store"), definition(chunk_frames=24_000))
    with pytest.raises(InvalidRange, match="its first chunk is still being filled") as caught:
        export.save(reader.open(writer.path), tmp_path / "out.wav")
    assert caught.value.hint == "try again once that is full (it takes 0.5 s), or when the recording has ended"


def test_in_a_pipe_too(tmp_path: Path, rotator: Rotator, recording: reader.Recording) -> None:
    flip_a_bit(chunk_file(rotator, 5))
    keep_chunks(tmp_path, 8)
    with (tmp_path / "out.wav").open("wb") as pipe:
        report = export.save_to(recording, pipe, 0, container="wav")
    assert (len(report.damaged), report.is_exact, report.retired_frames) == (1, False, 2 * CHUNK)
    assert {gap["cause"] for gap in report.gaps} == {Cause.MISSED.label, Cause.RETIRED.label}
    assert "BLAKE3" not in coding_history(tmp_path / "out.wav")
