"""One flipped bit, one lost line or one lost file costs nothing that stands elsewhere as well."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from crashing import CrashingStream, check_recording, fast_folder
from recorded import Rotator, definition, names

from chaos.read import recording as reader
from chaos.store.info import load
from chaos.store.marking import mark_ended
from chaos.store.recovery import recover
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import StorageFailed
from chaos.terms.ledger import Cause
from chaos.terms.marks import Mark


@pytest.fixture
def folder() -> Iterator[Path]:
    with fast_folder() as folder:
        yield folder


def record(store: Path) -> Rotator:
    rotator = Rotator(RecordingWriter.create(Store(store), definition()))
    rotator.anchor()
    rotator.write(20)
    rotator.gap(5)
    rotator.anchor()
    rotator.write(30)
    rotator.gap(40, Cause.DEVICE_AWAY)
    rotator.anchor()
    rotator.write(13)
    rotator.stop()
    return rotator


def flipped(line: bytes) -> bytes:
    return line[:-5] + bytes([line[-5] ^ 4]) + line[-4:]


def one_flipped(lines: list[bytes], number: int) -> list[bytes]:
    return [*lines[:number], flipped(lines[number]), *lines[number + 1 :]]


def one_gone(lines: list[bytes], number: int) -> list[bytes]:
    return lines[:number] + lines[number + 1 :]


N_LINES = 14


def journal_of(rotator: Rotator) -> Path:
    return rotator.writer.path / "journal.jsonl"


def test_the_recording_has_as_many_lines_as_the_tests_damage(folder: Path) -> None:
    assert journal_of(record(folder / "store")).read_bytes().count(b"\n") == N_LINES


@pytest.mark.parametrize("number", range(N_LINES))
@pytest.mark.parametrize("damage", [one_flipped, one_gone])
def test_a_damaged_line_of_the_journal_costs_nothing(
    folder: Path, number: int, damage: Callable[[list[bytes], int], list[bytes]]
) -> None:
    rotator = record(folder / "store")
    path = rotator.writer.path
    before, told = load(path), verify(path)
    journal = journal_of(rotator)
    journal.write_bytes(b"".join(damage(journal.read_bytes().splitlines(keepends=True), number)))
    items = recover(Store(folder / "store"), folder / "slots").items
    assert [item.outcome for item in items] == ["recovered"], items
    after = load(path)
    assert verify(path).bad == []
    assert verify(path).root_hash == told.root_hash
    assert (after.n_frames, after.clean, after.definition) == (before.n_frames, True, before.definition)
    assert sorted(gap.row() for gap in after.gaps) == sorted(gap.row() for gap in before.gaps)
    assert [anchor.row() for anchor in after.anchors] == [anchor.row() for anchor in before.anchors]
    with reader.open(path) as recording:
        np.testing.assert_array_equal(recording[:], rotator.model)
    assert recover(Store(folder / "store"), folder / "slots").items == []


@pytest.mark.parametrize("damage", [one_flipped, one_gone])
def test_marks_stay_in_a_repaired_journal(
    folder: Path, damage: Callable[[list[bytes], int], list[bytes]]
) -> None:
    rotator = record(folder / "store")
    path = rotator.writer.path
    marks = [Mark(30, "second"), Mark(5, "first")]
    for mark in marks:
        mark_ended(path, mark)
    told = verify(path).recording_hash_v3
    journal = journal_of(rotator)
    journal.write_bytes(b"".join(damage(journal.read_bytes().splitlines(keepends=True), 3)))
    assert recover(Store(folder / "store"), folder / "slots").ok
    assert load(path).marks == marks
    assert (verify(path).bad, verify(path).recording_hash_v3) == ([], told)


def test_the_damaged_journal_is_kept(folder: Path) -> None:
    rotator = record(folder / "store")
    journal = journal_of(rotator)
    lines = journal.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:4], flipped(lines[4]), *lines[5:]])
    journal.write_bytes(damaged)
    (item,) = recover(Store(folder / "store"), folder / "slots").items
    assert "line 5 of its journal was damaged" in item.text
    assert (rotator.writer.path / "journal.damaged.jsonl").read_bytes() == damaged


def test_where_nothing_tells_what_it_is_of_it_is_told(folder: Path) -> None:
    rotator = record(folder / "store")
    journal = journal_of(rotator)
    first, *rest = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([flipped(first), *rest]))
    (rotator.writer.path / "zarr.json").write_text("{}")
    (item,) = recover(Store(folder / "store"), folder / "slots").items
    assert item.outcome == "failed"
    assert "zarr.json does not tell it either" in item.text


def test_a_chunk_file_that_is_gone_comes_back_from_its_object(folder: Path) -> None:
    rotator = record(folder / "store")
    path = rotator.writer.path
    (path / "audio" / "c" / "0" / "1").unlink()
    assert [bad.reason for bad in verify(path).bad] == ["missing"]
    (item,) = recover(Store(folder / "store"), folder / "slots").items
    assert "1 chunk file came back" in item.text
    assert verify(path).bad == []


def test_a_lost_line_of_a_dead_writers_journal_costs_nothing(folder: Path) -> None:
    """The chunk's file is whole; those behind the last line are recovery's anyway."""
    for number in range(1, 6):
        stream = CrashingStream(folder / "store", folder / "slots", n_slots=8, seed=number)
        stream.write(100)
        stream.rotate()
        stream.crash()
        journal = stream.recording / "journal.jsonl"
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join([*lines[:number], flipped(lines[number]), *lines[number + 1 :]]))
        (item,) = recover(Store(folder / "store"), folder / "slots").items
        assert item.outcome == "recovered", item
        check_recording(stream)
        shutil.rmtree(stream.recording)


def test_a_part_file_that_somebody_removed_blocks_nothing(folder: Path) -> None:
    stream = CrashingStream(folder / "store", folder / "slots", chunk_frames=64)
    stream.write(20)
    stream.tick()
    chunks = stream.recording / "audio" / "c" / "0"
    assert names(chunks) == [".0.part"]
    (chunks / ".0.part").unlink()
    stream.write(10)
    stream.tick()
    assert names(chunks) == [".0.part"]
    (chunks / ".0.part").unlink()
    stream.write(60)
    stream.tick()
    stream.stop()
    assert stream.told("stream_error") == []
    check_recording(stream)


def test_a_part_file_that_goes_in_mid_seal_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from chaos.store import part

    stream = CrashingStream(folder / "store", folder / "slots", chunk_frames=64)
    stream.write(20)
    stream.tick()
    real, gone = part.Part.finish, []

    def finish(self: part.Part, data: memoryview, *, is_sparse: bool = False) -> None:
        real(self, data, is_sparse=is_sparse)
        if not gone:
            gone.append(self.path.unlink())

    monkeypatch.setattr(part.Part, "finish", finish)
    stream.write(60)
    stream.tick()
    assert stream.told("stream_error") == ["stream_error"]
    stream.tick()
    stream.stop()
    check_recording(stream)


def test_what_has_no_journal_and_no_metadata_is_no_recording(folder: Path) -> None:
    rotator = record(folder / "store")
    journal = journal_of(rotator)
    journal.write_bytes(b"")
    (rotator.writer.path / "zarr.json").unlink()
    with pytest.raises(StorageFailed):
        load(rotator.writer.path)


def test_a_journal_that_is_gone_is_made_again_where_the_recording_had_ended(folder: Path) -> None:
    store = folder / "store"
    rotator = record(store)
    path, before = rotator.writer.path, verify(rotator.writer.path)
    journal_of(rotator).unlink()
    report = recover(Store(store), folder)
    assert report.ok
    assert [item.text.split("; ")[:2] for item in report.items] == [
        [f"{before.uri} was repaired", "its journal was gone"]
    ]
    after = verify(path)
    assert after.ok
    assert (after.n_frames, after.gaps, after.recording_hash) == (before.n_frames, before.gaps, before.recording_hash)
    with reader.open(path) as recording:
        np.testing.assert_array_equal(recording[:], rotator.model)
    assert recover(Store(store), folder).items == []


def test_no_journal_is_put_beside_a_writer_whose_own_was_renamed(folder: Path) -> None:
    rotator = Rotator(RecordingWriter.create(Store(folder / "store"), definition()))
    rotator.write(40)
    journal = journal_of(rotator)
    journal.rename(journal.with_name("elsewhere"))
    assert not recover(Store(folder / "store"), folder).ok
    assert not journal.exists()
    journal.with_name("elsewhere").rename(journal)
    rotator.stop()
    assert verify(rotator.writer.path).ok
