"""What a service manager hears of us, and when it hears nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chaos.engine.view import StreamView
from chaos.engine.watchdog import Heads, Watchdog, summary
from chaos.protocol.answers import StreamsListed, StreamStatus
from chaos.protocol.requests import AudioFormat, Request
from chaos.system.notify import Notify
from chaos.terms.errors import TimedOut


def stream(uri: str = "stream://a/1", state: str = "streaming", head: int = 0) -> StreamStatus:
    status = StreamView(uri, AudioFormat()).status()
    return msgspec.structs.replace(status, state=state, head_frame=head, recording=f"/r/{uri}")  # type: ignore[arg-type]


def test_a_head_that_stands_without_a_reason_is_seen() -> None:
    heads = Heads()
    assert heads.frozen([stream(head=5)]) == []
    assert heads.frozen([stream(head=6)]) == []
    assert heads.frozen([stream(head=6)]) == ["stream://a/1"]
    assert heads.frozen([stream(head=7)]) == []


@pytest.mark.parametrize("state", ["waiting", "stalled", "paused", "connecting"])
def test_a_wait_is_known(state: str) -> None:
    heads = Heads()
    for _ in range(3):
        assert heads.frozen([stream(state=state, head=6)]) == []


def test_a_stream_that_has_just_begun_to_flow_is_given_time() -> None:
    heads = Heads()
    heads.frozen([stream(state="waiting", head=6)])
    assert heads.frozen([stream(head=6)]) == []


def test_how_it_stands_is_a_line() -> None:
    assert summary([]) == "no stream is running"
    assert summary([stream(), stream("stream://b/1", "waiting")]) == "2 streams: 1 streaming, 1 waiting"


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@chaosd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0"))
        sock.settimeout(60)
        yield sock, name


def test_it_is_told_over_its_socket(manager: tuple[socket.socket, str]) -> None:
    sock, name = manager
    Notify({"NOTIFY_SOCKET": name}).tell(READY="1", STATUS="a\nb")
    assert sock.recv(100) == b"READY=1\nSTATUS=a b"


def test_without_a_manager_nothing_is_told(tmp_path: Path) -> None:
    assert not Notify({}).is_wanted
    Notify({}).tell(READY="1")
    Notify({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell(READY="1")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_for_this_process(environment: dict[str, str], expected: float | None) -> None:
    assert Notify({"NOTIFY_SOCKET": "/x", **environment}).watchdog_s == expected
    assert Notify(environment).watchdog_s is None


class Told(Notify):
    def __init__(self) -> None:
        super().__init__({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "30000"})
        self.said: list[dict[str, str]] = []

    def tell(self, **values: str) -> None:
        self.said.append(values)


def looked(answer: Callable[[], Any], n_looks: int = 2) -> list[dict[str, str]]:
    def submit(_: Request) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(answer())
        except Exception as error:
            future.set_exception(error)
        return future

    notify = Told()
    watchdog = Watchdog(submit, notify)
    for _ in range(n_looks):
        watchdog._look()
    return notify.said


def test_it_is_petted_while_heads_go_on() -> None:
    heads = iter((1, 2))
    said = looked(lambda: StreamsListed([stream(head=next(heads))]))
    assert said == [{"WATCHDOG": "1", "STATUS": "1 stream: 1 streaming"}] * 2
    assert looked(lambda: StreamsListed([])) == [{"WATCHDOG": "1", "STATUS": "no stream is running"}] * 2


def test_it_is_not_petted_where_a_head_stands_or_nobody_answers(caplog: pytest.LogCaptureFixture) -> None:
    assert len(looked(lambda: StreamsListed([stream(head=1)]))) == 1  # the first look alone

    def refused() -> Any:
        raise TimedOut("over")

    assert looked(refused) == []
    why = ["no frame of stream://a/1 comes", "over", "over"]
    assert [each.getMessage().split(": ", 1)[1] for each in caplog.records] == why


def test_an_engine_that_hangs_is_noticed() -> None:
    notify = Told()
    Watchdog(lambda _: Future(), notify)._look()
    assert notify.said == []
