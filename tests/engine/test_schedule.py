"""When a stream begins and ends by itself, by clocks that a test sets."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lone import LoneStream

from chaos.engine import messages as m
from chaos.engine import stream as stream_module
from chaos.engine.life import Life
from chaos.engine.schedule import LATE, LOOK_S, Schedule, check_moments
from chaos.engine.take import uri_by_time
from chaos.protocol.codec import decode_request
from chaos.protocol.requests import Levels, StreamStart
from chaos.terms.errors import ChaosError, InvalidRequest
from chaos.terms.formats import AudioFormat

NOW = dt.datetime(2026, 11, 26, 17, 0, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


class Clocks:
    """Both stand until they are moved."""

    def __init__(self) -> None:
        self.wall, self.s = NOW, 100.0

    def pass_s(self, seconds: float) -> None:
        self.wall += dt.timedelta(seconds=seconds)
        self.s += seconds


def request(**more: Any) -> StreamStart:
    return StreamStart(uri="stream://mic/1", device_identity="mic", format=AudioFormat(), **more)


def schedule(clocks: Clocks, **more: Any) -> Schedule:
    return Schedule(request(**more), lambda: clocks.wall, lambda: clocks.s)


def test_it_begins_at_its_time_also_where_somebody_sets_the_clock() -> None:
    clocks = Clocks()
    made = schedule(clocks, start_at=NOW + HOUR)
    assert (made.is_early, made.look_in_s()) == (True, LOOK_S)
    clocks.wall += HOUR - dt.timedelta(seconds=1)
    assert (made.is_early, made.look_in_s(), made.begins()) == (True, 1.0, NOW + HOUR)
    clocks.pass_s(1)
    assert (made.is_early, made.is_over, made.look_in_s(), made.begins()) == (False, False, None, None)


def test_it_ends_at_its_time() -> None:
    clocks = Clocks()
    made = schedule(clocks, stop_at=NOW + HOUR)
    assert (made.is_over, made.ends()) == (False, NOW + HOUR)
    clocks.wall += HOUR
    assert (made.is_over, made.look_in_s()) == (True, 0.0)


def test_a_length_counts_from_the_first_frame_by_the_other_clock() -> None:
    clocks = Clocks()
    made = schedule(clocks, stop_after_s=10)
    clocks.pass_s(1000)
    assert (made.is_over, made.look_in_s(), made.ends()) == (False, None, None)
    made.has_begun()
    assert made.ends() == clocks.wall + dt.timedelta(seconds=10)
    clocks.pass_s(4)
    made.has_begun()
    clocks.wall += HOUR
    assert (made.is_over, made.look_in_s()) == (False, 6.0)
    clocks.pass_s(6)
    assert made.is_over


@pytest.mark.parametrize(
    "fields",
    [
        {"stop_at": "2026-01-31T12:00:00Z", "stop_after_s": 5},
        {"start_at": "2026-01-31T12:00:00Z", "stop_at": "2026-01-31T12:00:00Z"},
        {"start_at": "2026-01-31T12:00:00"},
        {"start_at": "soon"},
        {"stop_after_s": 0},
        {"take_names": "time", "uri": "stream://mic/" + "x" * 60},
        {"on_roll": "'"},
        {"on_seal": "./here"},
    ],
)
def test_what_can_t_be_is_refused(fields: dict[str, Any]) -> None:
    import json

    asked = {"op": "stream_start", "uri": "stream://mic/1", "device_identity": "mic", "format": {"type": "audio"}}
    with pytest.raises(ChaosError):
        decode_request(json.dumps({**asked, **fields}).encode())


@pytest.mark.parametrize(
    "fields",
    [
        {"start_at": dt.datetime(1, 1, 1, tzinfo=dt.UTC)},
        {"start_at": dt.datetime(1, 1, 1, tzinfo=dt.timezone(14 * HOUR))},
        {"start_at": NOW - LATE - dt.timedelta(seconds=1)},
        {"stop_at": NOW},
    ],
)
def test_a_moment_that_is_over_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="_at is over: by chaosd's clock it is 2026-11-26T17:00:00Z") as refused:
        check_moments(request(**fields), NOW)
    assert "--" in refused.value.hint


def test_a_start_may_have_taken_a_moment() -> None:
    check_moments(request(start_at=NOW - LATE), NOW)
    check_moments(request(start_at=NOW + HOUR, stop_at=NOW + 2 * HOUR), NOW)


def test_takes_are_named_by_their_second_and_stay_in_order() -> None:
    uri, taken = "stream://mic/1", set[str]()

    def named(former: str, now: dt.datetime) -> str:
        return uri_by_time(uri, former, now, lambda each: each not in taken)

    assert named(uri, NOW - dt.timedelta(seconds=0.4)) == f"{uri}.20261126170000"
    assert named(f"{uri}.0002", NOW) == f"{uri}.20261126170000"
    assert named(f"{uri}.20261126180000", NOW) == f"{uri}.20261126180001", "the clock was set back"
    taken.add(f"{uri}.20261126170000")
    assert named(uri, NOW) == f"{uri}.20261126170001"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[dt.datetime]:
    """What the stream takes for now: the first of it."""
    now = [NOW]

    class Set(dt.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return now[0].astimezone(tz)

    monkeypatch.setattr(stream_module, "datetime", Set)
    return now


def test_a_stream_waits_for_its_time_and_ends_by_itself(folder: Path, clock: list[dt.datetime]) -> None:
    stream = LoneStream(folder, start_at=NOW + HOUR, stop_at=NOW + 2 * HOUR)
    try:
        stream.actor.begin()
        assert stream.start.result(0).state == "waiting"
        assert "it is to begin at 2026-11-2" in stream.view.reason
        assert stream.view.status().begins_utc == "2026-11-26T18:00:00.000000000Z"
        stream.plug()
        assert (stream.life, stream.captures) == (Life.SEEKING, [])
        stream.give(m.Due())
        assert stream.captures == []
        clock[0] = NOW + HOUR
        stream.give(m.Due())
        assert stream.life is Life.CAPTURING
        status = stream.view.status()
        assert (status.begins_utc, status.ends_utc) == (None, "2026-11-26T19:00:00.000000000Z")
        stream.plug()
        stream.run(4)
        stream.take_in(m.Began)
        clock[0] = NOW + 2 * HOUR
        stream.give(m.Due())
        assert stream.life is Life.STORING
        stream.take_in(m.Stored)
        assert stream.life is Life.ENDED
    finally:
        stream.close()
    told = []
    while not stream.events.empty():
        told.append(stream.events.get())
    [stopped] = [fields for kind, fields in told if kind == "stream_stopped"]
    assert stopped["clean"]


def test_who_waits_for_the_time_can_be_stopped(folder: Path, clock: list[dt.datetime]) -> None:
    stream = LoneStream(folder, start_at=NOW + HOUR)
    try:
        stream.actor.begin()
        ended: Future[Any] = Future()
        stream.give(m.Stop(ended))
        assert (ended.result(0).recording, stream.life) == ("", Life.ENDED)
    finally:
        stream.close()


def test_what_is_asked_of_one_that_waits_for_its_time_is_told_when_that_is(
    folder: Path, clock: list[dt.datetime]
) -> None:
    stream = LoneStream(folder, start_at=NOW + HOUR)
    try:
        stream.actor.begin()
        for make in (lambda future: m.MarkFrame("here", None, future), m.KeepStandby):
            asked: Future[Any] = Future()
            stream.give(make(asked))
            with pytest.raises(ChaosError, match="it is to begin at 2026-11-2"):
                asked.result(0)
    finally:
        stream.close()


def test_one_in_standby_that_ends_by_itself_says_that_nothing_is_kept(
    folder: Path, clock: list[dt.datetime], caplog: pytest.LogCaptureFixture
) -> None:
    stream = LoneStream(folder, standby_s=10, stop_at=NOW + HOUR)
    try:
        stream.actor.begin()
        clock[0] = NOW + HOUR
        stream.give(m.Due())
        assert "it was in standby to the end, so nothing is kept" in caplog.text
    finally:
        stream.close()


@pytest.mark.parametrize("n_takes", [0, 2])
def test_one_with_a_trigger_says_that_only_where_it_made_no_take(
    n_takes: int, folder: Path, clock: list[dt.datetime], caplog: pytest.LogCaptureFixture
) -> None:
    stream = LoneStream(folder, trigger=Levels(-40.0, 1.0, 1.0), stop_at=NOW + HOUR)
    try:
        stream.actor.begin()
        assert stream.view.trigger is not None
        stream.view.trigger = msgspec.structs.replace(stream.view.trigger, n_takes=n_takes)
        clock[0] = NOW + HOUR
        stream.give(m.Due())
        assert ("so nothing is kept" in caplog.text) == (n_takes == 0)
    finally:
        stream.close()
