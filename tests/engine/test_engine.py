"""The engine without a socket, and here without PipeWire: it starts, answers, tells, and ends."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from unittest import mock

import msgspec
import pytest

from chaos.engine.engine import Engine
from chaos.protocol import events
from chaos.protocol.answers import EngineStatus, Nothing, Pong, StreamBegun, StreamEnded
from chaos.protocol.config import Config
from chaos.protocol.events import DaemonStarted, DaemonStopping, Published, StreamState, StreamStopped
from chaos.protocol.requests import (
    AudioFormat,
    DeviceWait,
    Ping,
    RecordingList,
    Request,
    Retire,
    SessionList,
    Shutdown,
    Status,
    StreamStart,
    StreamStop,
    StreamSwitchChunk,
)
from chaos.terms.errors import (
    InvalidRequest,
    PipeWireUnavailable,
    StorageFailed,
    StreamExists,
    StreamNotFound,
    TimedOut,
)

URI = "stream://mic/1"
START = StreamStart(uri=URI, device_identity="mic", format=AudioFormat(), wait=True)


def config_in(folder: Path) -> Config:
    """Of an engine that finds no PipeWire."""
    return Config(
        endpoint=f"ipc://{folder}/c",
        events_endpoint=f"ipc://{folder}/e",
        store=folder / "store",
        staging_dir=folder / "staging",
        remote=f"{folder}/no-pipewire",
    )


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(config_in(tmp_path)) as engine:
        yield engine


def ask(engine: Engine, request: Request) -> object:
    return engine.submit(request).result(10)


def test_it_answers(engine: Engine) -> None:
    pong = ask(engine, Ping())
    assert isinstance(pong, Pong)
    assert pong.run_id == engine.run_id
    status = ask(engine, Status())
    assert isinstance(status, EngineStatus)
    assert not status.pipewire.connected
    with pytest.raises(StreamNotFound):
        ask(engine, StreamStop(uri=URI))
    with pytest.raises(PipeWireUnavailable):
        ask(engine, StreamStart(uri=URI, device_identity="mic", format=AudioFormat()))
    with pytest.raises(InvalidRequest, match="start_at is over"):
        ask(engine, msgspec.structs.replace(START, start_at=datetime(1, 1, 1, tzinfo=UTC)))


def test_a_stream_waits_for_pipewire_and_ends(engine: Engine) -> None:
    begun = ask(engine, START)
    assert isinstance(begun, StreamBegun)
    assert (begun.state, begun.recording, begun.device) == ("waiting", "", None)
    ended = ask(engine, StreamStop(uri=URI))
    assert isinstance(ended, StreamEnded)
    assert (ended.n_frames, ended.clean) == (0, True)


def test_each_sink_is_told_of_what_happens_while_it_is_there(tmp_path: Path) -> None:
    engine = Engine(config_in(tmp_path))
    all_of_it: queue.SimpleQueue[Published] = queue.SimpleQueue()
    later: queue.SimpleQueue[Published] = queue.SimpleQueue()
    engine.add_sink(all_of_it.put)
    with engine:
        first = all_of_it.get(timeout=60)
        assert (first.seq, type(first.event), first.run_id) == (1, DaemonStarted, engine.run_id)
        engine.add_sink(later.put)
        ask(engine, START)
        assert isinstance(all_of_it.get(timeout=60).event, StreamState)
        told = later.get(timeout=60)
        assert (told.stream_uri, told.event) == (
            URI, StreamState(state="waiting", reason="PipeWire is not running")
        )
        engine.remove_sink(later.put)
        ask(engine, StreamStop(uri=URI))
        assert isinstance(all_of_it.get(timeout=60).event, StreamStopped)
    assert isinstance(all_of_it.get(timeout=60).event, DaemonStopping)
    assert later.empty()


def test_a_sink_that_fails_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(config_in(tmp_path))
    told: queue.SimpleQueue[Published] = queue.SimpleQueue()

    def fail(made: Published) -> None:
        raise ValueError("odd")

    engine.add_sink(fail)
    engine.add_sink(told.put)
    with engine:
        assert isinstance(told.get(timeout=60).event, DaemonStarted)
        assert isinstance(ask(engine, Ping()), Pong)
    assert "a sink failed at daemon_started" in caplog.text


def test_whoever_still_waits_at_the_end_is_answered(tmp_path: Path) -> None:
    with Engine(config_in(tmp_path)) as engine:
        waiting = engine.submit(DeviceWait(name="mic", timeout_s=3600))
        ask(engine, Ping())
    with pytest.raises(TimedOut):
        waiting.result(0)
    with pytest.raises(TimedOut, match="stopped"):
        ask(engine, Ping())


def test_a_client_may_ask_for_the_end(tmp_path: Path) -> None:
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    with Engine(config_in(tmp_path), on_end=lambda: asked.put("end")) as engine:
        ask(engine, START)
        assert isinstance(ask(engine, Shutdown()), Nothing)
        assert asked.get(timeout=60) == "end"
    assert engine.close()


def test_a_switch_after_the_end_is_answered(engine: Engine) -> None:
    ask(engine, START)
    ask(engine, StreamStop(uri=URI))
    with pytest.raises(StreamNotFound):
        ask(engine, StreamSwitchChunk(uri=URI, new_chunk_path=str(Path("/nowhere"))))


def test_it_needs_no_socket(tmp_path: Path) -> None:
    script = f"""
import json, pathlib, sys
from chaos.engine.engine import Engine
from chaos.protocol.config import Config
from chaos.protocol.requests import Ping
folder = pathlib.Path({str(tmp_path)!r})
config = Config(store=folder / "store", staging_dir=folder / "staging", remote=str(folder / "none"),
                endpoint=f"ipc://{{folder}}/c", events_endpoint=f"ipc://{{folder}}/e")
with Engine(config) as engine:
    pong = engine.submit(Ping()).result(10)
print(json.dumps([pong.name, sorted(name for name in sys.modules if "zmq" in name)]))
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(said.stdout) == ["chaosd", []]


def _make_fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    "put",
    [lambda path: None, Path.touch, _make_fifo, lambda path: path.symlink_to(path)],
    ids=["nothing", "a file", "a fifo", "a loop"],
)
def test_a_store_that_is_not_a_folder_is_never_answered_as_an_empty_one(
    engine: Engine, tmp_path: Path, put: Callable[[Path], object]
) -> None:
    status = ask(engine, Status())
    assert isinstance(status, EngineStatus)
    assert status.store.error is None
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    put(tmp_path / "store")
    for request in (RecordingList(), SessionList(), Retire(keep="1d"), Retire(keep="1d", dry_run=True)):
        with pytest.raises(StorageFailed):
            ask(engine, request)
    status = ask(engine, Status())
    assert isinstance(status, EngineStatus)
    assert str(tmp_path / "store") in (status.store.error or "")
    assert status.store.free_bytes is None


def test_another_folder_in_the_stores_place_is_told_to_each_stream_and_in_the_status(tmp_path: Path) -> None:
    told: queue.SimpleQueue[Published] = queue.SimpleQueue()
    with mock.patch("chaos.engine.daemon.LOOK_S", 0.05), Engine(config_in(tmp_path)) as engine:
        ask(engine, START)
        ask(engine, Status())
        engine.add_sink(told.put)
        (tmp_path / "store").rename(tmp_path / "elsewhere")
        (tmp_path / "store").mkdir()
        while not isinstance(event := (made := told.get(timeout=60)).event, events.StorageFailed):
            pass
        assert made.stream_uri == URI
        assert "is not the folder that chaosd opened" in event.error["message"]
        status = ask(engine, Status())
        assert isinstance(status, EngineStatus)
        assert "is not the folder that chaosd opened" in (status.store.error or "")
        (tmp_path / "store").rmdir()
        (tmp_path / "elsewhere").rename(tmp_path / "store")
        status = ask(engine, Status())
        assert isinstance(status, EngineStatus)
        assert status.store.error is None


def test_who_starts_first_has_the_uri_until_it_ends_whichever_process_it_is(tmp_path: Path) -> None:
    """Two that record without a daemon, into one store."""
    one, other = (config_in(tmp_path / each) for each in "ab")
    with Engine(one) as first, Engine(replace(other, store=one.store)) as second:
        ask(first, START)
        with pytest.raises(StreamExists, match="being recorded already, by another process"):
            ask(second, START)
        ask(first, StreamStop(uri=URI))
        for _ in range(20):  # each ends before a frame has come, and leaves nothing
            ask(first, START)
            ask(first, StreamStop(uri=URI))
        started = partial(ask, second, START)
        assert isinstance(until_free(started), StreamBegun)


def until_free(start: Callable[[], object]) -> object:
    """An ended stream gives its URI up beside its answer."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with suppress(StreamExists):
            return start()
    raise AssertionError("it stays taken")
