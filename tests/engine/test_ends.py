"""Ends that are not plain: no threads, no store, a disk that hangs, a daemon that hangs, stops on top of each other."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import msgspec
import pykka
import pytest
from still import StillGraph, config_in, start_of

from chaos.engine import messages as m
from chaos.engine.daemon import DaemonActor
from chaos.engine.engine import Engine
from chaos.engine.rotator import ChunkRotatorActor
from chaos.protocol import requests as r
from chaos.protocol.answers import EngineStatus, Pong, StreamEnded
from chaos.protocol.events import DaemonError, Event, Published, StorageFailed, StorageRestored, StreamGap
from chaos.staging.layout import SUFFIX
from chaos.store.claims import Claim
from chaos.store.info import load
from chaos.store.places import Places
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.system.workers import Workers
from chaos.terms.errors import ChaosError, InternalError, StreamExists, StreamNotFound

URI = "stream://mic/1"
E = TypeVar("E", bound=Event)


@pytest.fixture
def engine(folder: Path, graph: StillGraph) -> Iterator[Engine]:
    with Engine(config_in(folder)) as engine:
        yield engine


def ask(engine: Engine, request: r.Request) -> Any:
    return engine.submit(request).result(10)


def begin(engine: Engine, graph: StillGraph, uri: str = URI, **options: Any) -> None:
    begun, moment = engine.submit(start_of(uri, **options)), threading.Event()
    while not begun.done():
        graph.run()
        moment.wait(0.002)
    begun.result(0)


def test_stops_on_top_of_each_other_are_all_answered_with_the_same_end(engine: Engine, graph: StillGraph) -> None:
    for number in range(40):
        uri = f"stream://mic/{number}"
        begin(engine, graph, uri)
        graph.run(20)
        stops = [engine.submit(r.StreamStop(uri=uri)) for _ in range(4)]
        late = engine.submit(r.StreamSwitchChunk(uri=uri, new_chunk_path=str(Path("/nowhere"))))
        ends = [stop.exception(10) or stop.result() for stop in stops]
        assert isinstance(ends[0], StreamEnded)
        assert ends[0].clean
        assert all(end == ends[0] or isinstance(end, StreamNotFound) for end in ends)
        assert isinstance(late.exception(10), ChaosError)


def test_what_is_sent_behind_a_start_takes_effect_after_it(engine: Engine, graph: StillGraph) -> None:
    """Nobody has to wait for the answer: the stream does not run on."""
    for number in range(20):
        uri = f"stream://mic/{number}"
        begun, stopped = engine.submit(start_of(uri, wait=True)), engine.submit(r.StreamStop(uri=uri))
        late = engine.submit(r.StreamStop(uri=uri))
        assert begun.result(10).uri == uri
        assert stopped.result(10).clean
        assert late.exception(10) is None or isinstance(late.exception(), StreamNotFound)
        assert not ask(engine, r.StreamList()).streams, "whoever is answered finds it gone"


def test_what_is_sent_behind_a_start_that_fails_is_refused(engine: Engine, graph: StillGraph) -> None:
    begun = engine.submit(msgspec.structs.replace(start_of(), device_identity="nobody"))
    behind = [
        engine.submit(r.StreamStop(uri=URI)),
        engine.submit(r.SetMark(uri=URI, label="a")),
        engine.submit(r.StreamAcceptPort(uri=URI)),
    ]
    assert isinstance(begun.exception(10), ChaosError)
    assert [type(each.exception(10)) for each in behind] == [StreamNotFound] * 3


def test_a_session_that_is_stopped_at_once_has_ended(engine: Engine, graph: StillGraph) -> None:
    stream = r.SessionStream(uri=URI, device_identity="mic", format=r.AudioFormat())
    begun = engine.submit(r.SessionStart(session="s", streams=[stream], wait=True))
    stopped = engine.submit(r.SessionStop(session="s"))
    assert [each.uri for each in begun.result(10).streams] == [URI]
    assert [each.uri for each in stopped.result(10).streams] == [URI]
    assert not ask(engine, r.StreamList()).streams


def test_a_start_and_a_stop_during_recovery_are_answered(folder: Path, graph: StillGraph) -> None:
    go_on = threading.Event()

    def recover(*arguments: object) -> Any:
        assert go_on.wait(60)
        raise OSError("the disk is broken")

    with mock.patch("chaos.store.recovery.bring_in", recover), Engine(config_in(folder)) as engine:
        begun, stopped = engine.submit(start_of(wait=True)), engine.submit(r.StreamStop(uri=URI))
        with pytest.raises(StreamNotFound):
            ask(engine, r.StreamStop(uri="stream://mic/other"))
        assert not begun.done()
        assert not stopped.done()
        go_on.set()
        begun.result(10)
        assert stopped.result(10).clean


def test_a_recovery_that_is_over_wakes_nobody_later(engine: Engine, graph: StillGraph) -> None:
    begin(engine, graph)  # starts wait for the recovery
    ask(engine, r.StreamStop(uri=URI))
    assert engine._pump is not None
    assert "recovery" not in engine._pump._timers


def test_a_recovery_that_hangs_holds_up_only_what_it_may_be_about(folder: Path, graph: StillGraph) -> None:
    go_on = threading.Event()
    hangs = mock.patch("chaos.store.recovery.bring_in", side_effect=lambda *_: go_on.wait(60))
    with hangs, mock.patch("chaos.engine.daemon.RECOVERY_WITHIN_S", 0.05), Engine(config_in(folder)) as engine:
        (folder / "staging" / f"mic~left.00000000{SUFFIX}").touch()
        assert ask(engine, start_of("stream://mic/2", wait=True)).uri == "stream://mic/2"
        with pytest.raises(StreamExists, match="still being brought in"):
            ask(engine, start_of("stream://mic/left", wait=True))
        go_on.set()


def test_an_end_during_recovery_answers_the_start(folder: Path, graph: StillGraph) -> None:
    go_on = threading.Event()
    with mock.patch("chaos.store.recovery.bring_in", side_effect=lambda *_: go_on.wait(60)):
        engine = Engine(config_in(folder))
        engine.start()
        begun = engine.submit(start_of(wait=True))
        assert engine.close()
        assert isinstance(begun.exception(0), ChaosError)
        go_on.set()


def test_status_without_a_store_says_so_and_nothing_ends(engine: Engine, graph: StillGraph, folder: Path) -> None:
    begin(engine, graph)
    shutil.move(folder / "store", folder / "elsewhere")
    status = ask(engine, r.Status())
    assert isinstance(status, EngineStatus)
    assert status.store.free_bytes is None
    assert status.store.error is not None
    assert "No such file" in status.store.error
    assert [stream.uri for stream in status.streams] == [URI]
    another = start_of("stream://mic/2", wait=True)
    for request in (r.RecordingList(), r.Verify(uri=URI), r.Retire(), r.StreamList(), another):
        future = engine.submit(request)
        assert isinstance(future.exception(10), ChaosError | None)
    shutil.move(folder / "elsewhere", folder / "store")
    graph.run(20)
    assert isinstance(ask(engine, r.Status()).store.free_bytes, int)
    assert ask(engine, r.StreamStop(uri=URI)).clean


def test_status_does_not_wait_for_a_disk_that_hangs(engine: Engine) -> None:
    go_on = threading.Event()
    with mock.patch("chaos.engine.space.shutil.disk_usage", side_effect=lambda path: go_on.wait(60)):
        futures = [engine.submit(r.Status()) for _ in range(3)]
        assert isinstance(ask(engine, r.Ping()), Pong)
        for future in futures:
            assert "has not answered" in future.result(10).store.error
        go_on.set()


def test_a_path_on_a_disk_that_hangs_holds_up_nobody(engine: Engine, graph: StillGraph) -> None:
    go_on = threading.Event()
    begin(engine, graph)
    with mock.patch.object(Places, "permit", side_effect=lambda path: go_on.wait(60)):
        switch = engine.submit(r.StreamSwitchChunk(uri=URI, new_chunk_path="/nowhere/1"))
        assert isinstance(ask(engine, r.Ping()), Pong)
        assert ask(engine, r.StreamStop(uri=URI)).clean
        go_on.set()
        assert isinstance(switch.exception(10), StreamNotFound)


def test_without_threads_a_start_is_refused_and_the_rest_goes_on(engine: Engine, graph: StillGraph) -> None:
    begin(engine, graph)
    ask(engine, r.RecordingList())  # its worker has begun
    n_actors = len(pykka.ActorRegistry.get_all())
    no_thread = mock.patch.object(pykka.ThreadingActor, "_start_actor_loop", side_effect=RuntimeError("no new thread"))
    with no_thread:
        refused = engine.submit(start_of("stream://mic/2")).exception(10)
    assert isinstance(refused, InternalError)
    assert "no new thread" in refused.message
    assert len(pykka.ActorRegistry.get_all()) == n_actors
    assert [stream.uri for stream in ask(engine, r.StreamList()).streams] == [URI]
    begin(engine, graph, "stream://mic/2")
    assert ask(engine, r.StreamStop(uri=URI)).clean


def test_without_threads_at_the_start_it_says_why_and_ends(folder: Path, graph: StillGraph) -> None:
    asked, told = threading.Event(), queue.SimpleQueue[Published]()
    engine = Engine(config_in(folder), on_end=asked.set)
    engine.add_sink(told.put)
    start = pykka.ThreadingActor._start_actor_loop

    def daemon_only(actor: Any) -> None:
        if not isinstance(actor, DaemonActor):
            raise RuntimeError("no new thread")
        start(actor)

    with mock.patch.object(pykka.ThreadingActor, "_start_actor_loop", daemon_only):
        engine.start()
        assert asked.wait(60)
    assert "no new thread" in str(engine.defect)
    futures = [engine.submit(each) for each in (r.Status(), r.DeviceList(), r.DeviceWait(name="x", timeout_s=1))]
    begun = time.monotonic()
    assert not engine.close()
    assert time.monotonic() - begun < 40
    assert all(isinstance(future.exception(0), ChaosError) for future in futures)
    kinds = [told.get(timeout=60).event for _ in range(told.qsize())]
    assert [event.recoverable for event in kinds if isinstance(event, DaemonError)] == [False]


def test_storage_that_hangs_is_told_while_it_does(folder: Path, graph: StillGraph) -> None:
    """Also the gap that has begun meanwhile: whoever waits for the disk can't tell of it."""
    hangs, go_on, told = threading.Event(), threading.Event(), queue.SimpleQueue[Published]()
    flush = RecordingWriter.checkpoint

    def hang(writer: RecordingWriter, *arguments: Any) -> None:
        hangs.set()
        go_on.wait(20)
        flush(writer, *arguments)

    def event(kind: type[E], *, is_it: Callable[[E], bool] = lambda _: True) -> E:
        while True:
            found = told.get(timeout=30).event
            if isinstance(found, kind) and is_it(found):
                return found

    with mock.patch("chaos.engine.turn.HANGS_NS", 1_000_000_000), Engine(config_in(folder)) as engine:
        engine.add_sink(told.put)
        begin(engine, graph)
        with mock.patch.object(RecordingWriter, "checkpoint", hang):
            assert hangs.wait(30)
            graph.run(200)  # more than there are slots for
            assert "has not answered" in event(StorageFailed).error["message"]
            gap = event(StreamGap, is_it=lambda gap: gap.n_frames is None)
            assert gap.cause == "overrun"
            notes = ask(engine, r.StreamStatusOf(uri=URI)).notes
            assert any(note.startswith("storage has not answered for") for note in notes)
            go_on.set()
        event(StorageRestored)
        graph.run(1)
        closed = event(StreamGap, is_it=lambda told: told.first_frame == gap.first_frame)
        assert closed.n_frames
        assert not any("storage" in note for note in ask(engine, r.StreamStatusOf(uri=URI)).notes)
        assert ask(engine, r.StreamStop(uri=URI)).clean


def test_a_take_that_begins_in_another_folder_of_the_stores_name_is_told(
    folder: Path, graph: StillGraph, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    told: queue.SimpleQueue[Published] = queue.SimpleQueue()
    begin(engine, graph)
    ask(engine, r.StreamStop(uri=URI))
    (folder / "store").rename(folder / "elsewhere")
    (folder / "store").mkdir()
    engine.add_sink(told.put)
    begin(engine, graph)
    while not isinstance(made := told.get(timeout=60).event, StorageFailed):
        pass
    assert "is not the folder that chaosd opened" in made.error["message"]
    assert "is not the folder that chaosd opened" in caplog.text
    graph.run(4)
    assert ask(engine, r.StreamStop(uri=URI)).n_frames, "it goes on all the same"


def test_what_hangs_in_storage_is_left_behind_and_named(
    folder: Path, graph: StillGraph, caplog: pytest.LogCaptureFixture
) -> None:
    hangs, go_on = threading.Event(), threading.Event()
    engine = Engine(config_in(folder))
    engine.start()
    begin(engine, graph, "stream://mic/hangs")
    begin(engine, graph, "stream://mic/whole")
    finish = ChunkRotatorActor._finish

    def hang(rotator: Any, end_ns: int | None) -> None:
        if rotator._plan.definition.uri.endswith("hangs"):
            hangs.set()
            go_on.wait(60)
        finish(rotator, end_ns)

    with mock.patch.object(ChunkRotatorActor, "_finish", hang):
        stopped = engine.submit(r.StreamStop(uri="stream://mic/hangs"))
        assert hangs.wait(30)
        begun = time.monotonic()
        assert not engine.close(4)
        assert time.monotonic() - begun < 40
        assert isinstance(stopped.exception(0), ChaosError)
        assert list((folder / "staging").iterdir())
        go_on.set()
        for thread in threading.enumerate():
            if thread.name.startswith("ChunkRotatorActor"):
                thread.join(10)  # it still writes, and the folder is about to go
    assert "left behind" in caplog.text
    assert "stream://mic/hangs" in caplog.text
    assert "stream://mic/whole" not in caplog.text
    finished = load(Store(folder / "store").path("stream://mic/whole")).finish
    assert finished is not None
    assert finished.clean


def test_streams_are_stored_though_the_daemon_hangs(folder: Path, graph: StillGraph) -> None:
    go_on = threading.Event()
    engine = Engine(config_in(folder))
    engine.start()
    begin(engine, graph)
    graph.run(20)
    assert engine._daemon is not None
    engine._daemon.tell(m.Call(lambda: go_on.wait(60)))
    waiting = engine.submit(r.Ping())
    begun = time.monotonic()
    with mock.patch("chaos.engine.engine.HANGS_AFTER_S", 0.5):
        assert not engine.close(2)
    assert time.monotonic() - begun < 40
    assert isinstance(waiting.exception(0), ChaosError)
    finished = load(Store(folder / "store").path(URI)).finish
    assert finished is not None
    assert finished.clean
    go_on.set()


def test_streams_are_stored_though_the_daemon_is_dead(folder: Path, graph: StillGraph) -> None:
    engine = Engine(config_in(folder))
    engine.start()
    begin(engine, graph)
    graph.run(20)
    assert engine._daemon is not None
    engine._daemon.stop()
    assert isinstance(engine.submit(r.Ping()).exception(10), ChaosError)
    assert engine.close(5)
    finished = load(Store(folder / "store").path(URI)).finish
    assert finished is not None
    assert finished.clean


def test_a_pipe_in_place_of_a_journal_holds_nobody_up(folder: Path, graph: StillGraph) -> None:
    """Whoever opens it waits for a writer that never comes."""
    recording = Store(folder / "store").path("stream://old/1")
    recording.mkdir(parents=True)
    os.mkfifo(recording / "journal.jsonl")
    engine = Engine(config_in(folder))
    engine.start()
    asked: list[Future[Any]] = [engine.submit(each) for each in (r.RecordingList(), r.Verify(uri="stream://old/1"))]
    assert isinstance(ask(engine, r.Ping()), Pong)
    begun = time.monotonic()
    assert engine.close()
    assert time.monotonic() - begun < 40
    assert all(future.done() for future in asked)


def test_it_can_say_how_each_stream_stands(engine: Engine, graph: StillGraph) -> None:
    begin(engine, graph)
    [line] = engine.describe()
    assert line.startswith(f"{URI} ")
    assert "head " in line


NO_MEMORY_FOR_THREADS = """
import pathlib, resource, sys
sys.path.insert(0, sys.argv[2])
from still import config_in, start_of
from chaos.engine.engine import Engine
from chaos.protocol.requests import Ping, StreamList

engine = Engine(config_in(pathlib.Path(sys.argv[1])))
engine.start()
engine.submit(Ping()).result(10)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
size = int(status["VmSize"].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (size + (20 << 20), resource.RLIM_INFINITY))
starts = [engine.submit(start_of(f"stream://mic/{number}", wait=True)) for number in range(20)]
refused = [str(start.exception(10)) for start in starts if start.exception(10) is not None]
running = engine.submit(StreamList()).result(10).streams
assert any("start new thread" in text for text in refused), refused
assert len(refused) + len(running) == 20, (refused, running)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert engine.close(10)
print("closed")
"""


def test_where_the_system_gives_no_more_threads_an_end_does_not_hang(folder: Path) -> None:
    """A real limit, of address space: what a thread's stack no longer fits into."""
    helpers = str(Path(__file__).parents[1] / "helpers")
    done = subprocess.run(
        [sys.executable, "-c", NO_MEMORY_FOR_THREADS, str(folder), helpers],
        stdout=subprocess.PIPE, text=True, timeout=60, check=True,
    )
    assert done.stdout == "closed\n"


DEFECT = """
import sys
from unittest import mock
from chaos import daemon
from chaos.engine.registry import DeviceRegistryActor

with mock.patch.object(DeviceRegistryActor, "start", side_effect=RuntimeError("as a test has it")):
    sys.exit(daemon.main(sys.argv[1:]))
"""


def test_a_daemon_that_cannot_go_on_ends_with_a_code_that_service_managers_heed(folder: Path) -> None:
    places = ("--endpoint", f"ipc://{folder}/c", "--events", f"ipc://{folder}/e", "--store", str(folder / "store"))
    done = subprocess.run(
        [sys.executable, "-c", DEFECT, *places, "--staging-dir", str(folder / "staging")],
        stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )
    assert done.returncode == 1
    assert "chaosd stopped because of an internal error: RuntimeError: as a test has it" in done.stderr


def test_a_claim_that_is_given_up_at_the_end_has_a_moment(
    engine: Engine, graph: StillGraph, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a busy machine: nobody is told of a thread that was left behind."""
    closing, give_up, close = threading.Event(), Claim.close, Workers.close

    def slowly(claim: Claim) -> None:
        closing.wait(60)
        give_up(claim)

    def begin_close(workers: Workers, within_s: float = 0.0) -> None:
        wait_for = workers._idle.wait_for
        at_last = closing.set if workers._name == "paths" else lambda: None
        with mock.patch.object(workers._idle, "wait_for", lambda *how: (at_last(), wait_for(*how))[1]):
            close(workers, within_s)

    with mock.patch.object(Claim, "close", slowly), mock.patch.object(Workers, "close", begin_close):
        begin(engine, graph, URI)
        assert engine.submit(r.StreamStop(uri=URI)).result(10).clean
        assert engine.close()
    assert closing.is_set()
    assert "not done" not in caplog.text
