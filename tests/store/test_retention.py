"""Retention: the oldest goes, the ledger tells it, pins and other recordings keep what they have."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from click.testing import CliRunner
from crashing import CrashingStream, fast_folder
from recorded import START_NS, PulledPlug, Rotator, definition, failing_call, names

from chaos.cli.main import main
from chaos.engine.messages import RetireChunks
from chaos.read import recording as reader
from chaos.store import retention
from chaos.store.age import Now
from chaos.store.info import load
from chaos.store.kept import Kept
from chaos.store.objects import ObjectStore
from chaos.store.pins import pin, pins, unpin
from chaos.store.recovery import recover
from chaos.store.retention import collect, plan, retire
from chaos.store.store import Store
from chaos.store.uploaded import Progress, Uploads, set_target
from chaos.store.verify import verify
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import InvalidRange, InvalidRequest, InvalidURI, RecordingNotFound, StorageFailed
from chaos.terms.ledger import Cause, ClockAnchor, Confidence, Gap, lost_frames
from chaos.terms.units import Keep, parse_keep

CHUNK_BYTES = 2 * 16 * 4


@pytest.fixture
def store() -> Iterator[Path]:
    with fast_folder() as folder:
        yield folder / "store"


def record(store: Path, take: str, n_frames: int, seed: int = 0, **more: Any) -> Rotator:
    """A finished recording of chunks of 16 frames."""
    stream = Rotator(RecordingWriter.create(Store(store), definition(f"stream://mic/{take}", **more)), seed)
    stream.write(n_frames)
    stream.stop()
    return stream


def retired(path: Path) -> list[tuple[int, int]]:
    gaps = [gap for gap in load(path).gaps if gap.cause is Cause.RETIRED]
    return [(gap.first_frame, gap.n_frames) for gap in gaps]


def objects(store: Path) -> int:
    return sum(1 for path in (store / "objects").glob("*/*"))


@pytest.mark.parametrize(
    ("text", "keep"),
    [
        ("7d", Keep(604800.0, None)),
        ("12h", Keep(43200.0, None)),
        ("200GB", Keep(None, 200 << 30)),
        ("1.5h", Keep(5400.0, None)),
        ("2T", Keep(None, 2 << 40)),
    ],
)
def test_what_to_keep_is_a_time_or_a_size(text: str, keep: Keep) -> None:
    assert parse_keep(text) == keep


@pytest.mark.parametrize("text", ["", "7 parsecs", "GB", "-1d"])
def test_what_is_neither_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_keep(text)
    assert "200GB" in caught.value.hint


@pytest.mark.parametrize("keep", ["30", "500m"])
def test_an_old_recordings_ambiguous_keep_removes_nothing_and_stops_nobody(store: Path, keep: str) -> None:
    path = record(store, "old", 64, 1, keep=keep).writer.path
    other = record(store, "new", 64, 2, keep="1h").writer.path
    later = Now(START_NS + 10**18, 0, 0, "another boot")
    assert [each.recording for each in plan(Store(store), None, later)] == [str(other)]
    assert verify(path).ok


def test_the_oldest_chunks_go_until_the_size_fits(store: Path) -> None:
    stream = record(store, "1", 100)
    path = stream.writer.path
    (done,) = retire(Store(store), Keep(None, 3 * CHUNK_BYTES))
    assert (done.n_frames, done.n_bytes, len(done.chunks)) == (64, 4 * CHUNK_BYTES, 4)
    assert retired(path) == [(0, 64)]
    assert names(path / "audio" / "c" / "0") == ["4", "5", "6"]
    assert objects(store) == 3
    report = verify(path)
    assert report.ok, report.bad
    assert (report.n_frames, report.lost_frames) == (100, 0)
    assert retire(Store(store), Keep(None, 3 * CHUNK_BYTES)) == []


def test_readers_see_a_ledger_entry_and_never_silence(store: Path) -> None:
    stream = record(store, "1", 100)
    retire(Store(store), Keep(None, 3 * CHUNK_BYTES))
    with reader.open(stream.writer.path) as recording:
        np.testing.assert_array_equal(recording[64:], stream.model[:, 64:])
        assert np.isnan(recording.read(0, 64, "nan")).all()
        with pytest.raises(InvalidRange):
            recording.read(60, 70, "error")
        assert [gap.cause for gap in recording.gaps] == [Cause.RETIRED]


def test_what_is_older_than_the_time_goes(store: Path) -> None:
    stream = record(store, "1", 100)
    frame_ns = 1_000_000_000 / 48000
    now = Now(START_NS + int((64 + 48000) * frame_ns) + 1, 0, 0, "another boot")
    retire(Store(store), Keep(1.0, None), now)
    assert retired(stream.writer.path) == [(0, 64)]
    assert retire(Store(store), Keep(1.0, None), now) == []


def test_the_oldest_of_all_recordings_goes_first(store: Path) -> None:
    late = record(store, "late", 64, 1, started_wall_ns=START_NS + 10_000_000_000).writer.path
    early = record(store, "early", 64, 2).writer.path
    retire(Store(store), Keep(None, 5 * CHUNK_BYTES))
    assert (retired(early), retired(late)) == ([(0, 48)], [])
    retire(Store(store), Keep(None, 2 * CHUNK_BYTES))
    assert (retired(early), retired(late)) == ([(0, 64)], [(0, 32)])
    assert verify(early).ok
    assert verify(late).ok


def test_a_recording_has_a_limit_of_its_own(store: Path) -> None:
    small = record(store, "small", 64, 1, keep=f"{2 * CHUNK_BYTES}B").writer.path
    short = record(store, "short", 64, 2, keep="1h").writer.path
    free = record(store, "free", 64, 3).writer.path
    retire(Store(store), None)
    assert (retired(small), retired(short), retired(free)) == ([(0, 32)], [(0, 64)], [])


@pytest.mark.parametrize("claimed", ["1s", "1B"])
def test_no_audio_goes_by_a_rule_that_the_catalogue_alone_has(store: Path, claimed: str) -> None:
    record(store, "1", 64)
    record(store, "2", 64, seed=1, keep=claimed)
    assert len(plan(Store(store), None)) == 1
    with sqlite3.connect(store / "catalog.db") as base:
        base.execute("UPDATE take SET keep = ? WHERE take = '1'", (claimed,))
    base.close()
    planned = plan(Store(store), None, afresh=True)
    assert [each.uri for each in planned] == ["stream://mic/2"]


def test_gaps_inside_of_what_goes_stay_in_the_ledger(store: Path) -> None:
    stream = Rotator(RecordingWriter.create(Store(store), definition("stream://mic/1")))
    stream.write(10)
    stream.gap(30)
    stream.write(60)
    stream.stop()
    path = stream.writer.path
    retire(Store(store), Keep(None, 2 * CHUNK_BYTES))
    assert retired(path) == [(0, 10), (40, 40)]
    assert lost_frames(load(path).gaps) == 30
    assert verify(path).ok


def test_a_chunk_that_two_recordings_have_stays_for_the_other(store: Path) -> None:
    one = record(store, "1", 64, 7).writer.path
    second = record(store, "2", 64, 7, started_wall_ns=START_NS + 10_000_000_000).writer.path
    assert objects(store) == 4
    retire(Store(store), Keep(None, 4 * CHUNK_BYTES))
    assert (retired(one), retired(second), objects(store)) == ([(0, 64)], [], 4)
    assert verify(second).ok


def test_a_pinned_slice_keeps_its_chunks(store: Path) -> None:
    stream = record(store, "1", 100)
    path = stream.writer.path
    made = pin(Store(store), "interview", load(path), 20, 40)
    assert [span.chunk for span in made.chunks] == [1, 2]
    assert pins(Store(store)) == [made]
    retire(Store(store), Keep(None, 0))
    assert retired(path) == [(0, 16), (48, 52)]
    with reader.open(path) as recording:
        np.testing.assert_array_equal(recording[20:40], stream.model[:, 20:40])
    unpin(Store(store), "interview")
    retire(Store(store), Keep(None, 0))
    assert retired(path) == [(0, 16), (48, 52), (16, 32)]
    assert objects(store) == 0
    with pytest.raises(RecordingNotFound):
        unpin(Store(store), "interview")
    with pytest.raises(InvalidURI):
        pin(Store(store), "../up", load(path), 0, 1)


def test_objects_that_nothing_refers_to_are_collected(store: Path) -> None:
    record(store, "1", 64)
    stray = store / "stray"
    stray.write_bytes(b"once a chunk")
    ObjectStore(store / "objects").add("ab" * 32, stray)
    assert collect(Store(store)) == 0
    stray.unlink()
    assert collect(Store(store)) == 1
    assert objects(store) == 4


def test_a_retirement_may_die_at_any_call_and_is_done_again() -> None:
    number, done = 0, False
    while not done:
        with fast_folder() as folder:
            store = folder / "store"
            path = record(store, "1", 100).writer.path
            try:
                with failing_call(number, PulledPlug):
                    retire(Store(store), Keep(None, 2 * CHUNK_BYTES))
                done = True
            except PulledPlug:
                pass
            recover(Store(store), folder / "slots")
            retire(Store(store), Keep(None, 2 * CHUNK_BYTES))
            assert retired(path) == [(0, 80)]
            assert (objects(store), names(path / "audio" / "c" / "0")) == (2, ["5", "6"])
            assert verify(path).bad == []
            number += 1
    assert number > 20


def test_a_running_recording_is_left_to_its_rotator(store: Path) -> None:
    stream = CrashingStream(store, store.parent / "slots", n_slots=8)
    stream.write(100)
    stream.rotate()
    (planned,) = retire(Store(store), Keep(None, 2 * CHUNK_BYTES))
    assert (planned.live, retired(stream.recording)) == (True, [])
    stream.rotator.on_receive(RetireChunks(planned.chunks, planned.gaps))
    assert stream.told("stream_gap") == ["stream_gap"]
    assert retired(stream.recording) == [(0, 64)]
    assert plan(Store(store), Keep(None, 2 * CHUNK_BYTES)) == []
    stream.write(20)
    stream.stop()
    report = verify(stream.recording)
    assert report.ok, report.bad
    with reader.open(stream.recording) as recording:
        np.testing.assert_array_equal(recording[64:], stream.model[:, 64:])


def test_the_commands_pin_and_retire(store: Path) -> None:
    stream = record(store, "1", 100)
    options = ["--endpoint", f"ipc://{store.parent}/c", "--events", f"ipc://{store.parent}/e", "--store", str(store)]

    def run(*command: str) -> dict[str, Any]:
        result = CliRunner().invoke(main, [*options, *command, "--json"])
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    assert run("pin", "p", "stream://mic/1", "--from", "0", "--to", "16")["n_frames"] == 16
    (done,) = run("retire", "--keep", f"{3 * CHUNK_BYTES}B")["retired"]
    assert done["chunks"] == 4
    assert retired(stream.writer.path) == [(16, 64)]
    assert run("unpin", "p") == {"unpinned": "p"}


def test_a_recording_whose_keep_makes_no_sense_costs_only_itself(store: Path) -> None:
    odd, plain = record(store, "odd", 64, keep="9" * 400 + "d"), record(store, "plain", 64, 1)
    planned = plan(Store(store), Keep(None, 0))
    assert {each.recording for each in planned} == {str(odd.writer.path), str(plain.writer.path)}
    assert plan(Store(store), None) == []


def test_a_damaged_pin_keeps_what_can_be_read_of_it_and_stops_nothing(store: Path) -> None:
    kept, other = record(store, "kept", 64), record(store, "other", 64, 1)
    pin(Store(store), "precious", load(kept.writer.path), 0, 32)
    path = store / "pins" / "precious.json"
    path.write_bytes(path.read_bytes()[:-3])
    (store / "pins" / "junk.json").write_bytes(b"\xff\0{")
    assert pins(Store(store)) == []
    retire(Store(store), Keep(None, 0))
    assert [(path.name) for path in sorted(Path(load(kept.writer.path).chunks[0].path).parent.iterdir())] == ["0", "1"]
    assert retired(other.writer.path) == [(0, 64)]


HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS
NOW = Now(START_NS + 400 * DAY_NS, 30 * DAY_NS, 0, "this boot")


def captured(store: Path, take: str, anchors: list[tuple[int, int]], boot: str = "this boot") -> Path:
    """A take of 64 frames; `anchors` say for each chunk how long ago (ns) it was, by CLOCK_MONOTONIC and wall clock."""
    stream = Rotator(RecordingWriter.create(Store(store), definition(f"stream://mic/{take}", boot_id=boot)), len(take))
    for number, (awake_ns, wall_ns) in enumerate(anchors):
        stream.writer.anchor(
            ClockAnchor(number * 16, number * 16, NOW.monotonic_ns - awake_ns, NOW.wall_ns - wall_ns)
        )
    stream.write(64)
    stream.stop()
    return stream.writer.path


@pytest.mark.parametrize(
    ("anchors", "boot", "goes", "doubt"),
    [
        ([(8 * DAY_NS, 8 * DAY_NS)], "this boot", True, ""),
        ([(6 * DAY_NS, 6 * DAY_NS)], "this boot", False, ""),
        ([(0, 8 * DAY_NS)], "another boot", True, ""),
        # 1970: without a battery, in this boot (the clock was set since) and in one that never learnt better
        ([(HOUR_NS, NOW.wall_ns)], "this boot", False, "set since"),
        ([(HOUR_NS, NOW.wall_ns)], "another boot", False, "before 2024"),
        ([(8 * DAY_NS, NOW.wall_ns)], "this boot", True, ""),
        # 1970, and set right in mid-take: what came before counts from there
        ([(HOUR_NS, NOW.wall_ns), (HOUR_NS - 10**9, HOUR_NS - 10**9)], "another boot", False, "set meanwhile"),
        # a date in the future
        ([(0, -DAY_NS)], "another boot", False, "still to come"),
        # set back by eight days since
        ([(HOUR_NS, 8 * DAY_NS)], "this boot", False, "set since"),
    ],
)
def test_nothing_goes_that_one_clock_calls_young(
    store: Path, anchors: list[tuple[int, int]], boot: str, goes: bool, doubt: str
) -> None:
    path = captured(store, "1", anchors, boot)
    told: list[Kept] = []
    retire(Store(store), Keep(7 * 86400.0, None), NOW, told.append)
    assert bool(retired(path)) is goes
    assert [each.uri for each in told] == (["stream://mic/1"] if doubt else [])
    assert all(doubt in each.text for each in told)


def test_a_take_whose_age_is_in_doubt_goes_by_size_all_the_same(store: Path) -> None:
    """It must not wait meanwhile: younger audio would go in its place."""
    old = captured(store, "1", [(HOUR_NS, 8 * DAY_NS)])
    new = captured(store, "22", [(HOUR_NS // 2, HOUR_NS // 2)])
    assert retire(Store(store), Keep(7 * 86400.0, None), NOW) == []
    retire(Store(store), Keep(None, 4 * CHUNK_BYTES), NOW)
    assert (retired(old), retired(new)) == ([(0, 64)], [])


def test_who_asks_is_told_each_time_why_something_stays(store: Path) -> None:
    captured(store, "1", [(HOUR_NS, 8 * DAY_NS)])
    for afresh, n_told in ((False, 1), (False, 0), (True, 1), (True, 1)):
        told: list[Kept] = []
        retire(Store(store), Keep(7 * 86400.0, None), NOW, told.append, afresh=afresh)
        assert [each.reason for each in told] == ["doubt"] * n_told
        assert all("chaosctl retire --keep" in each.hint for each in told)


def test_what_pins_and_crashes_keep_is_told(store: Path) -> None:
    whole, broken = record(store, "1", 64), record(store, "2", 64)
    pin(Store(store), "interview", load(whole.writer.path), 0, 32)
    (broken.writer.path / "journal.jsonl").write_bytes(b"")
    told: list[Kept] = []
    retire(Store(store), Keep(None, 0), on_kept=told.append, afresh=True)
    assert [(each.uri, each.reason, each.hint) for each in told] == [
        ("stream://mic/1", "pinned", "chaosctl unpin interview"),
        ("stream://mic/2", "unrecovered", "chaosctl recover"),
    ]
    assert retired(whole.writer.path) == [(32, 32)]


def test_a_suspended_laptop_is_no_contradiction(store: Path) -> None:
    """Eight days, seven of which it slept."""
    path = captured(store, "1", [(DAY_NS, 8 * DAY_NS)])
    told: list[Kept] = []
    retire(Store(store), Keep(7 * 86400.0, None), NOW._replace(suspended_ns=7 * DAY_NS), told.append)
    assert retired(path) == [(0, 64)]
    assert told == []


def test_a_wall_clock_that_was_set_forward_ages_no_older_take(store: Path) -> None:
    """What was captured an hour ago in this boot shows that the clock has jumped by ten days since."""
    old = captured(store, "1", [(0, 10 * DAY_NS + HOUR_NS)], "another boot")
    captured(store, "2", [(HOUR_NS, 10 * DAY_NS + HOUR_NS)])
    told: list[Kept] = []
    retire(Store(store), Keep(7 * 86400.0, None), NOW, told.append)
    assert retired(old) == []
    assert {each.uri for each in told} == {"stream://mic/1", "stream://mic/2"}


def test_age_goes_by_the_chunks_own_anchors(store: Path) -> None:
    """The device was away for eight days in mid-take, which its frames, counted from the start, don't show."""
    path = captured(store, "1", [(9 * DAY_NS, 9 * DAY_NS)] * 2 + [(DAY_NS, DAY_NS)] * 2)
    retire(Store(store), Keep(7 * 86400.0, None), NOW)
    assert retired(path) == [(0, 32)]


def test_two_retirers_at_once_book_no_frame_twice(store: Path) -> None:
    """Both plan before either has done anything; the second finds out what the first did."""
    path = record(store, "1", 100).writer.path
    keep = Keep(None, 3 * CHUNK_BYTES)
    with mock.patch.object(retention, "plan", side_effect=[plan(Store(store), keep) for _ in range(2)]):
        first, second = retire(Store(store), keep), retire(Store(store), keep)
    assert [each.n_frames for each in first] == [64]
    assert second == []
    assert retired(path) == [(0, 64)]
    assert verify(path).bad == []


def test_one_retirer_works_at_a_time(store: Path) -> None:
    record(store, "1", 100)
    order: list[str] = []

    def work() -> None:
        retire(Store(store), Keep(None, 0))
        order.append("retired")

    thread = threading.Thread(target=work)
    with Store(store).locked("retention"):
        thread.start()
        thread.join(0.2)
        order.append("let go")
    thread.join()
    assert order == ["let go", "retired"]


def test_a_live_take_is_planned_for_twice_and_retired_once(store: Path) -> None:
    stream = CrashingStream(store, store.parent / "slots", n_slots=8)
    stream.write(100)
    stream.rotate()
    twice = [plan(Store(store), Keep(None, keep * CHUNK_BYTES))[0] for keep in (4, 2)]
    for planned in twice:
        stream.rotator.on_receive(RetireChunks(planned.chunks, planned.gaps))
    told = [fields for kind, fields in stream.events if kind == "stream_gap"]
    assert [(each["first_frame"], each["n_frames"]) for each in told] == [(0, 32), (32, 32)]
    assert retired(stream.recording) == [(0, 64)]
    stream.stop()
    assert verify(stream.recording).bad == []


def test_a_plan_for_the_take_before_a_roll_harms_not_the_next(store: Path) -> None:
    former = CrashingStream(store, store.parent / "slots", "stream://mic/1", n_slots=8)
    former.write(100)
    former.rotate()
    (planned,) = plan(Store(store), Keep(None, 2 * CHUNK_BYTES))
    following = CrashingStream(store, store.parent / "slots", "stream://mic/2", n_slots=8, seed=1)
    assert former.hand_over(following, 100)
    former.stop()
    following.rotate()
    following.rotator.on_receive(RetireChunks(planned.chunks, planned.gaps))
    following.stop()
    for stream in (former, following):
        assert retired(stream.recording) == []
        assert verify(stream.recording).bad == []


def test_the_newest_chunk_of_a_live_take_stays(store: Path) -> None:
    stream = CrashingStream(store, store.parent / "slots", n_slots=8)
    stream.write(64)
    stream.rotate()
    (planned,) = plan(Store(store), Keep(None, 0))
    assert [sealed.chunk for sealed in planned.chunks] == [0, 1, 2]
    newest = load(stream.recording).chunks[-1]
    told = Gap(newest.first_frame, newest.n_frames, Cause.RETIRED, Confidence.EXACT)
    stream.rotator.on_receive(RetireChunks([newest], [told]))
    assert retired(stream.recording) == []
    stream.stop()
    assert verify(stream.recording).bad == []


def test_the_ledger_is_durable_before_a_file_goes(store: Path) -> None:
    """Of a finished recording and of a live one alike: at the first file's end the journal on disk has all."""
    finished = record(store, "1", 100).writer.path
    live = CrashingStream(store, store.parent / "slots", "stream://mic/2", n_slots=8)
    live.write(100)
    live.rotate()
    told: list[tuple[bool, list[tuple[int, int]]]] = []
    synced: list[int] = []
    real_unlink, real_sync = Path.unlink, os.fdatasync

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.parent.name == "0" and path.name == "0":
            told.append((bool(synced), retired(path.parents[3])))
        real_unlink(path, missing_ok)

    def fdatasync(fd: int) -> None:
        real_sync(fd)
        synced.append(fd)

    with mock.patch.object(Path, "unlink", unlink), mock.patch.object(os, "fdatasync", fdatasync):
        for each in retire(Store(store), Keep(None, 0)):
            if each.live:
                synced.clear()
                live.rotator.on_receive(RetireChunks(each.chunks, each.gaps))
    assert told == [(True, [(0, 100)]), (True, [(0, 80)])]
    assert not (finished / "audio" / "c" / "0" / "0").exists()
    live.stop()


def test_collecting_objects_respects_pins(store: Path) -> None:
    """Also where the pinned chunk's recording is gone: a pin names objects."""
    path = record(store, "1", 100).writer.path
    pin(Store(store), "kept", load(path), 0, 32)
    shutil.rmtree(path)
    assert objects(store) == 7
    assert collect(Store(store)) == 5
    assert objects(store) == 2
    unpin(Store(store), "kept")
    assert collect(Store(store)) == 2


@pytest.mark.parametrize("name", ["kept.json", ".0123456789abcdef.hold"])
def test_where_a_pin_cant_be_read_nothing_goes(store: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = record(store, "1", 100).writer.path
    pin(Store(store), "kept", load(path), 0, 32)
    if not (store / "pins" / name).exists():
        (store / "pins" / name).write_bytes(b"")
    real_open, real_os_open = io.open, os.open

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            if not isinstance(path, int) and Path(path).name == name:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(path, *arguments, **options)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(io, "open", failing(real_open))
        patched.setattr(os, "open", failing(real_os_open))
        for work in (lambda: retire(Store(store), Keep(None, 0)), lambda: collect(Store(store))):
            with pytest.raises(StorageFailed, match="could not read"):
                work()
    assert retired(path) == []
    assert objects(store) == 7
    retire(Store(store), Keep(None, 0))
    assert retired(path) == [(32, 68)]


def test_a_retention_pass_respects_pins_of_objects(store: Path) -> None:
    """The first pass over a store also collects what nothing refers to."""
    path = record(store, "1", 100).writer.path
    pin(Store(store), "kept", load(path), 0, 32)
    shutil.rmtree(path)
    retire(Store(store), None)
    assert objects(store) == 2


def test_what_was_pinned_alone_goes_at_the_next_pass_after_its_pin(store: Path) -> None:
    path = record(store, "1", 16).writer.path
    pin(Store(store), "kept", load(path), 0, 16)
    assert retire(Store(store), Keep(None, 0)) == []
    unpin(Store(store), "kept")
    retire(Store(store), Keep(None, 0))
    assert retired(path) == [(0, 16)]


def test_what_a_replaced_pin_alone_kept_goes_at_the_next_pass(store: Path) -> None:
    one, other = record(store, "1", 16).writer.path, record(store, "2", 16, 1).writer.path
    pin(Store(store), "kept", load(one), 0, 16)
    retire(Store(store), Keep(None, 16))
    pin(Store(store), "kept", load(other), 0, 16)
    retire(Store(store), Keep(None, 0))
    assert retired(one) == [(0, 16)]


def test_what_is_not_uploaded_is_held_while_upload_is_on(tmp_path: Path) -> None:
    rotator = Rotator(RecordingWriter.create(Store(tmp_path), definition()))
    rotator.write(64)
    rotator.stop()
    store, path = Store(tmp_path), rotator.writer.path
    set_target(tmp_path, "s3://bucket/rig1")
    kept: list[Kept] = []
    assert plan(store, parse_keep("1B"), on_kept=kept.append, afresh=True) == []
    assert [each.reason for each in kept] == ["not_uploaded"]
    with closing(Uploads(store)) as uploads:
        uploads.note("s3://bucket/rig1", path, Progress(rotator.writer.definition.started_wall_ns, 0, 32, 2))
        (retired,) = plan(store, parse_keep("1B"), afresh=True)
        assert [sealed.chunk for sealed in retired.chunks] == [0, 1]
        uploads.note("s3://bucket/rig1", path, Progress(7, 0, 64, 4))  # of another take that had its name
        assert plan(store, parse_keep("1B"), afresh=True) == []
    set_target(tmp_path, None)
    (retired,) = plan(store, parse_keep("1B"), afresh=True)
    assert len(retired.chunks) == 4
