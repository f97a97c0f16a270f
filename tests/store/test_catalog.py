"""The catalogue against the journals: it is quick, may be lost, damaged or behind, and never says what isn't so."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import pytest
from catalogued import agree, told, truth
from crashing import fast_folder
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from recorded import START_NS, Rotator, checked, definition

from chaos.store.age import Now
from chaos.store.catalog import CATALOG, Catalog
from chaos.store.digest import read_digest
from chaos.store.due import Due
from chaos.store.info import load
from chaos.store.journal import Journal, JournalReader
from chaos.store.lines import GapLine, Line
from chaos.store.pins import pin, unpin
from chaos.store.recovery import bring_in, recheck
from chaos.store.retention import retire
from chaos.store.store import Store
from chaos.store.summary import RecordingSummary
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import StorageFailed
from chaos.terms.ledger import Cause, Confidence, Gap
from chaos.terms.units import Keep

CHUNK_BYTES = 2 * 16 * 4
DAY_NS = 86_400_000_000_000


@pytest.fixture
def store() -> Iterator[Path]:
    with fast_folder() as folder:
        yield folder / "store"


@pytest.fixture
def catalog(store: Path) -> Iterator[Catalog]:
    with Catalog(Store(store)) as catalog:
        yield catalog


def begin(store: Path, take: str, seed: int = 0, name: str = "mic", **more: object) -> Rotator:
    return Rotator(RecordingWriter.create(Store(store), definition(f"stream://{name}/{take}", **more)), seed)  # type: ignore[arg-type]


def record(store: Path, take: str, n_frames: int = 40, seed: int = 0, **more: object) -> Path:
    stream = begin(store, take, seed, **more)  # type: ignore[arg-type]
    stream.write(n_frames)
    stream.stop()
    return stream.writer.path


def uris(catalog: Catalog, **wanted: object) -> list[str]:
    return [entry.uri for entry in catalog.entries(**wanted)]  # type: ignore[arg-type]


def test_a_take_is_told_with_all_that_lists_need(store: Path, catalog: Catalog) -> None:
    stream = begin(store, "1")
    stream.anchor()
    stream.write(20)
    stream.gap(5, Cause.OVERRUN)
    stream.write(30)
    (live,) = catalog.entries()
    assert (live.state, live.uri) == ("recording", "stream://mic/1")
    stream.stop()
    (entry,) = catalog.entries()
    digest = entry.digest
    assert digest is not None
    assert (entry.state, digest.n_frames, digest.n_chunks, digest.lost_frames) == ("finished", 55, 4, 5)
    assert digest.gaps == {"overrun": [1, 5]}
    assert digest.definition.device == {"identity": "serial:1", "description": "A microphone"}
    assert digest.ended_wall_ns == pytest.approx(START_NS + 55 * 1e9 / 48000, abs=1e6)
    assert digest.n_bytes == 4 * CHUNK_BYTES
    agree(catalog, store)


def test_newest_first_and_no_more_than_asked_for(store: Path, catalog: Catalog) -> None:
    for number in range(5):
        record(store, f"{number}", started_wall_ns=START_NS + number * DAY_NS)
    assert uris(catalog, limit=2) == ["stream://mic/4", "stream://mic/3"]


def test_takes_are_found_by_time_device_and_stream(store: Path, catalog: Catalog) -> None:
    record(store, "1", 480)
    record(store, "1.0002", 480, started_wall_ns=START_NS + 10_000_000, continues="stream://mic/1")
    record(store, "12", started_wall_ns=START_NS + DAY_NS)
    record(store, "1", started_wall_ns=START_NS + DAY_NS, name="desk")
    at = START_NS + 15_000_000
    assert uris(catalog, since_ns=at, until_ns=at + 1) == ["stream://mic/1.0002"]
    assert uris(catalog, since_ns=START_NS + DAY_NS) == ["stream://desk/1", "stream://mic/12"]
    for beyond in (2**63, 10**21):  # of the years 2262 and later, which a person may well ask for
        assert uris(catalog, since_ns=-beyond, until_ns=beyond) == uris(catalog)
        assert uris(catalog, since_ns=beyond) == uris(catalog, until_ns=-beyond) == []
    assert uris(catalog, until_ns=START_NS) == []
    assert uris(catalog, uri="stream://mic/1") == ["stream://mic/1.0002", "stream://mic/1"]
    assert uris(catalog, uri="stream://mic/1.0002") == ["stream://mic/1.0002"]
    assert len(uris(catalog, device="MICRO")) == 4
    assert uris(catalog, device="line in") == []


def test_a_live_take_reaches_up_to_now(store: Path, catalog: Catalog) -> None:
    stream = begin(store, "1")
    stream.write(20)
    assert uris(catalog, since_ns=START_NS + DAY_NS) == ["stream://mic/1"]
    stream.writer.close()
    assert uris(catalog, since_ns=START_NS + DAY_NS) == []


def test_only_what_is_new_in_a_journal_is_read(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = begin(store, "1")
    stream.write(400)
    path = stream.writer.path
    former = read_digest(path)
    stream.write(16)
    stream.writer.flush()
    offsets = []
    real = JournalReader.__init__

    def watched(self: JournalReader, path: Path, offset: int = 0) -> None:
        offsets.append(offset)
        real(self, path, offset)

    monkeypatch.setattr(JournalReader, "__init__", watched)
    n_read = former.n_read
    digest = read_digest(path, former)
    assert offsets == [n_read]
    assert told(digest) == truth(load(path))


def test_finished_takes_are_not_read_again(store: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        record(store, f"{number}")
    assert catalog.totals().n_takes == 3

    def refused(self: JournalReader) -> None:
        pytest.fail("a journal was read")

    monkeypatch.setattr(JournalReader, "poll", refused)
    assert len(catalog.entries()) == 3
    assert catalog.totals().n_takes == 3
    with Catalog(Store(store)) as other:
        assert len(other.entries()) == 3


def test_a_changed_journal_is_seen_where_it_is_told_of(store: Path, catalog: Catalog) -> None:
    path = record(store, "1", 100)
    agree(catalog, store)
    retire(Store(store), Keep(None, 3 * CHUNK_BYTES))
    (entry,) = catalog.entries()
    assert entry.digest is not None
    assert told(entry.digest) == truth(load(path))
    assert entry.digest.held == [[4, 3]]


@pytest.mark.parametrize("batch", [500, 2])
def test_an_audit_finds_what_changed_unseen(
    store: Path, catalog: Catalog, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many takes it looks at together: all of a large store would not fit beside a capture."""
    monkeypatch.setattr("chaos.store.catalog._BATCH", batch)
    paths = [record(store, take, 100) for take in ("1", "2", "3", "4", "5")]
    os.utime(store / "recordings" / "mic", (1, 1))  # a folder that changed just now is looked through anyway
    before = catalog.totals()
    for path in paths:
        journal = Journal.reopen(path / "journal.jsonl")
        journal.append(GapLine.of(Gap(0, 16, Cause.RETIRED, Confidence.EXACT)))
        journal.flush()
        journal.close()
    assert catalog.totals() == before
    assert catalog.audit() == 5
    assert catalog.totals().n_chunks == before.n_chunks - 5
    assert catalog.audit() == 0
    agree(catalog, store)


def test_recovery_looks_once_at_each_take(store: Path, catalog: Catalog) -> None:
    path = record(store, "1")
    live = begin(store, "2")
    assert {entry.path for entry in catalog.unchecked()} == {path, live.writer.path}
    catalog.check([path, live.writer.path])
    assert [entry.path for entry in catalog.unchecked()] == [live.writer.path], "it is not finished"
    catalog.touch(path)
    assert len(catalog.unchecked()) == 2
    assert catalog.touched() == [path]
    live.writer.close()


def test_recovery_reads_no_take_that_was_right(
    store: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        record(store, f"{number}")
    (store / "recordings" / "mic" / "1.zarr" / "zarr.json").write_bytes(b"{}")
    report = recheck(catalog)
    assert [item.recording for item in report.items] == [str(store / "recordings" / "mic" / "1.zarr")]

    def refused(self: JournalReader) -> None:
        pytest.fail("a journal was read")

    monkeypatch.setattr(JournalReader, "lines", refused)
    assert bring_in(Store(store), store / "slots", catalog).items == []
    assert recheck(catalog).items == []


def test_recovery_finds_the_one_that_was_not_finished(store: Path, catalog: Catalog) -> None:
    record(store, "1")
    dead = begin(store, "2")
    dead.write(40)
    dead.writer.close()
    recheck(catalog)
    (item,) = bring_in(Store(store), store / "slots", catalog).items
    assert (item.outcome, item.uri) == ("recovered", "stream://mic/2")
    assert recheck(catalog).items == []
    agree(catalog, store)


def at(days: float) -> Now:
    """So long after the first of the takes began, in another run of the kernel."""
    return Now(START_NS + int(days * DAY_NS), 1_000, 0, "another boot")


def test_a_pass_reads_no_journal_that_nothing_may_go_of(
    store: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        record(store, f"{number}", started_wall_ns=START_NS + number * DAY_NS)
    assert retire(Store(store), Keep(10 * 86400.0, None), at(5), catalog=catalog) == []
    read = []
    real = JournalReader.lines

    def watched(self: JournalReader) -> Iterator[Line]:
        read.append(self)
        return real(self)

    monkeypatch.setattr(JournalReader, "lines", watched)
    assert retire(Store(store), Keep(10 * 86400.0, None), at(5), catalog=catalog) == []
    assert retire(Store(store), Keep(None, 1 << 30), at(5), catalog=catalog) == []
    assert read == []
    (gone,) = retire(Store(store), Keep(3.5 * 86400.0, None), at(4), catalog=catalog)
    assert (gone.uri, len(gone.chunks)) == ("stream://mic/0", 3)
    monkeypatch.undo()
    agree(catalog, store)
    assert catalog.touched() == []


def test_takes_that_nothing_can_go_of_are_not_looked_at_each_time(
    store: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = record(store, "1")
    pin(Store(store), "kept", load(path), 0, 40)
    assert retire(Store(store), Keep(60.0, None), at(1), catalog=catalog) == []
    assert len(Due(catalog).older_than(60_000_000_000, at(2))) == 1, "asked again after some minutes"
    assert Due(catalog).older_than(60_000_000_000, at(1)) == []
    unpin(Store(store), "kept")
    assert len(retire(Store(store), Keep(60.0, None), at(2), catalog=catalog)) == 1


def test_a_size_to_keep_counts_for_all_takes_of_a_stream(store: Path, catalog: Catalog) -> None:
    size = f"{3 * CHUNK_BYTES}B"
    record(store, "1", 48, keep=size)
    record(store, "1.0002", 48, keep=size, started_wall_ns=START_NS + DAY_NS, continues="stream://mic/1")
    record(store, "2", 48, keep=size, started_wall_ns=START_NS + DAY_NS)
    (gone,) = retire(Store(store), None, at(3), catalog=catalog)
    assert (gone.uri, len(gone.chunks)) == ("stream://mic/1", 3)
    assert retire(Store(store), None, at(3), catalog=catalog) == []


def test_what_pins_keep_goes_of_younger_takes_in_the_same_pass(store: Path, catalog: Catalog) -> None:
    paths = [record(store, f"{n}", 48, n, started_wall_ns=START_NS + n * DAY_NS) for n in range(3)]
    pin(Store(store), "kept", load(paths[0]), 0, 48)
    gone = retire(Store(store), Keep(None, 4 * CHUNK_BYTES), at(5), catalog=catalog)
    assert [(each.uri, len(each.chunks)) for each in gone] == [("stream://mic/1", 3), ("stream://mic/2", 2)]


def test_a_take_that_is_pinned_as_a_whole_does_not_keep_its_neighbour(store: Path, catalog: Catalog) -> None:
    lengths = (16, 16, 16, 32, 16, 32)
    paths = [
        record(store, f"{n}", length, n, started_wall_ns=START_NS + n * DAY_NS) for n, length in enumerate(lengths)
    ]
    pin(Store(store), "kept", load(paths[3]), 0, 32)
    gone = retire(Store(store), Keep(None, 4 * CHUNK_BYTES), at(7), catalog=catalog)
    assert [each.uri for each in gone] == [f"stream://mic/{n}" for n in (0, 1, 2, 4)]


def test_what_a_retirement_was_interrupted_at_goes_with_the_next(store: Path, catalog: Catalog) -> None:
    path = record(store, "1", 100)
    refused = mock.patch("chaos.store.retention.remove_chunks", side_effect=StorageFailed("no"))
    with refused, pytest.raises(StorageFailed):
        retire(Store(store), Keep(None, 3 * CHUNK_BYTES), catalog=catalog)
    assert catalog.touched() == [path]
    assert retire(Store(store), Keep(None, 3 * CHUNK_BYTES), catalog=catalog) == []
    assert catalog.touched() == []
    assert sorted(file.name for file in (path / "audio" / "c" / "0").iterdir()) == ["4", "5", "6"]
    agree(catalog, store)


def test_objects_of_what_was_removed_by_hand_go(store: Path, catalog: Catalog) -> None:
    paths = [record(store, take, seed=number) for number, take in enumerate(("1", "2"))]
    retire(Store(store), None, catalog=catalog)
    assert catalog.swept()
    shutil.rmtree(paths[0])
    assert not catalog.swept()
    retire(Store(store), None, catalog=catalog)
    assert sum(1 for _ in (store / "objects").glob("*/*")) == 3
    assert catalog.swept()


@pytest.mark.parametrize("how", ["gone", "empty", "garbage", "cut", "flipped", "version", "no tables"])
def test_a_spoilt_catalogue_is_made_again(store: Path, how: str) -> None:
    for number in range(30):
        record(store, f"{number}")
    with Catalog(Store(store)) as catalog:
        agree(catalog, store)
    spoil(store / CATALOG, how, 1)
    with Catalog(Store(store)) as catalog:
        catalog.audit()
        agree(catalog, store)


def spoil(path: Path, how: str, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(path.read_bytes()) if path.exists() else bytearray()
    match how:
        case "gone":
            path.unlink(missing_ok=True)
        case "empty":
            path.write_bytes(b"")
        case "garbage":
            path.write_bytes(chance.randbytes(8192))
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "flipped" if data:
            for _ in range(40):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            path.write_bytes(data)
        case "version" if data:
            with sqlite3.connect(path) as base:
                base.execute("PRAGMA user_version = 99")
            base.close()
        case "no tables" if data:
            with sqlite3.connect(path) as base:
                base.execute("DROP TABLE take")
            base.close()


def test_a_damaged_row_is_read_from_its_journal(store: Path, catalog: Catalog) -> None:
    path = record(store, "1")
    agree(catalog, store)
    base = sqlite3.connect(store / CATALOG)
    with base:
        base.execute("UPDATE take SET digest = zeroblob(100)")
    base.close()
    (entry,) = catalog.entries()
    assert entry.digest is not None
    assert told(entry.digest) == truth(load(path))


def test_a_store_that_cant_be_written_is_listed_all_the_same(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(store, "1")
    real = sqlite3.connect

    def refuses(name: str, **more: object) -> sqlite3.Connection:
        if name != ":memory:":
            raise_readonly()
        return real(name, **more)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(sqlite3, "connect", refuses)
    with Catalog(Store(store)) as catalog:
        agree(catalog, store)
        record(store, "2")
        agree(catalog, store)
    assert not (store / CATALOG).exists()


def raise_readonly() -> None:
    error = sqlite3.OperationalError("attempt to write a readonly database")
    error.sqlite_errorcode = sqlite3.SQLITE_READONLY
    raise error


def test_another_process_that_writes_is_waited_for_and_then_done_without(store: Path, catalog: Catalog) -> None:
    record(store, "1")
    agree(catalog, store)
    other = sqlite3.connect(store / CATALOG, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    record(store, "2")
    agree(catalog, store)
    other.execute("ROLLBACK")
    other.close()


def test_two_catalogues_of_one_store_agree(store: Path, catalog: Catalog) -> None:
    with Catalog(Store(store)) as other:
        record(store, "1")
        agree(catalog, store)
        record(store, "2")
        agree(other, store)
        (store / CATALOG).unlink()
        record(store, "3")
        agree(catalog, store)
        agree(other, store)


def test_no_store_is_an_empty_catalogue(tmp_path: Path) -> None:
    with Catalog(Store(tmp_path / "none")) as catalog:
        assert catalog.entries() == []
        assert catalog.totals() == (0, 0, 0)


def test_a_journal_without_a_first_line_is_damaged_and_stops_nothing(store: Path, catalog: Catalog) -> None:
    record(store, "1")
    bad = record(store, "2")
    agree(catalog, store)
    (bad / "journal.jsonl").write_bytes(b"not a journal\n")
    agree(catalog, store)
    with pytest.raises(StorageFailed):
        read_digest(bad)


def test_a_line_of_the_list_has_what_people_look_for(store: Path, catalog: Catalog) -> None:
    stream = begin(store, "1", started_wall_ns=START_NS)
    stream.write(20)
    stream.gap(5, Cause.OVERRUN)
    stream.stop()
    begin(store, "2", started_wall_ns=START_NS + DAY_NS).writer.close()
    bad = record(store, "3")
    (bad / "journal.jsonl").write_bytes(b"?")
    lines = {line.uri: line for line in map(RecordingSummary.of, catalog.entries())}
    assert [line.state for line in lines.values()] == ["interrupted", "finished", "damaged"]
    line = lines["stream://mic/1"]
    assert (line.n_frames, line.n_chunks, line.lost_frames, line.gaps) == (25, 2, 5, {"overrun": 5})
    assert (line.device, line.n_bytes, line.clean) == ("A microphone", 2 * CHUNK_BYTES, True)
    assert (line.started_utc, line.ended_utc) == ("2026-01-31T12:00:00.000000000Z", "2026-01-31T12:00:00.000520833Z")


def test_numbers_beyond_all_bounds_stop_no_list(store: Path, catalog: Catalog) -> None:
    endless = record(store, "1") / "journal.jsonl"
    lines = endless.read_bytes().splitlines(keepends=True)
    endless.write_bytes(b"".join(lines[:-1]) + checked(b'{"type":"finish","n_frames":%d,"clean":true}' % (1 << 62)))
    unborn = record(store, "2") / "journal.jsonl"
    header = json.loads(unborn.read_bytes().splitlines()[0])
    del header["check"]
    header["definition"]["started_wall_ns"] = 1 << 80
    unborn.write_bytes(checked(json.dumps(header).encode()))
    found = [RecordingSummary.of(entry) for entry in catalog.entries()]
    assert [(line.uri, line.state, line.ended_utc) for line in found] == [
        ("stream://mic/1", "finished", None),
        ("stream://mic/2", "damaged", None),
    ]
    assert catalog.entries(since_ns=START_NS + DAY_NS)


class CatalogMachine(RuleBasedStateMachine):
    """Whatever happens to the store or to the database, the catalogue says what the journals say."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._store = self._stack.enter_context(fast_folder()) / "store"
        self._catalog = self._stack.enter_context(Catalog(Store(self._store)))
        self._running: Rotator | None = None
        self._dead: list[Rotator] = []
        self._n_takes = 0

    def teardown(self) -> None:
        for stream in (self._running, *self._dead):
            if stream is not None:
                stream.writer.close()
        self._stack.close()

    @precondition(lambda self: self._running is None and self._n_takes < 12)
    @rule(name=st.sampled_from(["mic", "desk"]))
    def create(self, name: str) -> None:
        self._n_takes += 1
        started_ns = START_NS + self._n_takes * DAY_NS
        self._running = begin(self._store, str(self._n_takes), self._n_takes, name, started_wall_ns=started_ns)

    @precondition(lambda self: self._running is not None)
    @rule(n_frames=st.integers(1, 200), anchored=st.booleans())
    def seal(self, n_frames: int, anchored: bool) -> None:
        assert self._running is not None
        if anchored:
            self._running.anchor()
        self._running.write(n_frames)

    @precondition(lambda self: self._running is not None)
    @rule(n_frames=st.integers(1, 60), cause=st.sampled_from([Cause.MISSED, Cause.OVERRUN, Cause.DEVICE_AWAY]))
    def gap(self, n_frames: int, cause: Cause) -> None:
        assert self._running is not None
        self._running.gap(n_frames, cause)

    @precondition(lambda self: self._running is not None)
    @rule(clean=st.booleans())
    def stop(self, clean: bool) -> None:
        assert self._running is not None
        self._running.stop(clean)
        self._running = None

    @precondition(lambda self: self._running is not None)
    @rule()
    def roll(self) -> None:
        assert self._running is not None
        former = self._running
        former.stop()
        self._n_takes += 1
        before = former.writer.definition
        self._running = begin(
            self._store,
            f"{before.uri.rpartition('/')[2].partition('.')[0]}.{self._n_takes:04}",
            self._n_takes,
            before.uri.split("/")[2],
            started_wall_ns=before.started_wall_ns + 1,
            continues=before.uri,
        )

    @precondition(lambda self: self._running is not None)
    @rule()
    def crash(self) -> None:
        assert self._running is not None
        self._running.writer.close()
        self._dead.append(self._running)
        self._running = None

    @precondition(lambda self: self._dead)
    @rule()
    def recover(self) -> None:
        stream = self._dead.pop()
        if stream.writer.path.exists():
            stream.die_and_recover(self._store)
            stream.writer.finish(stream.writer.n_frames, clean=False)

    @rule(n_chunks=st.integers(0, 20))
    def retire(self, n_chunks: int) -> None:
        for each in retire(Store(self._store), Keep(None, n_chunks * CHUNK_BYTES)):
            if each.live:
                assert self._running is not None
                self._running.writer.retire(each.chunks, each.gaps)

    @rule(seed=st.integers(0, 100), whole=st.booleans())
    def remove_by_hand(self, seed: int, whole: bool) -> None:
        there = sorted((self._store / "recordings").glob("*/*.zarr"))
        running = None if self._running is None else self._running.writer.path
        there = [path for path in there if path != running]
        if there:
            path = random.Random(seed).choice(there)
            shutil.rmtree(path.parent if whole and (running is None or path.parent != running.parent) else path)

    @rule(seed=st.integers(0, 100), how=st.sampled_from(["gone", "empty", "garbage", "cut", "version", "no tables"]))
    def damage(self, seed: int, how: str) -> None:
        self._catalog.close()
        spoil(self._store / CATALOG, how, seed)

    @rule(seed=st.integers(0, 1000))
    def flip_bits(self, seed: int) -> None:
        self._catalog.close()
        spoil(self._store / CATALOG, "flipped", seed)
        self._catalog.audit()

    @rule()
    def restart(self) -> None:
        self._catalog.close()

    @invariant()
    def says_what_the_journals_say(self) -> None:
        agree(self._catalog, self._store)


CatalogMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestCatalogMachine = CatalogMachine.TestCase
TestCatalogMachine.pytestmark = [pytest.mark.timeout(600)]  # type: ignore[attr-defined]  # on a busy machine


def test_the_database_is_for_its_owner_alone_to_write(store: Path, catalog: Catalog) -> None:
    record(store, "1")
    agree(catalog, store)
    assert not stat.S_IMODE((store / CATALOG).stat().st_mode) & 0o022
