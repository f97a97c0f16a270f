"""Configured streams against an engine that is played: who is started again, and who is not."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from chaos.engine import standing
from chaos.engine.standing import Standing
from chaos.protocol import events
from chaos.protocol.codec import make_event
from chaos.protocol.configfile import ConfiguredSession, ConfiguredStream
from chaos.protocol.requests import Request, SessionStart, StreamStart
from chaos.terms.errors import ChannelsMismatch, InternalError

FIELDS: dict[str, Any] = {"device_identity": "mic", "format": {"type": "audio"}}
DESK = ConfiguredStream("desk", FIELDS)
JAM = ConfiguredSession("jam", (ConfiguredStream("left", FIELDS), ConfiguredStream("right", FIELDS)))
WAIT_S = 60.0


class Played:
    """Takes what is submitted; `next` gives it with its future."""

    def __init__(self) -> None:
        self.asked: queue.SimpleQueue[tuple[Request, Future[Any]]] = queue.SimpleQueue()
        self.standing: Standing | None = None

    def submit(self, request: Request) -> Future[Any]:
        future: Future[Any] = Future()
        self.asked.put((request, future))
        return future

    def begin(self, *wanted: ConfiguredStream | ConfiguredSession) -> None:
        streams = [each for each in wanted if isinstance(each, ConfiguredStream)]
        sessions = [each for each in wanted if isinstance(each, ConfiguredSession)]
        self.standing = Standing(self.submit, streams, sessions)
        self.standing.start()

    def next(self) -> tuple[Any, Future[Any]]:
        return self.asked.get(timeout=WAIT_S)

    def tell(self, event: events.Event, uri: str | None = None) -> None:
        assert self.standing is not None
        self.standing.hear(make_event(event, seq=1, topic_seq=1, run_id="r", stream_uri=uri))

    def fail(self, uri: str) -> None:
        self.tell(events.StreamError.of(InternalError("broken"), recoverable=False), uri)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    monkeypatch.setattr(standing, "SOONEST_S", 0.01)
    engine = Played()
    yield engine
    if engine.standing is not None:
        engine.standing.close()


def test_each_is_started_at_once_and_waits_for_its_device(played: Played) -> None:
    played.begin(DESK, JAM)
    asked = [played.next()[0] for _ in range(2)]
    assert [type(each) for each in asked] == [SessionStart, StreamStart]
    assert all(each.wait for each in asked)


def test_one_that_fails_begins_its_next_take(played: Played) -> None:
    played.begin(DESK)
    request, started = played.next()
    started.set_result(None)
    played.fail(request.uri)
    again, _ = played.next()
    assert isinstance(again, StreamStart)
    assert again.uri.startswith("stream://desk/")


def test_one_that_is_stopped_and_one_of_others_are_left_alone(played: Played) -> None:
    played.begin(DESK)
    request, started = played.next()
    started.set_result(None)
    stopped = events.StreamStopped(recording="", n_frames=1, n_chunks=1, n_gaps=0, lost_frames=0, clean=True)
    played.tell(stopped, request.uri)
    played.fail("stream://another/1")
    played.tell(events.StreamError.of(InternalError("a chunk"), recoverable=True), request.uri)
    played.fail(request.uri)  # the one thing here that has it started again
    played.next()
    assert played.asked.empty()


def test_a_refused_start_is_tried_again_and_told_once(played: Played, caplog: pytest.LogCaptureFixture) -> None:
    played.begin(DESK)
    for _ in range(3):
        _, started = played.next()
        started.set_exception(ChannelsMismatch("it has 2 channels", hint="leave channels out"))
    played.next()
    told = [each.getMessage() for each in caplog.records]
    assert told == ["desk can't start: it has 2 channels (leave channels out); it is tried again"]


def test_a_device_that_comes_has_it_tried_sooner(played: Played) -> None:
    played.begin(DESK)
    _, started = played.next()
    assert played.standing is not None
    [wanted] = played.standing._wanted
    wanted.wait_s = 3600.0
    started.set_exception(ChannelsMismatch("no"))
    played.tell(events.DeviceChanged(device={}))
    played.next()


def test_a_sessions_stream_that_fails_goes_on_alone(played: Played) -> None:
    played.begin(JAM)
    request, started = played.next()
    started.set_result(None)
    played.fail(request.streams[1].uri)
    again, _ = played.next()
    assert isinstance(again, StreamStart)
    assert again.uri.startswith("stream://right/")


def test_a_sessions_stream_that_fails_before_the_session_is_answered_goes_on_alone(played: Played) -> None:
    played.begin(JAM)
    request, started = played.next()
    played.fail(request.streams[0].uri)
    started.set_result(None)
    again, _ = played.next()
    assert again.uri.startswith("stream://left/")


def test_at_the_end_nothing_is_started(played: Played) -> None:
    played.begin(DESK)
    request, started = played.next()
    started.set_result(None)
    played.tell(events.DaemonStopping())
    played.fail(request.uri)
    assert played.standing is not None
    played.standing._thread.join(WAIT_S)
    assert not played.standing._thread.is_alive()
    assert played.asked.empty()
