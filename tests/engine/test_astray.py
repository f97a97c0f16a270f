"""A store that is moved away, replaced or filled under captures, and numbers and times that are as odd as can be."""

from __future__ import annotations

import datetime as dt
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
from still import StillGraph, config_in, start_of

from chaos.engine.engine import Engine
from chaos.engine.rotator import ChunkRotatorActor
from chaos.engine.space import IDLE_LOOK_S, Room, StoreWatch
from chaos.engine.waits import Waits
from chaos.protocol import requests as r
from chaos.protocol.codec import decode_request
from chaos.protocol.events import Event, Published, StorageFailed, StorageRestored
from chaos.store.verify import verify
from chaos.system.pump import Pump
from chaos.terms import errors
from chaos.terms.errors import ChaosError

URI = "stream://mic/1"
AWAY = Room(None, 1, "/x/store: No such file or directory", is_away=True)
THERE = Room(1, 1, None)


@pytest.fixture
def told() -> list[Published]:
    return []


@pytest.fixture
def engine(folder: Path, graph: StillGraph, told: list[Published]) -> Iterator[Engine]:
    with mock.patch("chaos.engine.daemon.LOOK_S", 0.02), Engine(config_in(folder)) as engine:
        engine.add_sink(told.append)
        yield engine


def ask(engine: Engine, request: r.Request) -> Any:
    return engine.submit(request).result(10)


def begin(engine: Engine, graph: StillGraph, uri: str = URI, **options: Any) -> str:
    begun, moment = engine.submit(start_of(uri, **options)), threading.Event()
    while not begun.done():
        graph.run()
        moment.wait(0.002)
    graph.run(20)
    while not (recording := ask(engine, r.StreamStatusOf(uri=uri)).recording):
        moment.wait(0.002)
    return str(recording)


def until(is_so: Callable[[], bool]) -> None:
    moment = threading.Event()
    for _ in range(5000):
        if is_so():
            return
        moment.wait(0.002)
    raise AssertionError("it never came")


def n_of(told: list[Published], kind: str) -> int:
    return sum(json.loads(each.payload)["type"] == kind for each in told)


def test_a_store_that_is_moved_away_is_told_and_so_is_its_return(
    engine: Engine, graph: StillGraph, folder: Path, told: list[Published], caplog: pytest.LogCaptureFixture
) -> None:
    recording = begin(engine, graph)
    (folder / "store").rename(folder / "away")
    until(lambda: n_of(told, "storage_failed") > 0)
    until(lambda: "the store is away" in ask(engine, r.StreamStatusOf(uri=URI)).reason)
    assert "put the folder back" in caplog.text
    graph.run(100)
    (folder / "away").rename(folder / "store")
    until(lambda: n_of(told, "storage_restored") > 0)
    until(lambda: ask(engine, r.StreamStatusOf(uri=URI)).reason == "")
    graph.run(20)
    stopped = ask(engine, r.StreamStop(uri=URI))
    assert (stopped.clean, stopped.recording, stopped.lost_frames) == (True, recording, 0)
    assert verify(Path(recording)).bad == []


def test_nothing_comes_in_the_place_of_a_store_that_is_away(
    engine: Engine, graph: StillGraph, folder: Path, told: list[Published]
) -> None:
    begin(engine, graph)
    (folder / "store").rename(folder / "away")
    until(lambda: n_of(told, "storage_failed") > 0)
    begun = engine.submit(start_of("stream://mic/2", wait=True))
    assert isinstance(begun.exception(10), ChaosError | None)
    graph.run(20)
    until(lambda: "No such file" in ask(engine, r.Status()).store.error)
    assert not (folder / "store").exists()
    (folder / "away").rename(folder / "store")
    until(lambda: n_of(told, "storage_restored") > 0)
    for uri in (URI, "stream://mic/2"):
        assert ask(engine, r.StreamStop(uri=uri)).clean


def test_a_recording_that_is_not_at_its_path_is_not_clean(engine: Engine, graph: StillGraph, folder: Path) -> None:
    recording = begin(engine, graph)
    (folder / "store").rename(folder / "away")
    graph.run(20)
    stopped = engine.submit(r.StreamStop(uri=URI)).exception(10)
    assert isinstance(stopped, errors.StorageFailed)
    assert recording in stopped.message
    assert f"chaosctl verify '{folder}/away/" in stopped.hint
    found = Path(stopped.details["found"])
    assert verify(found).bad == []


def test_a_journal_that_something_else_has_the_name_of_is_not_clean(engine: Engine, graph: StillGraph) -> None:
    journal = Path(begin(engine, graph)) / "journal.jsonl"
    journal.rename(journal.with_name("mine"))
    os.mkfifo(journal)
    stopped = engine.submit(r.StreamStop(uri=URI)).exception(10)
    assert isinstance(stopped, errors.StorageFailed)
    assert "not what was recorded" in stopped.message
    with pytest.raises(errors.StorageFailed, match="not a regular file") as refused:
        verify(journal.parent)
    assert "put the journal back" in refused.value.hint


def test_a_store_that_was_removed_is_not_called_safe(engine: Engine, graph: StillGraph, folder: Path) -> None:
    begin(engine, graph)
    while (folder / "store").exists():
        shutil.rmtree(folder / "store", ignore_errors=True)  # what is stored meanwhile would keep it there
    graph.run(20)
    stopped = engine.submit(r.StreamStop(uri=URI)).exception(10)
    assert isinstance(stopped, errors.StorageFailed)
    assert "safe" not in stopped.hint
    assert "put it back" in stopped.hint


def test_nothing_wakes_an_idle_daemon_to_look_at_its_store(folder: Path, graph: StillGraph) -> None:
    delays: queue.SimpleQueue[float] = queue.SimpleQueue()
    after = Pump.after

    def told(pump: Pump, key: Any, delay_s: float, callback: Any) -> None:
        after(pump, key, delay_s, callback)
        if key == "store":
            delays.put(delay_s)

    def until(delay_s: float) -> None:
        while delays.get(timeout=60) != delay_s:
            pass

    often = mock.patch("chaos.engine.daemon.LOOK_S", 0.02)
    with often, mock.patch.object(Pump, "after", told), Engine(config_in(folder)) as engine:
        assert delays.get(timeout=60) == IDLE_LOOK_S
        begin(engine, graph)
        until(0.02)
        ask(engine, r.StreamStop(uri=URI))
        until(IDLE_LOOK_S)


def test_each_stream_is_told_once_of_each_way_in_which_the_store_is_away() -> None:
    emitted: list[tuple[Event, str]] = []
    watch = StoreWatch(Path("/x/store"), [URI], lambda event, uri: emitted.append((event, uri)))
    for room in (THERE, AWAY, AWAY, Room(None, None, "/x/store has not answered for 2 s"), AWAY, THERE, THERE, AWAY):
        watch.hear(room)
    watch.hear(AWAY, "stream://mic/2")
    watch.hear(Room(1, 1, "another", is_another=True, is_away=True))
    kinds = [(type(event), uri) for event, uri in emitted]
    failed, restored = StorageFailed, StorageRestored
    assert kinds == [(failed, URI), (restored, URI), (failed, URI), (failed, "stream://mic/2"), (failed, URI)]


def test_an_end_that_storage_keeps_from_being_whole_is_not_clean(folder: Path, graph: StillGraph) -> None:
    """A service manager sees it: `chaosd` ends with 1."""
    engine = Engine(config_in(folder))
    engine.start()
    begin(engine, graph)
    with mock.patch.object(ChunkRotatorActor, "_seal", side_effect=errors.StorageFull("no space", hint="make some")):
        graph.run(20)
        assert not engine.close()
    assert list((folder / "staging").iterdir())


def test_a_wait_of_minus_nothing_is_one_of_nothing() -> None:
    refused: Future[Any] = Future()
    waits = Waits(mock.Mock(), lambda number: None)
    with mock.patch.object(Waits, "_answer", return_value=False):
        waits.add(mock.Mock(future=refused, timeout_s=-0.0, name="x", kind=None), mock.Mock())
    waits.drop(0)
    assert "within 0 s" in str(refused.exception(0))


def test_a_full_disk_is_told_by_the_folders_name(folder: Path) -> None:
    from chaos.export.file import check_room

    fd = os.open(folder, os.O_RDONLY)
    try:
        with pytest.raises(errors.StorageFull, match=f"^{folder} has"):
            check_room(Path(f"/proc/self/fd/{fd}"), 1 << 62)
    finally:
        os.close(fd)


# -- numbers and times

NUMBERS = [0, -1, 1, -0.0, 5e-324, 1e-9, 0.5, 1e15, 1e308, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30]
TIMES = [
    f"{day}T{hour}{zone}"
    for day in ("0001-01-01", "1969-12-31", "2262-04-12", "9999-12-31")
    for hour in ("00:00:00", "23:59:59.999999")
    for zone in ("Z", "+23:59", "-23:59")
]
ENOUGH: dict[str, Any] = {
    "uri": URI,
    "device_identity": "mic",
    "name": "nobody",
    "format": {"type": "audio"},
    "session": "s",
    "label": "x",
    "new_chunk_path": "/nowhere/1",
    "output": "virtual",
    "from": "start",
    "to": "head",
    "timeout_s": 0,
    "seq": 0,
    "trigger": None,
    "streams": [{"uri": URI, "device_identity": "mic", "format": {"type": "audio"}}],
}
MORE = {"stream_start": {"wait": True}, "session_start": {"wait": True}}
QUIET = {"shutdown"}


def extremes(value: Any, kind: Any) -> Iterator[Any]:
    """What a field of this type may be given, if it holds a number or a moment somewhere."""
    if isinstance(kind, msgspec.inspect.UnionType):
        for each in kind.types:
            yield from extremes(value, each)
    elif isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        yield from NUMBERS
    elif isinstance(kind, msgspec.inspect.DateTimeType):
        yield from TIMES
    elif isinstance(kind, msgspec.inspect.ListType):
        for each in extremes(None, kind.item_type):
            yield [each]
    elif isinstance(kind, msgspec.inspect.StructType):
        base = value if isinstance(value, dict) else {}
        base = {**{f.encode_name: ENOUGH.get(f.encode_name, -20) for f in kind.fields if f.required}, **base}
        if kind.tag_field is not None:
            base[kind.tag_field] = kind.tag
        for field in kind.fields:
            for each in extremes(base.get(field.encode_name), field.type):
                yield {**base, field.encode_name: each}


def requests_of(op: str) -> Iterator[dict[str, Any]]:
    kind = msgspec.inspect.type_info(r.REQUESTS[op])
    assert isinstance(kind, msgspec.inspect.StructType)
    for field in kind.fields:
        base = {f.encode_name: ENOUGH[f.encode_name] for f in kind.fields if f.required} | MORE.get(op, {})
        for each in extremes(base.get(field.encode_name), field.type):
            yield {"op": op, **base, field.encode_name: each}


@pytest.mark.parametrize("op", sorted(set(r.REQUESTS) - QUIET))
def test_no_number_and_no_time_is_a_defect(op: str, engine: Engine, graph: StillGraph, told: list[Published]) -> None:
    has_recording = op not in ("stream_start", "session_start")
    if has_recording:
        begin(engine, graph)
    n_asked = 0
    for fields in requests_of(op):
        n_asked += 1
        try:
            future = engine.submit(decode_request(json.dumps(fields).encode()))
        except ChaosError as error:
            code = error.code
        else:
            code = ""
        assert code != "internal", fields
        if code:
            continue
        if op in ("stream_start", "session_start"):
            end = r.StreamStop(uri=URI) if op == "stream_start" else r.SessionStop(session="s")
            refused = future.exception(10)
            assert getattr(refused, "code", "") != "internal", (fields, refused)
            refused = engine.submit(end).exception(10)
        else:
            refused = future.exception(10)
        assert getattr(refused, "code", "") != "internal", (fields, refused)
    assert n_of(told, "daemon_error") == 0
    if op in ("stream_start", "slice", "mark", "device_wait", "events_since", "recording_list", "session_start"):
        assert n_asked >= len(NUMBERS)


# -- paths


@pytest.mark.parametrize("option", ["--store", "--staging-dir", "--keys", "--allow-path", "--config"])
@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_a_path_that_no_answer_could_name_is_refused(option: str, locale: str, folder: Path) -> None:
    name = bytes(folder) + (b"/st\xf6" if locale == "C.UTF-8" else "/stö".encode())
    environment = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "XDG_RUNTIME_DIR": str(folder)}
    command = [sys.executable, "-m", "chaos.daemon", option, name, "--endpoint", f"ipc://{folder}/c"]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == errors.InvalidRequest.exit_code, done.stderr
    assert b"is not UTF-8 in this locale" in done.stderr
    assert b"Traceback" not in done.stderr


def test_times_at_the_ends_of_the_calendar_are_refused() -> None:
    for text in TIMES[-6:]:
        with pytest.raises(errors.InvalidRequest, match="calendar"):
            decode_request(json.dumps({"op": "stream_start", **_start(), "start_at": text}).encode())
    assert dt.datetime.max.year == 9999


def _start() -> dict[str, Any]:
    return {"uri": URI, "device_identity": "mic", "format": {"type": "audio"}}
