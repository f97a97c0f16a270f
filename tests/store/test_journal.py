from __future__ import annotations

import fcntl
import os
import zlib
from contextlib import suppress
from pathlib import Path
from unittest import mock

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from recorded import checked, definition, failing_call, no_space

from chaos.store import journal as journals
from chaos.store.info import load
from chaos.store.journal import Journal, JournalReader
from chaos.store.lines import (
    JOURNAL_VERSION,
    AnchorLine,
    ChunkLine,
    Finish,
    GapLine,
    Header,
    Line,
    OpenGapLine,
    decode,
    decode_all,
)
from chaos.terms.errors import RecordingNotFound, StorageFailed, StorageFull, StreamExists
from chaos.terms.ledger import Cause, Confidence, Coverage, Gap, lost_frames

LINES: list[Line] = [
    AnchorLine(0, 9, 1, 2),
    ChunkLine(0, 0, 16, "ab" * 32),
    OpenGapLine(16, 3, "device_away", "clock"),
    GapLine(16, 7, "device_away", "clock"),
    ChunkLine(1, 16, 16, "cd" * 32, "/elsewhere/one"),
    Finish(32, True),
]


def written(folder: Path) -> Path:
    path = folder / "journal.jsonl"
    journal = Journal.create(path, definition())
    for line in LINES:
        journal.append(line)
    journal.flush()
    journal.close()
    journal.close()
    return path


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    reader = JournalReader(written(tmp_path))
    assert reader.poll() == [Header(JOURNAL_VERSION, definition()), *LINES]
    assert reader.poll() == []
    assert not reader.torn
    assert not reader.bad_lines


def test_each_line_is_json_with_its_check(tmp_path: Path) -> None:
    header, anchor = written(tmp_path).read_bytes().splitlines()[:2]
    after = blake3(header).hexdigest()[:16].encode()
    body = b'{"after":"%b","type":"anchor","frame":0,"position":9,"monotonic_ns":1,"wall_ns":2}' % after
    assert anchor == b'{"check":"%08x",' % zlib.crc32(body) + body[1:]


_BAD_BODIES = [
    b'{"type":"chunk","chunk":1,"first_frame":0,"n_frames":1,"hash":"%b"}' % (b"x" * 64),
    b'{"type":"chunk","chunk":1,"first_frame":0,"n_frames":1,"hash":"%b"}' % (b"AB" * 32),
    b'{"type":"chunk","chunk":1,"first_frame":0,"n_frames":1,"hash":"%b"}' % (b"a " * 32),
    b'{"type":"chunk","chunk":1,"first_frame":0,"n_frames":1,"hash":"ab"}',
    b'{"type":"chunk","chunk":-1,"first_frame":0,"n_frames":1,"hash":"%b"}' % (b"ab" * 32),
    b'{"type":"gap","first_frame":1,"n_frames":2,"cause":"weather","confidence":"exact"}',
    b'{"type":"open","first_frame":1,"n_frames":2,"cause":"missed","confidence":"perhaps"}',
    b'{"type":"anchor","frame":1,"position":1,"monotonic_ns":1,"wall_ns":1,"clock_state":77}',
    b'{"type":"finish","n_frames":1,"clean":true},{"type":"finish","n_frames":1,"clean":true}',
    b'{"type":"nothing"}',
    b'{"type":"finish"',
    b"{}",
]


@given(st.lists(st.sampled_from([*map(msgspec.json.encode, LINES), *_BAD_BODIES]), max_size=12), st.data())
def test_lines_read_in_one_go_are_those_read_one_by_one(bodies: list[bytes], data: st.DataObject) -> None:
    raws = [checked(body)[:-1] for body in bodies]
    if raws and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(raws) - 1))
        raws[at] = data.draw(st.sampled_from([b"", b"[]", raws[at][:-1], raws[at] + b",{}", raws[at].swapcase()]))
    singly: list[Line] = []
    for raw in raws:
        with suppress(ValueError):
            singly.append(decode(raw))
    if len(singly) == len(raws):
        assert decode_all(raws) == singly
    else:
        with pytest.raises((ValueError, msgspec.DecodeError)):
            decode_all(raws)


def test_a_line_that_was_taken_out_shows(tmp_path: Path) -> None:
    path = written(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    for gone in range(1, len(lines) - 1):
        path.write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
        reader = JournalReader(path)
        reader.poll()
        assert (reader.bad_lines, reader.missing_before) == ([], [gone + 1])


def test_lines_that_changed_places_show(tmp_path: Path) -> None:
    path = written(tmp_path)
    first, second, third, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, third, second, *rest]))
    reader = JournalReader(path)
    reader.poll()
    assert reader.missing_before == [2, 3, 4]


def test_a_reopened_journal_goes_on_with_the_chain(tmp_path: Path) -> None:
    path = written(tmp_path)
    with path.open("ab") as file:
        file.write(b'{"torn')
    again = Journal.reopen(path)
    again.append(GapLine(32, 1, "missed", "exact"))
    again.flush()
    again.close()
    reader = JournalReader(path)
    assert reader.poll()[-1] == GapLine(32, 1, "missed", "exact")
    assert (reader.bad_lines, reader.missing_before, again.was_torn) == ([], [], True)


def test_a_journal_of_version_1_stays_one(tmp_path: Path) -> None:
    """Its lines are not chained, and neither are those that are added to it."""
    path = tmp_path / "journal.jsonl"
    header = msgspec.json.encode(Header(1, definition()))
    gap = b'{"type":"gap","first_frame":1,"n_frames":2,"cause":"missed","confidence":"exact"}'
    path.write_bytes(checked(header) + checked(gap))
    again = Journal.reopen(path)
    again.append(Finish(3, True))
    again.flush()
    again.close()
    assert b'"after":' not in path.read_bytes()
    reader = JournalReader(path)
    assert reader.poll()[-1] == Finish(3, True)
    assert (reader.bad_lines, reader.missing_before) == ([], [])


def test_a_journal_is_never_created_over_another(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(FileExistsError):
        Journal.create(path, definition())


def test_it_can_be_cut_at_any_byte(tmp_path: Path) -> None:
    whole = written(tmp_path).read_bytes()
    lines = [Header(JOURNAL_VERSION, definition()), *LINES]
    path = tmp_path / "cut" / "journal.jsonl"
    path.parent.mkdir()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        reader = JournalReader(path)
        n_whole = whole[:size].count(b"\n")
        assert reader.poll() == lines[:n_whole]
        assert reader.torn == (size > 0 and whole[size - 1] != ord("\n"))
        assert not reader.bad_lines
        if n_whole:
            journal = Journal.reopen(path)
            journal.append(Finish(5, False))
            journal.flush()
            journal.close()
            again = JournalReader(path)
            assert again.poll() == [*lines[:n_whole], Finish(5, False)]
            assert not again.bad_lines


def test_a_reader_follows_a_line_that_comes_in_pieces(tmp_path: Path) -> None:
    whole = written(tmp_path).read_bytes()
    path = tmp_path / "growing.jsonl"
    path.touch()
    reader = JournalReader(path)
    lines: list[Line] = []
    with path.open("ab", buffering=0) as file:
        for byte in range(len(whole)):
            file.write(whole[byte : byte + 1])
            lines += reader.poll()
    assert lines == [Header(JOURNAL_VERSION, definition()), *LINES]
    assert not reader.bad_lines


@pytest.mark.parametrize(
    "damage",
    [
        b"\0\0\0\0\n",
        b"\xff\n",
        b'{"type":"anchor","frame":0,"position":9,"monotonic_ns":1,"wall_ns":2}\n',
        b'{"check":"00000000","type":"anchor","frame":0,"position":9,"monotonic_ns":1,"wall_ns":2}\n',
        checked(b'{"type":"chunk","chunk":1}'),
        checked(b'{"type":"gap","first_frame":1,"n_frames":2,"cause":"gremlins","confidence":"exact"}'),
        checked(b'{"type":"chunk","chunk":-1,"first_frame":0,"n_frames":1,"hash":"' + b"a" * 64 + b'"}'),
        checked(b'{"type":"chunk","chunk":1,"first_frame":0,"n_frames":1,"hash":"not a hash"}'),
    ],
)
def test_a_damaged_line_is_named_and_the_others_stand(tmp_path: Path, damage: bytes) -> None:
    path = written(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], damage, *lines[3:]]))
    reader = JournalReader(path)
    assert reader.poll() == [Header(JOURNAL_VERSION, definition()), *LINES]
    assert reader.bad_lines == [4]


def test_a_writer_is_seen_as_long_as_it_lives(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "journal.jsonl", definition())
    assert load(tmp_path).state == "recording"
    with pytest.raises(StreamExists):
        Journal.reopen(tmp_path / "journal.jsonl")
    journal.close()
    assert load(tmp_path).state == "interrupted"


def test_a_line_that_storage_refused_is_written_by_a_later_flush(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "journal.jsonl", definition())
    with failing_call(0, no_space):
        journal.append(LINES[0])
    for line in LINES[1:5]:
        journal.append(line)
    for call, name in [(0, "fdatasync"), (0, "pwrite"), (1, "fdatasync")]:
        with failing_call(call, no_space) as calls, pytest.raises(StorageFull) as caught:
            journal.flush()
        assert calls[call] == name
        assert caught.value.details["errno_name"] == "ENOSPC"
    journal.flush()
    journal.close()
    assert JournalReader(tmp_path / "journal.jsonl").poll() == [Header(JOURNAL_VERSION, definition()), *LINES[:5]]


def test_a_line_is_written_once_however_many_wait_for_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal.create(path, definition())
    before, sizes, pwrite = path.stat().st_size, list[int](), os.pwrite

    def counted(fd: int, data: memoryview, offset: int) -> int:
        sizes.append(len(data))
        return pwrite(fd, data, offset)

    with mock.patch.object(os, "pwrite", counted):
        for line in LINES[:5] * 20:
            journal.append(line)
        journal.flush()
    journal.close()
    assert (len(sizes), sum(sizes)) == (100, path.stat().st_size - before)
    assert len(JournalReader(path).poll()) == 101


def test_what_is_no_journal_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordingNotFound):
        load(tmp_path / "nothing")
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"")
    with pytest.raises(StorageFailed, match="first line"):
        load(tmp_path)
    os.truncate(written_over(path, tmp_path), 10)
    with pytest.raises(StorageFailed, match="first line"):
        load(tmp_path)


def written_over(path: Path, folder: Path) -> Path:
    path.unlink()
    return written(folder)


def test_a_newer_journal_is_left_alone(tmp_path: Path) -> None:
    path = written(tmp_path)
    first, _, rest = path.read_bytes().partition(b"\n")
    newer = b"{" + first[len(b'{"check":"12345678",') :].replace(b'"version":2', b'"version":3', 1)
    path.write_bytes(checked(newer) + rest)
    with pytest.raises(StorageFailed, match="newer"):
        load(tmp_path)


def test_labels_are_names_in_lower_case() -> None:
    assert [cause.label for cause in Cause] == [
        "missed",
        "hardware_xrun",
        "overrun",
        "device_away",
        "driver_switch",
        "engine_down",
        "no_data",
        "retired",
        "foreign",
        "midi_overflow",
        "clock_jump",
    ]
    assert [int(cause) for cause in Cause] == list(range(1, 12))
    assert [(int(one), one.label) for one in Confidence] == [(1, "exact"), (2, "clock"), (3, "estimated")]
    assert all(Cause.from_label(cause.label) is cause for cause in Cause)
    with pytest.raises(ValueError, match="gremlins"):
        Cause.from_label("gremlins")


def test_what_was_retired_is_not_lost() -> None:
    gaps = [Gap(0, 5, Cause.RETIRED, Confidence.EXACT), Gap(7, 3, Cause.OVERRUN, Confidence.EXACT)]
    assert lost_frames(gaps) == 3


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10))))
def test_coverage_reaches_to_the_first_hole(spans: list[tuple[int, int]]) -> None:
    coverage, covered = Coverage(), set()
    for first, n_frames in spans:
        before = coverage.to
        coverage.add(first, n_frames)
        covered |= set(range(first, first + n_frames))
        assert coverage.to >= before
        assert coverage.to == next(frame for frame in range(100) if frame not in covered)


def test_a_reader_who_looks_for_a_writer_keeps_none_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    Journal.create(path, definition()).close()
    looking = os.open(path, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    with pytest.raises(StreamExists):
        Journal.reopen(path)
    pauses = iter([lambda: None, lambda: os.close(looking)])
    monkeypatch.setattr(journals.time, "sleep", lambda _: next(pauses)())
    Journal.reopen(path).close()


def test_reopening_cuts_nothing_off_that_came_while_it_waited_for_the_lock(tmp_path: Path) -> None:
    """Another writer's last line comes just before its lock goes, and so before ours."""
    path = tmp_path / "journal.jsonl"
    other = Journal.create(path, definition())
    real_lock = journals._lock

    def late(fd: int) -> None:
        other.append(Finish(16, True))
        other.flush()
        other.close()
        real_lock(fd)

    with mock.patch.object(journals, "_lock", late):
        Journal.reopen(path).close()
    assert JournalReader(path).poll()[-1] == Finish(16, True)


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_journal_goes_on_in_another_file_of_its_name_only_if_that_is_the_same_recording(
    tmp_path: Path, is_ours: bool
) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal.create(path, definition())
    other = definition() if is_ours else msgspec.structs.replace(definition(), run_id="another run")
    back = tmp_path / "back"
    Journal.create(back, other).close()
    back.replace(path)
    assert journal.look_again() is is_ours
    journal.append(LINES[0])
    journal.flush()
    assert JournalReader(path).poll()[1:] == (LINES[:1] if is_ours else [])
    journal.close()
