from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded import Rotator, checked, definition

from chaos.store.info import load
from chaos.store.lines import LatencyLine
from chaos.store.retention import retire
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import RecordingNotFound, StorageFailed
from chaos.terms.latency import Latency
from chaos.terms.ledger import Cause, ClockAnchor, ClockState, Confidence, Gap
from chaos.terms.marks import Mark
from chaos.terms.units import Keep


def record(store: Path, uri: str = "stream://mic/take") -> Rotator:
    """Chunks 0, 1, 4 and 5 (partial); a gap in chunk 1 and one over chunks 2 and 3."""
    rotator = Rotator(RecordingWriter.create(Store(store), definition(uri)))
    rotator.anchor()
    rotator.write(20)
    rotator.gap(3)
    rotator.write(9)
    rotator.anchor()
    rotator.gap(32, Cause.DEVICE_AWAY)
    rotator.write(21)
    return rotator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rotator = record(tmp_path)
    rotator.stop()
    return rotator.writer.path


def rewrite(path: Path, content: bytes | bytearray) -> None:
    """Puts other bytes into a file, immutable or not, without touching what is linked to it."""
    path.unlink()
    path.write_bytes(content)


def places_of(document: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Each key of a document, by the keys around it."""
    for key, value in document.items() if isinstance(document, dict) else ():
        yield (*at, key)
        yield from places_of(value, (*at, key))


def remove(document: Any, place: tuple[str, ...]) -> Any:
    for key in place[:-1]:
        document = document[key]
    return document, document.pop(place[-1])


def rename(document: Any, place: tuple[str, ...]) -> None:
    around, value = remove(document, place)
    around[place[-1] + "x"] = value


def is_last_of_a_version(place: tuple[str, ...]) -> bool:
    """Whether a version that did not have this key yet may have written the document without it."""
    return len(place) > 1 and place[-2] in {"definition", "causes", "confidences", "clock", "clock_states"}


def edit_journal(path: Path, edit: Callable[[list[str]], list[str]]) -> None:
    """Lets the lines without their checks be edited, and puts them back as if they had been written so."""
    journal = path / "journal.jsonl"
    lines = edit(["{" + line[len('{"check":"12345678",') :] for line in journal.read_text().splitlines()])
    journal.write_bytes(b"".join(checked(line.encode()) for line in lines))


def test_a_good_recording_is_good(path: Path) -> None:
    progress: list[tuple[int, int]] = []
    report = verify(path, lambda done, total: progress.append((done, total)))
    assert report.ok
    assert report.bad == []
    assert (report.n_chunks, report.n_frames, report.lost_frames) == (4, 85, 35)
    assert (report.state, report.clean, report.uri) == ("finished", True, "stream://mic/take")
    assert report.gaps[1] == {
        "first_frame": 32,
        "n_frames": 32,
        "cause": "device_away",
        "confidence": "exact",
        "utc": "2026-01-31T12:00:00.000666656Z",
    }
    hashes = [sealed.hash for sealed in load(path).chunks]
    assert report.root_hash == blake3(b"".join(bytes.fromhex(one) for one in hashes)).hexdigest()
    assert progress == [(done, 4) for done in range(5)]
    assert msgspec.json.decode(msgspec.json.encode(report))["n_chunks"] == 4


def test_a_recording_is_verified_wherever_it_was_copied(path: Path, tmp_path: Path) -> None:
    shutil.copytree(path, tmp_path / "elsewhere.zarr")
    shutil.rmtree(path)
    assert verify(tmp_path / "elsewhere.zarr").ok


@pytest.mark.parametrize("chunk", [0, 1, 4, 5])
def test_one_flipped_bit_names_its_chunk(path: Path, chunk: int) -> None:
    file = path / "audio" / "c" / "0" / str(chunk)
    content = bytearray(file.read_bytes())
    content[77] ^= 0x10
    rewrite(file, content)
    report = verify(path)
    assert not report.ok
    (bad,) = report.bad
    assert (bad.reason, bad.chunk) == ("hash_mismatch", chunk)
    assert (bad.first_frame, bad.n_frames) == (chunk * 16, 5 if chunk == 5 else 16)
    assert bad.found == blake3(content).hexdigest()
    assert bad.expected == next(one.hash for one in load(path).chunks if one.chunk == chunk)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_no_flipped_bit_goes_unseen(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    store = tmp_path_factory.mktemp("store")
    rotator = record(store)
    rotator.stop()
    path = rotator.writer.path
    names = ["journal.jsonl", "gaps/c/0/0", "clock/c/0/0", "audio/c/0/0", "audio/c/0/5", "gaps/zarr.json"]
    file = path / data.draw(st.sampled_from(names))
    content = bytearray(file.read_bytes())
    n_bytes = len(content)
    if file.parts[-4] in ("gaps", "clock"):
        n_bytes = 2 * 32
    if file.name == "zarr.json":
        n_bytes = content.index(b'"attributes"')
    bit = data.draw(st.integers(0, n_bytes * 8 - 1))
    old = bytes(content)
    content[bit // 8] ^= 1 << bit % 8
    rewrite(file, content)
    if file.name == "zarr.json" and is_same_json(old, content):
        return
    assert not is_verified(path)


def is_verified(path: Path) -> bool:
    """Neither defects nor a journal whose first line can't be read."""
    try:
        return verify(path).ok
    except StorageFailed:
        return False


def is_same_json(one: bytes, other: bytes | bytearray) -> bool:
    try:
        return bool(msgspec.json.decode(one) == msgspec.json.decode(other))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def test_a_missing_chunk_is_named(path: Path) -> None:
    (path / "audio/c/0/4").unlink()
    assert [(bad.reason, bad.chunk) for bad in verify(path).bad] == [("missing", 4)]


def test_a_chunk_of_another_size_is_named(path: Path) -> None:
    file = path / "audio/c/0/4"
    rewrite(file, file.read_bytes()[:-1])
    (bad,) = verify(path).bad
    assert (bad.reason, bad.chunk, bad.expected, bad.found) == ("wrong_size", 4, "128 bytes", "127 bytes")


def test_a_chunk_that_cannot_be_read_is_named(path: Path) -> None:
    file = path / "audio/c/0/4"
    content = file.read_bytes()
    file.unlink()
    file.mkdir()
    (file / "x").write_bytes(content)
    assert [bad.chunk for bad in verify(path).bad] == [4]


def test_a_foreign_chunk_in_a_gap_is_named(path: Path) -> None:
    shutil.copy(path / "audio/c/0/0", path / "audio/c/0/2")
    assert [(bad.reason, bad.chunk) for bad in verify(path).bad] == [("not_in_journal", 2)]


def test_a_retired_chunk_may_be_missing(tmp_path: Path) -> None:
    writer = RecordingWriter.create(Store(tmp_path), definition())
    slots = [memoryview(os.urandom(128)) for _ in range(2)]
    writer.seal(0, slots[0], 0, 16)
    writer.seal(1, slots[1], 16, 16)
    writer.gap(Gap(0, 16, Cause.RETIRED, Confidence.EXACT))
    writer.finish(32, True)
    (writer.path / "audio/c/0/0").unlink()
    report = verify(writer.path)
    assert report.bad == []
    assert report.lost_frames == 0
    (writer.path / "audio/c/0/1").unlink()
    assert [bad.chunk for bad in verify(writer.path).bad] == [1]


def test_a_definition_that_was_changed_is_named(path: Path) -> None:
    document = msgspec.json.decode((path / "zarr.json").read_bytes())
    del document["attributes"]["definition"]["device"]["identity"]
    (path / "zarr.json").write_bytes(msgspec.json.encode(document))
    assert [bad.found for bad in verify(path).bad] == ["zarr.json"]
    del document["attributes"]["definition"]
    (path / "zarr.json").write_bytes(msgspec.json.encode(document))
    assert [bad.found for bad in verify(path).bad] == ["zarr.json"]


@pytest.mark.parametrize("name", ["zarr.json", "audio/zarr.json", "gaps/zarr.json", "clock/zarr.json"])
def test_each_key_of_ours_that_is_gone_or_another_is_named(path: Path, name: str) -> None:
    """Renamed, removed, or with another value; also in what attributes hold, and in the group's copy of its arrays."""
    whole = (path / name).read_bytes()
    told = name if "audio" in name else name.removesuffix("/zarr.json")
    n_keys = 0
    for place in places_of(msgspec.json.decode(whole)):
        for change in (rename, remove):
            document = msgspec.json.decode(whole)
            change(document, place)
            may_be_older = is_last_of_a_version(place) and change is remove
            (path / name).write_bytes(msgspec.json.encode(document))
            found = [bad.found for bad in verify(path).bad]
            assert may_be_older or found == [told], (place, change)
            n_keys += 1
    assert n_keys > 20
    (path / name).write_bytes(whole)
    assert verify(path).ok


@pytest.mark.parametrize("name", ["zarr.json", "audio/zarr.json", "gaps/zarr.json", "clock/c/0/0"])
def test_missing_metadata_is_named(path: Path, name: str) -> None:
    (path / name).unlink()
    (bad,) = verify(path).bad
    assert bad.reason == "metadata_mismatch"
    assert bad.found is not None
    assert name.startswith(bad.found)


def test_metadata_of_another_version_is_no_defect(path: Path) -> None:
    for name in ("zarr.json", "audio/zarr.json", "gaps/zarr.json"):
        document = msgspec.json.decode((path / name).read_bytes())
        document["attributes"]["from_the_future"] = [1]
        if name == "zarr.json":
            document["attributes"]["definition"]["from_the_future"] = None
        (path / name).write_bytes(msgspec.json.encode(document))
    assert verify(path).ok
    document["attributes"]["columns"] = ["something", "else"]
    (path / name).write_bytes(msgspec.json.encode(document))
    assert [bad.found for bad in verify(path).bad] == ["gaps"]


def test_frames_in_nothing_are_named(path: Path) -> None:
    edit_journal(path, lambda lines: [line for line in lines if '"device_away"' not in line])
    bad = verify(path).bad
    assert ("unaccounted_frames", 32, 32) in [(one.reason, one.first_frame, one.n_frames) for one in bad]


def test_frames_in_two_gaps_are_named(path: Path) -> None:
    edit_journal(path, lambda lines: [line.replace('"first_frame":20', '"first_frame":30') for line in lines])
    bad = verify(path).bad
    assert ("overlap", 32, 1) in [(one.reason, one.first_frame, one.n_frames) for one in bad]


def test_a_chunk_in_a_wrong_place_is_named(path: Path) -> None:
    edit_journal(path, lambda lines: [line.replace('"first_frame":64', '"first_frame":65') for line in lines])
    bad = verify(path).bad
    assert ("misplaced", 4) in [(one.reason, one.chunk) for one in bad]


def test_a_wrong_end_is_named(path: Path) -> None:
    edit_journal(path, lambda lines: [line.replace('"n_frames":85', '"n_frames":86') for line in lines])
    bad = verify(path).bad
    assert ("unaccounted_frames", 85, 1) in [(one.reason, one.first_frame, one.n_frames) for one in bad]


def test_a_damaged_journal_is_named(path: Path) -> None:
    edit_journal(path, lambda lines: [*lines[:2], "{}", *lines[2:]])
    assert [(bad.reason, bad.found) for bad in verify(path).bad] == [
        ("journal_damaged", "journal.jsonl, line 3")
    ]
    edit_journal(path, lambda lines: [line for line in lines if line != "{}"])
    with (path / "journal.jsonl").open("ab") as file:
        file.write(b"{")
    assert [bad.reason for bad in verify(path).bad] == ["journal_damaged"]


def test_what_a_dead_writer_left_is_good_as_far_as_it_goes(tmp_path: Path) -> None:
    rotator = record(tmp_path)
    rotator.checkpoint()
    rotator.gap(2)
    rotator.writer.close()
    with (rotator.writer.path / "journal.jsonl").open("ab") as file:
        file.write(b'{"type":"ch')
    report = verify(rotator.writer.path)
    assert report.bad == []
    assert (report.state, report.n_frames, report.clean) == ("interrupted", 80, None)
    edit_journal(rotator.writer.path, lambda lines: [line for line in lines if '"device_away"' not in line])
    assert "unaccounted_frames" in [bad.reason for bad in verify(rotator.writer.path).bad]


def test_no_recording_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordingNotFound):
        verify(tmp_path)


def test_it_runs_beside_the_writer(tmp_path: Path) -> None:
    rotator = Rotator(RecordingWriter.create(Store(tmp_path), definition()))
    path = rotator.writer.path
    done = threading.Event()
    reports = []

    def watch() -> None:
        while not done.is_set():
            reports.append(verify(path))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for step in range(120):
        rotator.write(step % 23)
        rotator.checkpoint()
        rotator.anchor()
        rotator.gap(step % 37)
    rotator.stop()
    done.set()
    watcher.join()
    reports.append(verify(path))
    assert [report.bad for report in reports if report.bad] == []
    assert [report.n_frames for report in reports] == sorted(report.n_frames for report in reports)
    assert reports[-1].state == "finished"
    assert len(reports) > 3


def silent(store: Path, uri: str, n_frames: int, change: Callable[[RecordingWriter], None] = lambda _: None) -> Path:
    shape = definition(uri)
    writer = RecordingWriter.create(Store(store), shape)
    writer.anchor(ClockAnchor(0, 0, 1000, shape.started_wall_ns))
    writer.seal(0, memoryview(bytes(shape.form.chunk_bytes)), 0, min(16, n_frames))
    change(writer)
    writer.finish(n_frames, clean=True)
    return writer.path


def test_the_recording_hash_covers_more_than_the_audio(tmp_path: Path) -> None:
    """All of these are silent: their root hashes are equal, and they are not the same recording."""
    gap = Gap(3, 2, Cause.MISSED, Confidence.EXACT)
    paths = [
        silent(tmp_path / "1", "stream://mic/1", 16),
        silent(tmp_path / "2", "stream://mic/1", 12),
        silent(tmp_path / "3", "stream://mic/2", 16),
        silent(tmp_path / "4", "stream://mic/1", 16, lambda writer: writer.gap(gap)),
        silent(tmp_path / "5", "stream://mic/1", 16, lambda writer: writer.anchor(ClockAnchor(8, 8, 9, 10))),
    ]
    reports = [verify(path) for path in paths]
    assert len({report.root_hash for report in reports}) == 1
    for version in ("recording_hash", "recording_hash_v3"):
        assert len({getattr(report, version) for report in reports}) == len(paths)
    assert verify(silent(tmp_path / "6", "stream://mic/1", 16)).recording_hash == reports[0].recording_hash


def test_the_recording_hash_is_what_the_protocol_says(tmp_path: Path) -> None:
    path = silent(tmp_path, "stream://mic/1", 16, lambda writer: writer.gap(Gap(3, 2, Cause.MISSED, Confidence.EXACT)))
    shape, chunk = load(path).definition, verify(path).chunks[0]["hash"]
    text = (
        '["chaosd recording",2]\n["uri","stream://mic/1"]\n["device","serial:1"]\n["form",2,48000,"f32",16]\n'
        f'["started",{shape.started_wall_ns}]\n["length",16,true]\n["chunk",0,0,16,"{chunk}"]\n'
        f'["gap",3,2,"missed","exact"]\n["anchor",0,0,1000,{shape.started_wall_ns}]\n'
    )
    assert verify(path).recording_hash == blake3(text.encode()).hexdigest()


def test_version_3_of_it_is_what_the_protocol_says(tmp_path: Path) -> None:
    anchor = ClockAnchor(8, 8, 9, 10, max_error_ns=5, clock_state=ClockState.SYNCHRONIZED, step_ns=-3)

    def change(writer: RecordingWriter) -> None:
        writer.anchor(anchor)
        writer.mark(Mark(12, "b"))
        writer.mark(Mark(3, "a"))
        writer.latency(LatencyLine(0, Latency(1.0, 2, 3)))

    path = silent(tmp_path, "stream://mic/1", 16, change)
    shape, chunk = load(path).definition, verify(path).chunks[0]["hash"]
    text = (
        '["chaosd recording",3]\n["uri","stream://mic/1"]\n["device","serial:1"]\n["form",2,48000,"f32",16]\n'
        f'["started",{shape.started_wall_ns}]\n["length",16,true]\n["chunk",0,0,16,"{chunk}"]\n'
        f'["anchor",0,0,1000,{shape.started_wall_ns},-1,-1,0,0]\n["anchor",8,8,9,10,5,-1,2,-3]\n'
        '["positions","AUX0","AUX1"]\n["after",null,null,null,null]\n["session",null]\n["latency",0,1.0,2,3]\n'
        '["mark",12,"b"]\n["mark",3,"a"]\n'
    )
    assert verify(path).recording_hash_v3 == blake3(text.encode()).hexdigest()


@pytest.mark.parametrize("field", ["max_error_ns", "est_error_ns", "clock_state", "step_ns"])
def test_version_3_covers_what_the_clock_knew_of_itself(tmp_path: Path, field: str) -> None:
    anchor = ClockAnchor(8, 8, 9, 10, max_error_ns=5, est_error_ns=4, step_ns=3)
    other = msgspec.structs.replace(anchor, **{field: ClockState.SYNCHRONIZED if field == "clock_state" else 1})
    one = silent(tmp_path / "1", "stream://mic/1", 16, lambda writer: writer.anchor(anchor))
    two = silent(tmp_path / "2", "stream://mic/1", 16, lambda writer: writer.anchor(other))
    assert verify(one).recording_hash == verify(two).recording_hash
    assert verify(one).recording_hash_v3 != verify(two).recording_hash_v3


def test_retention_does_not_change_the_recording_hash(path: Path) -> None:
    before = verify(path)
    retire(Store(path.parents[2]), Keep(None, 0))
    after = verify(path)
    assert (after.recording_hash, after.recording_hash_v3) == (before.recording_hash, before.recording_hash_v3)
