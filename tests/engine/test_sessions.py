"""Sessions whose start is refused late: when some of their streams record already."""

from __future__ import annotations

import datetime as dt
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pykka
import pytest
from lone import StillPump
from recorded import definition

from chaos.engine.gate import Gate
from chaos.engine.messages import Call, refuse, settle
from chaos.engine.sessions import Sessions
from chaos.protocol.answers import StreamBegun, StreamEnded
from chaos.protocol.events import Event, SessionBegan
from chaos.protocol.requests import AudioFormat, SessionStart, SessionStop, SessionStream, StreamStart, StreamStop
from chaos.store.catalog import Catalog
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.system.pump import Pump
from chaos.terms.errors import ChaosError, RateMismatch, SessionExists, StorageFull

GOOD, BAD = "stream://good/jam", "stream://bad/jam"
BEGUN = StreamBegun(GOOD, "", None, AudioFormat(), 16, "streaming")


class Daemon(pykka.ThreadingActor):
    def on_receive(self, message: Any) -> None:
        if isinstance(message, Call):
            message.function()


class Streams:
    """Starts that end as the test says, of which the good one records at once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.starts: dict[str, Future[Any]] = {}
        self.requests: list[StreamStart] = []
        self.writers: dict[str, RecordingWriter] = {}

    def start(self, request: StreamStart, future: Future[Any], *, is_recovering: bool, member: Any) -> None:
        self.starts[request.uri] = future
        self.requests.append(request)
        if request.uri == GOOD:
            shape = definition(GOOD, 1, 16, session=member.session, session_uris=list(member.uris))
            self.writers[GOOD] = RecordingWriter.create(self.store, shape)
            self.writers[GOOD].seal(0, np.ones(16, "<f4").data, 0, 16)

    def stop(self, request: StreamStop, future: Future[Any]) -> None:
        writer = self.writers.pop(request.uri)
        writer.finish(16, clean=True)
        writer.close()
        if not self.starts[request.uri].done():
            settle(self.starts[request.uri], BEGUN)
        settle(future, StreamEnded(request.uri, str(writer.path), 16, 1, 0, 0, True))

    def view(self, uri: str) -> object | None:
        return self.writers.get(uri)


@pytest.fixture
def pump() -> Iterator[Pump]:
    pump = Pump()
    yield pump
    pump.close()


@pytest.fixture
def daemon() -> Iterator[pykka.ActorRef[Any]]:
    ref = Daemon.start()
    yield ref
    ref.stop()


@pytest.mark.parametrize("is_answered", [True, False])
def test_nothing_stays_of_a_start_that_is_refused_when_some_record_already(
    tmp_path: Path, pump: Pump, daemon: pykka.ActorRef[Any], is_answered: bool
) -> None:
    """At once: the start of one that is held at the gate is answered because it is stopped."""
    store, told = Store(tmp_path), list[Event]()
    store.share()
    streams, catalog = Streams(store), Catalog(store)

    def work(future: Future[Any], function: Callable[[], Any]) -> None:
        try:
            settle(future, function())
        except ChaosError as error:
            refuse(future, error)

    sessions = Sessions(streams, pump, daemon, work, lambda: catalog, told.append)  # type: ignore[arg-type]
    members = [SessionStream(uri=uri, device_identity="d", format=AudioFormat()) for uri in (GOOD, BAD)]
    request = SessionStart(session="jam", streams=members)

    def begin() -> Future[Any]:
        future: Future[Any] = Future()
        daemon.ask(Call(lambda: sessions.start(request, future, is_recovering=False)))
        daemon.ask(Call(lambda: None))  # what `work` has found is taken in
        return future

    first = begin()
    assert catalog.entries(session="jam"), "one of them records"
    if is_answered:
        settle(streams.starts[GOOD], BEGUN)
    refuse(streams.starts[BAD], RateMismatch("the graph runs at another rate", hint="set it"))
    with pytest.raises(RateMismatch):
        first.result(timeout=30)
    assert catalog.entries(session="jam") == []
    assert told == []

    again = begin()
    for uri in (GOOD, BAD):
        settle(streams.starts[uri], StreamBegun(uri, "", None, AudioFormat(), 16, "streaming"))
    assert [each.uri for each in again.result(timeout=30).streams] == [GOOD, BAD]
    assert [event.type for event in told] == ["session_started"]
    with pytest.raises(SessionExists):
        daemon.ask(Call(lambda: sessions.start(request, Future(), is_recovering=False)))
    catalog.close()


def test_who_begins_without_whom_is_told_once_the_start_was(
    tmp_path: Path, pump: Pump, daemon: pykka.ActorRef[Any]
) -> None:
    store, told = Store(tmp_path), queue.SimpleQueue[Event]()
    store.share()
    streams, catalog = Streams(store), Catalog(store)
    sessions = Sessions(
        streams, pump, daemon, lambda future, function: settle(future, function()), lambda: catalog, told.put
    )  # type: ignore[arg-type]
    members = [SessionStream(uri=uri, device_identity=uri, format=AudioFormat()) for uri in (GOOD, BAD)]
    request, future = SessionStart(session="jam", streams=members, wait=True), Future[Any]()
    daemon.ask(Call(lambda: sessions.start(request, future, is_recovering=False)))
    daemon.ask(Call(lambda: sessions.on_state(GOOD, "streaming")))
    daemon.ask(Call(lambda: sessions._open("jam")))  # as its timer does, before the start is answered
    assert told.empty()
    settle(streams.starts[GOOD], StreamBegun(GOOD, "", {"name": "mic"}, AudioFormat(), 16, "streaming"))
    settle(streams.starts[BAD], StreamBegun(BAD, "", None, AudioFormat(), 0, "waiting"))
    begun = future.result(timeout=30)
    assert (begun.waiting, begun.begins_within_s) == ([BAD], None)
    started, began = told.get(timeout=30), told.get(timeout=30)
    assert (started.type, began.type) == ("session_started", "session_began")
    assert isinstance(began, SessionBegan)
    assert (began.uris, began.waiting) == ([GOOD], [BAD])
    catalog.close()


def test_nobody_is_given_up_before_the_time_at_which_a_session_is_to_begin(
    tmp_path: Path, daemon: pykka.ActorRef[Any]
) -> None:
    store, told = Store(tmp_path), queue.SimpleQueue[Event]()
    store.share()
    streams, pump = Streams(store), StillPump()
    sessions = Sessions(
        streams, pump, daemon, lambda future, function: settle(future, function()), lambda: catalog, told.put
    )  # type: ignore[arg-type]
    begin = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    members = [SessionStream(uri=uri, device_identity=uri, format=AudioFormat()) for uri in (GOOD, BAD)]
    request = SessionStart(session="jam", streams=members, start_at=begin, stop_after_s=60.0)
    future: Future[Any] = Future()

    def ring() -> bool:
        """The session's timer rings; whether its gate is shut afterwards."""
        pump.timers["session", "jam"]()
        daemon.ask(Call(lambda: None))
        return "jam" in sessions._shut

    with Catalog(store) as catalog:
        daemon.ask(Call(lambda: sessions.start(request, future, is_recovering=False)))
        daemon.ask(Call(lambda: None))
        assert [(each.start_at, each.stop_after_s) for each in streams.requests] == [(begin, 60.0)] * 2
        for uri in (GOOD, BAD):
            settle(streams.starts[uri], StreamBegun(uri, "", None, AudioFormat(), 16, "waiting"))
        begun = future.result(timeout=30)
        assert (begun.waiting, begun.begins_within_s) == ([], None)
        assert (ring(), ring()) == (True, True)
        sessions._start_at["jam"] = begin - dt.timedelta(hours=2)  # the time has come
        assert (ring(), ring()) == (True, False)


def test_a_gate_holds_until_a_second_after_it_was_opened() -> None:
    gate = Gate()
    assert gate.holds(0)
    gate.open_at(5_000_000_000)
    assert [gate.holds(ns) for ns in (0, 5_999_999_999, 6_000_000_000)] == [True, True, False]


def test_a_stop_that_could_not_store_all_names_each_stream(
    tmp_path: Path, pump: Pump, daemon: pykka.ActorRef[Any]
) -> None:
    store = Store(tmp_path)
    store.share()
    streams, third = Streams(store), "stream://third/jam"
    sessions = Sessions(streams, pump, daemon, lambda future, function: None, lambda: None, list[Event]().append)  # type: ignore[arg-type]
    sessions._running["jam"] = (BAD, GOOD, third)
    ends = {
        BAD: StorageFull("could not seal a", hint="free some space there", details={"errno": 28}),
        GOOD: StreamEnded(GOOD, "", 16, 1, 0, 0, True),
        third: StorageFull("could not seal c"),
    }
    streams.view = ends.get  # type: ignore[method-assign]
    streams.stop = lambda request, future: (  # type: ignore[method-assign]
        refuse(future, end) if isinstance(end := ends[request.uri], ChaosError) else settle(future, end)
    )
    stopped: Future[Any] = Future()
    daemon.ask(Call(lambda: sessions.stop(SessionStop(session="jam"), stopped)))
    with pytest.raises(StorageFull) as told:
        stopped.result(timeout=30)
    assert f"{BAD}: could not seal a; {GOOD}: stored; {third}: could not seal c" in told.value.message
    assert "free some space, then type: chaosctl recover" in told.value.hint
    named = [(each["uri"], each["error"] is None) for each in told.value.details["streams"]]
    assert named == [(BAD, False), (GOOD, True), (third, False)]
