"""Recovery: what a dead daemon left is whole afterwards, told in plain words, and nothing else is touched."""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
from click.testing import CliRunner
from crashing import RATE, CrashingStream, check_recording, fast_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import PulledPlug, definition, failing_call, no_space

from chaos import _layout
from chaos.cli.main import main
from chaos.store import completion
from chaos.store.info import load
from chaos.store.recovery import Recovered, RecoveryReport, recover
from chaos.store.store import Store
from chaos.store.succession import succeed
from chaos.store.verify import verify
from chaos.system.machine import boot_id
from chaos.terms.ledger import Cause


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def slots(tmp_path: Path) -> Path:
    return tmp_path / "slots"


def a_crash(store: Path, slots: Path, **shape: Any) -> CrashingStream:
    """A recording with sealed chunks, a checkpoint, gaps that were journalled and others that were not."""
    stream = CrashingStream(store, slots, **shape)
    stream.write(20)
    stream.rotate()
    stream.miss(5)
    stream.write(30)
    stream.tick()
    stream.write(3)
    stream.miss(4)
    stream.write(200)
    stream.crash()
    return stream


def only(report: RecoveryReport) -> Recovered:
    assert len(report.items) == 1, report
    return report.items[0]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["write", "miss", "no_data"]), st.integers(1, 50)),
        st.tuples(st.sampled_from(["rotate", "tick"]), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=80)
@given(
    steps=STEPS,
    channels=st.integers(1, 4),
    chunk_frames=st.integers(1, 24),
    n_slots=st.integers(3, 6),
    sample_format=st.sampled_from(["f32", "s16", "s32"]),
)
def test_every_committed_frame_and_every_gap_survives(steps: list[tuple[str, int]], **shape: Any) -> None:
    with fast_folder() as folder:
        stream = CrashingStream(folder / "store", folder / "slots", **shape)
        for name, n_frames in steps:
            getattr(stream, name)(*([n_frames] if n_frames else []))
        stream.crash()
        item = only(recover(Store(folder / "store"), folder / "slots"))
        assert list((folder / "slots").iterdir()) == []
        if stream.n_frames:
            assert item.outcome == "recovered"
            assert load(stream.recording).clean is False
            check_recording(stream)
        else:
            assert item.outcome == "removed"
            assert not stream.recording.exists()
        assert recover(Store(folder / "store"), folder / "slots").items == []


def test_a_crash_ends_the_take_at_its_last_frame(store: Path, slots: Path) -> None:
    stream = CrashingStream(store, slots)
    stream.write(100)
    ended_ns = stream.staging.slots.stats()["end_ns"]
    stream.crash()
    before_ns = time.monotonic_ns()
    item = only(recover(Store(store), slots))
    after_ns = time.monotonic_ns()
    info = load(stream.recording)
    assert (info.n_frames, info.clean) == (100, False)
    assert Cause.ENGINE_DOWN not in {gap.cause for gap in info.gaps}
    down = item.down_frames
    assert round((before_ns - ended_ns) * RATE / 1e9) <= down <= round((after_ns - ended_ns) * RATE / 1e9)
    assert (item.n_frames, item.n_recovered) == (100, 100)


def test_the_next_take_says_what_it_follows_and_how_long_nothing_was_captured(store: Path, slots: Path) -> None:
    stream = CrashingStream(store, slots, "stream://mic/1")
    stream.write(100)
    ended_ns = stream.staging.slots.stats()["end_ns"]
    stream.crash()
    recover(Store(store), slots)
    takes = [CrashingStream(store, slots, f"stream://mic/{take}") for take in (2, 3)]
    for take in takes:
        take.write(50)
        take.tick()
        take.stop()
    shape = load(takes[0].recording).definition
    assert shape.follows == "stream://mic/1"
    assert shape.away_ns == shape.started_monotonic_ns - ended_ns
    after = load(takes[1].recording).definition
    assert (after.follows, after.away_ns) == (None, None)


def test_a_take_that_a_crash_ended_before_it_had_a_recording_follows_as_well(store: Path, slots: Path) -> None:
    """All there is of it then is its staging file."""
    ends = []
    for take in (1, 2):
        stream = CrashingStream(store, slots, f"stream://mic/{take}")
        stream.write(100)
        ends.append(stream.staging.slots.stats()["end_ns"])
        assert not stream.recording.exists()
        stream.crash()
        recover(Store(store), slots)
    last = CrashingStream(store, slots, "stream://mic/3")
    last.write(50)
    last.tick()
    last.stop()
    for take, ended_ns in enumerate(ends, 1):
        shape = load(Store(store).path(f"stream://mic/{take + 1}")).definition
        assert shape.follows == f"stream://mic/{take}"
        assert shape.away_ns == shape.started_monotonic_ns - ended_ns


def test_takes_that_ran_at_one_time_do_not_follow_each_other(store: Path, slots: Path) -> None:
    streams = [CrashingStream(store, slots, f"stream://mic/{take}") for take in (1, 2)]
    for stream in streams:
        stream.write(RATE)
        stream.crash()
    recover(Store(store), slots)
    assert [load(stream.recording).definition.follows for stream in streams] == [None, None]


def test_another_devices_take_follows_nothing(store: Path, slots: Path) -> None:
    stream = CrashingStream(store, slots, "stream://mic/1")
    stream.write(100)
    stream.crash()
    recover(Store(store), slots)
    shape = definition("stream://mic/2", boot_id=boot_id())
    shape = msgspec.structs.replace(shape, started_monotonic_ns=time.monotonic_ns())
    other = msgspec.structs.replace(shape, device={"identity": "serial:2"})
    assert succeed(Store(store), other).follows is None
    assert succeed(Store(store), shape).follows == "stream://mic/1"
    later = msgspec.structs.replace(shape, boot_id="1" * 32, started_wall_ns=time.time_ns() + 3_000_000_000)
    away_ns = succeed(Store(store), later).away_ns
    assert away_ns is not None
    assert 2.9e9 < away_ns < 10e9


def test_a_copy_that_was_under_way_leaves_no_trace(store: Path, slots: Path) -> None:
    stream = CrashingStream(store, slots, n_slots=3)
    stream.write(20)
    with stream.staging.slot(1) as data:
        data[10:] = bytes(b or 7 for b in data[10:])
        data[:16], data[64:80] = (stream.model[channel, 16:20].tobytes() for channel in (0, 1))
    stream.crash()
    recover(Store(store), slots)
    check_recording(stream)


def test_recovery_may_die_at_any_call_and_is_done_again() -> None:
    number, done = 0, False
    while not done:
        with fast_folder() as folder:
            stream = a_crash(folder / "store", folder / "slots")
            try:
                with failing_call(number, PulledPlug):
                    recover(Store(folder / "store"), folder / "slots")
                done = True
            except PulledPlug:
                recover(Store(folder / "store"), folder / "slots")
            check_recording(stream)
            assert list((folder / "slots").iterdir()) == []
        number += 3
    assert number > 60


def test_a_recovery_that_fails_gives_up_the_lock(store: Path, slots: Path) -> None:
    """A daemon lives on, and tries again."""
    stream = a_crash(store, slots)
    writer = mock.patch("chaos.store.chunks.ChunkFiles.tidy", side_effect=OSError(5, "Input/output error"))
    with writer:
        assert only(recover(Store(store), slots)).outcome == "failed"
    assert only(recover(Store(store), slots)).outcome == "recovered"
    check_recording(stream)


def test_full_storage_keeps_everything_until_there_is_room(store: Path, slots: Path) -> None:
    stream = a_crash(store, slots)
    with failing_call(5, no_space):
        report = recover(Store(store), slots)
    item = only(report)
    assert (report.ok, item.outcome) == (False, "failed")
    assert "No space left" in item.text
    assert stream.staging.path.exists()
    assert only(recover(Store(store), slots)).outcome == "recovered"
    check_recording(stream)


def test_a_torn_journal_line_is_cut_off_and_told(store: Path, slots: Path) -> None:
    stream = a_crash(store, slots)
    journal = stream.recording / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    item = only(recover(Store(store), slots))
    assert "torn" in item.text
    check_recording(stream)


def test_a_half_written_chunk_is_written_anew(store: Path, slots: Path) -> None:
    stream = a_crash(store, slots)
    chunks = stream.recording / "audio" / "c" / "0"
    last = load(stream.recording).chunks[-1].chunk
    (chunks / f".{last + 1}.new").write_bytes(b"half of")
    (chunks / f".{last + 2}.part").write_bytes(b"\0" * 130)
    assert only(recover(Store(store), slots)).outcome == "recovered"
    check_recording(stream)
    assert not list(chunks.glob(".*"))


def test_without_its_staging_file_what_was_checkpointed_survives(store: Path, slots: Path) -> None:
    stream = CrashingStream(store, slots)
    stream.write(20)
    stream.miss(9)
    stream.write(11)
    stream.tick()
    saved = stream.n_frames
    stream.write(100)
    stream.crash()
    stream.staging.path.unlink()
    item = only(recover(Store(store), slots))
    assert item.outcome == "recovered"
    assert "staging file is gone" in item.text
    check_recording(stream, n_lost=stream.n_frames - saved)


def put(path: Path, field: str, value: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(_layout.OFFSETS[field])
        file.write(value)


def of_another_version(path: Path) -> None:
    put(path, "version", struct.pack("<I", 99))


def of_another_machine(path: Path) -> None:
    with path.open("r+b") as file:
        content = file.read()
        at = content.index(b'"machine":"') + len('"machine":"')
        file.seek(at)
        file.write(b"?")


def of_nobody(path: Path) -> None:
    put(path, "about_bytes", bytes(8))


@pytest.mark.parametrize(
    ("change", "outcome", "says"),
    [
        (of_another_version, "left", "another release"),
        (of_another_machine, "foreign", "another machine"),
        (of_nobody, "left", "does not say"),
    ],
)
def test_what_is_not_ours_to_read_is_left_as_it_is(
    store: Path, slots: Path, change: Callable[[Path], None], outcome: str, says: str
) -> None:
    stream = a_crash(store, slots)
    path = stream.staging.path
    change(path)
    content, journal = path.read_bytes(), (stream.recording / "journal.jsonl").read_bytes()
    report = recover(Store(store), slots)
    assert report.ok
    assert report.items[0].outcome == outcome
    assert says in report.items[0].text
    assert path.read_bytes() == content
    if change is not of_nobody:
        assert (stream.recording / "journal.jsonl").read_bytes() == journal


@pytest.mark.parametrize(
    "change",
    [
        lambda path: put(path, "data_offset", struct.pack("<Q", 1 << 60)),
        lambda path: put(path, "sample_format", struct.pack("<I", 77)),
        lambda path: put(path, "chunk_frames", bytes(8)),
        lambda path: os.truncate(path, 100),
        lambda path: os.truncate(path, 5000),
    ],
)
def test_a_damaged_staging_file_is_left_and_the_checkpoints_are_used(
    store: Path, slots: Path, change: Callable[[Path], None]
) -> None:
    stream = CrashingStream(store, slots)
    stream.write(20)
    stream.tick()
    stream.crash()
    change(stream.staging.path)
    content = stream.staging.path.read_bytes()
    outcomes = [item.outcome for item in recover(Store(store), slots).items]
    assert outcomes == ["left", "recovered"]
    assert stream.staging.path.read_bytes() == content
    check_recording(stream)


@settings(max_examples=150)
@given(at=st.integers(0, 4095), bits=st.integers(1, 255))
def test_no_damage_to_the_control_block_is_a_traceback(at: int, bits: int) -> None:
    with fast_folder() as folder:
        stream = a_crash(folder / "store", folder / "slots")
        with stream.staging.path.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ bits]))
        for item in recover(Store(folder / "store"), folder / "slots").items:
            assert "not understood" not in item.text


def test_a_living_daemons_files_are_not_touched(store: Path, slots: Path) -> None:
    stream = CrashingStream(store, slots)
    stream.write(20)
    stream.rotate()
    assert recover(Store(store), slots).items == []
    stream.write(30)
    stream.stop()
    assert load(stream.recording).clean is True
    assert verify(stream.recording).ok
    assert recover(Store(store), slots).items == []


def test_another_stores_frames_stay_for_it(store: Path, slots: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    stream = a_crash(other, slots)
    put(stream.staging.path, "pid", struct.pack("<I", 1 << 22))
    item = only(recover(Store(store), slots))
    assert (item.outcome, str(other) in item.text) == ("foreign", True)
    assert only(recover(Store(other), slots)).outcome == "recovered"
    check_recording(stream)


def test_another_recording_in_its_place_is_left_alone(store: Path, slots: Path) -> None:
    stream = a_crash(store, slots)
    shutil.rmtree(stream.recording)
    other = CrashingStream(store, slots)
    other.write(5)
    other.rotate()
    other.stop()
    item = only(recover(Store(store), slots))
    assert (item.outcome, "move it away" in item.text) == ("left", True)
    assert stream.staging.path.exists()
    assert load(other.recording).clean is True


def test_a_file_that_was_being_made_goes_once_it_is_old(store: Path, slots: Path) -> None:
    slots.mkdir()
    path = slots / "x.staging"
    path.write_bytes(bytes(8192))
    assert recover(Store(store), slots).items == []
    assert path.exists()
    os.utime(path, (0, 0))
    assert only(recover(Store(store), slots)).outcome == "removed"
    assert not path.exists()


@pytest.mark.parametrize("has_frames", [True, False])
def test_a_take_that_another_went_on_from_ends_with_its_last_frame(
    store: Path, slots: Path, has_frames: bool
) -> None:
    one = CrashingStream(store, slots, "stream://mic/1")
    other = CrashingStream(store, slots, "stream://mic/2", continues="stream://mic/1")
    one.write(40)
    if has_frames:
        other.write(10)
    one.crash()
    other.crash()
    (item,) = [item for item in recover(Store(store), slots).items if item.uri == one.uri]
    assert load(one.recording).n_frames == 40
    assert (item.down_frames == 0) is has_frames
    assert other.recording.exists() is has_frames
    check_recording(one)


def test_a_controllers_last_chunks_go_into_the_recording(store: Path, slots: Path) -> None:
    stream = CrashingStream(store, slots, external=True)
    stream.write(40)
    stream.rotate()
    stream.crash()
    assert only(recover(Store(store), slots)).outcome == "recovered"
    info = load(stream.recording)
    assert [sealed.n_frames for sealed in info.chunks] == [16, 16, 8]
    assert Path(info.chunks[-1].path).parent == stream.recording / "unclaimed"
    assert verify(stream.recording).ok


def test_an_end_that_only_the_journal_knows_is_told_everywhere(store: Path, slots: Path) -> None:
    stream = CrashingStream(store, slots)
    stream.write(40)
    stream.rotate()
    group = (stream.recording / "zarr.json").read_bytes()
    stream.stop()
    (stream.recording / "zarr.json").write_bytes(group)
    assert not verify(stream.recording).ok
    assert "metadata" in only(recover(Store(store), slots)).text
    check_recording(stream)


def test_after_a_reboot_the_wall_clock_tells_how_long(
    store: Path, slots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = CrashingStream(store, slots)
    stream.write(100)
    stream.rotate()
    stream.crash()
    put(stream.staging.path, "boot_id", bytes(16))
    monkeypatch.setattr(completion, "boot_id", lambda: "0" * 32)
    now_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + 3_000_000_000)
    item = only(recover(Store(store), slots))
    assert 2.9 * RATE < item.down_frames < 10 * RATE


def test_the_command_reports_as_json(store: Path, slots: Path) -> None:
    stream = a_crash(store, slots)
    options = ["--endpoint", f"ipc://{store.parent}/c", "--events", f"ipc://{store.parent}/e", "--store", str(store)]
    command = [*options, "recover", "--staging-dir", str(slots)]
    result = CliRunner().invoke(main, [*command, "--json"])
    assert result.exit_code == 0, result.output
    report = msgspec.convert(json.loads(result.stdout), RecoveryReport)
    assert [item.outcome for item in report.items] == ["recovered"]
    check_recording(stream)
    assert "Nothing to recover." in CliRunner().invoke(main, command).stdout


def test_staging_says_what_it_is_about(store: Path, slots: Path) -> None:
    stream = CrashingStream(store, slots)
    told = msgspec.json.decode(stream.about)
    assert told["store"] == str(store)
    assert told["definition"]["uri"] == stream.uri
    stream.crash()


def test_the_rate_is_that_of_the_first_frame_whatever_the_graph_did_since(store: Path, slots: Path) -> None:
    """The graph went over to another rate, of which nothing was kept, and the recording had not been made yet."""
    stream = CrashingStream(store, slots)
    stream.write(40)
    stream.staging.slots.cycle(5000, 16, bytes(16 * 2 * 4), rate=44100)
    assert stream.staging.slots.stats()["seen_rate"] == 44100
    stream.crash()
    recover(Store(store), slots)
    info = load(stream.recording)
    assert (info.definition.sample_rate, info.n_frames) == (RATE, 40)
