"""The client for asyncio against a scripted daemon over a real bus."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import pytest
import zmq
from scripted import ScriptedDaemon

from chaos.aio import Client
from chaos.client import DaemonUnreachable
from chaos.terms.errors import BadAnswer, ChaosError, InvalidRequest, StorageFull, StreamNotFound, TimedOut

URI = "stream://desk/take"
STARTED = {"uri": URI, "recording": "/r", "device": None, "format": {}, "reason": "", "chunk_frames": 1024}
PONG = {"name": "chaosd", "version": "1", "protocol": 1, "run_id": "r", "pid": 1, "uptime_s": 0.5}
GAP = {"first_frame": 0, "n_frames": 1, "cause": "missed", "confidence": "exact"}

T = TypeVar("T")


def run(body: Coroutine[Any, Any, T]) -> T:
    """Runs it, and no task of ours is left behind."""

    async def whole() -> T:
        result = await asyncio.wait_for(body, 60)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return asyncio.run(whole())


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ScriptedDaemon]:
    with ScriptedDaemon(tmp_path, {"ping": PONG}) as daemon:
        yield daemon


def client_of(daemon: ScriptedDaemon, **options: Any) -> Client:
    return Client(daemon.config.endpoint, daemon.config.events_endpoint, **options)


def test_methods_give_typed_answers(daemon: ScriptedDaemon) -> None:
    async def body() -> None:
        async with client_of(daemon) as chaosd:
            assert chaosd.reachable()
            assert (await chaosd.ping()).name == "chaosd"
            assert await chaosd.call("ping") == PONG

    run(body())


def test_where_events_are_told_is_asked_of_the_daemon_itself(daemon: ScriptedDaemon) -> None:
    daemon.script["ping"] = {**PONG, "events_endpoint": daemon.config.events_endpoint}

    async def body() -> None:
        async with Client(daemon.config.endpoint) as chaosd, await chaosd.events("stream_state", timeout_s=9) as events:
            daemon.publish("stream_state", "stream://desk/take", state="paused", reason="")
            assert (await anext(events))["state"] == "paused"

    run(body())


def test_answers_come_as_they_are_ready(daemon: ScriptedDaemon) -> None:
    first: Future[Any] = Future()
    daemon.script |= {"stream_list": {"streams": []}, "session_list": first}

    async def body() -> None:
        async with client_of(daemon) as chaosd:
            slow = asyncio.ensure_future(chaosd.session_list())
            assert await chaosd.stream_list() == []
            assert not slow.done()
            first.set_result({"sessions": []})
            assert await slow == []
            many = await asyncio.gather(*(chaosd.ping() for _ in range(50)))
            assert {each.pid for each in many} == {1}

    run(body())


def test_errors_come_back_as_what_they_are(daemon: ScriptedDaemon) -> None:
    daemon.script["stream_stop"] = StorageFull("no space", hint="make some", details={"free": 0})

    async def body() -> None:
        async with client_of(daemon) as chaosd:
            with pytest.raises(StorageFull) as caught:
                await chaosd.stream_stop(URI)
            assert (caught.value.code, caught.value.hint, caught.value.details) == (
                "storage_full",
                "make some",
                {"free": 0},
            )
            with pytest.raises(InvalidRequest, match="nonsense"):
                await chaosd.call("ping", nonsense=1)
            with pytest.raises(InvalidRequest, match="not a stream URI"):
                await chaosd.stream_stop("desk")

    run(body())


def test_nobody_there_is_told_at_once(tmp_path: Path) -> None:
    async def body() -> None:
        async with Client(f"ipc://{tmp_path}/command", f"ipc://{tmp_path}/events") as chaosd:
            assert not chaosd.reachable()
            with pytest.raises(DaemonUnreachable, match=str(tmp_path)):
                await chaosd.ping()
            with pytest.raises(DaemonUnreachable):
                await chaosd.events()

    run(body())


def test_one_that_does_not_answer_is_given_up(daemon: ScriptedDaemon) -> None:
    daemon.script["stream_list"] = Future()

    async def body() -> None:
        async with client_of(daemon, timeout_s=0.05) as chaosd:
            with pytest.raises(DaemonUnreachable, match="did not answer stream_list"):
                await chaosd.stream_list()
            assert (await chaosd.ping()).pid == 1

    run(body())


def test_an_answer_to_what_was_given_up_is_passed_over(daemon: ScriptedDaemon) -> None:
    late: Future[dict[str, Any]] = Future()
    daemon.script["stream_list"] = late

    async def body() -> None:
        async with client_of(daemon, timeout_s=60) as chaosd:
            given_up = asyncio.ensure_future(chaosd.stream_list())
            while len(daemon.requests) < 1:
                await asyncio.sleep(0.001)
            given_up.cancel()
            await asyncio.wait({given_up})
            late.set_result({"streams": []})
            for _ in range(2):
                assert (await chaosd.ping()).pid == 1

    run(body())


def test_an_answer_to_what_nobody_asked_is_told(tmp_path: Path) -> None:
    async def body() -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as other:
            other.bind(f"ipc://{tmp_path}/command")
            async with Client(f"ipc://{tmp_path}/command", f"ipc://{tmp_path}/events") as chaosd:
                for _ in range(2):
                    waiting = asyncio.ensure_future(chaosd.stream_stop(URI))  # for which there are minutes
                    while not other.poll(0):
                        await asyncio.sleep(0.001)
                    client, _ = other.recv_multipart()
                    other.send_multipart([client, b'{"ok": true, "id": "another", "result": {}}'])
                    with pytest.raises(BadAnswer, match="its id is 'another'"):
                        await waiting

    run(body())


def test_a_daemon_that_goes_is_told_and_one_that_comes_back_is_found(tmp_path: Path) -> None:
    async def body() -> None:
        with ScriptedDaemon(tmp_path, {"ping": PONG, "stream_list": Future()}) as daemon:
            chaosd = client_of(daemon)
            events = await chaosd.events("stream_gap")
            waits = asyncio.ensure_future(chaosd.stream_list())
            await chaosd.ping()
            daemon.publish("stream_gap", URI, **GAP)
        with pytest.raises(ChaosError) as caught:
            await waits
        assert caught.value.code == "timeout"
        assert (await anext(events))["n_frames"] == 1
        with pytest.raises(DaemonUnreachable, match="went away"):
            await anext(events)
        await events.close()
        with pytest.raises(DaemonUnreachable):
            await chaosd.ping()
        with ScriptedDaemon(tmp_path, {"ping": PONG}):
            assert (await chaosd.ping()).pid == 1
        await chaosd.close()
        await chaosd.close()

    run(body())


def test_one_that_dies_while_somebody_waits_is_told_at_once(tmp_path: Path) -> None:
    async def body() -> None:
        with zmq.Context() as context:
            dying = context.socket(zmq.ROUTER)
            dying.bind(f"ipc://{tmp_path}/command")
            async with Client(f"ipc://{tmp_path}/command", f"ipc://{tmp_path}/events", timeout_s=60) as chaosd:
                waiting = [asyncio.ensure_future(chaosd.ping()) for _ in range(3)]
                while not dying.poll(0):
                    await asyncio.sleep(0.001)
                dying.close(linger=0)
                for each in waiting:
                    with pytest.raises(DaemonUnreachable, match="went away"):
                        await each

    run(body())


def test_no_event_is_lost_between_two_looks(daemon: ScriptedDaemon) -> None:
    async def body() -> None:
        async with client_of(daemon) as chaosd, await chaosd.events("stream_gap", timeout_s=0.01) as events:
            with pytest.raises(TimedOut):
                await anext(events)
            looking = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            looking.cancel()
            await asyncio.wait({looking})
            for number in range(20):
                daemon.publish("stream_gap", URI, **GAP | {"first_frame": number})
            events.timeout_s = 30
            assert [(await anext(events))["first_frame"] for _ in range(20)] == list(range(20))

    run(body())


def test_a_start_waits_until_it_streams(daemon: ScriptedDaemon) -> None:
    def start(_: object) -> dict[str, Any]:
        daemon.publish("stream_state", URI, state="streaming", reason="")
        return {**STARTED, "state": "connecting"}

    daemon.script["stream_start"] = start
    asked = {"uri": URI, "device_identity": "x", "format": {"type": "audio"}}

    async def body() -> None:
        async with client_of(daemon) as chaosd:
            assert (await chaosd.start(**asked))["state"] == "streaming"
            daemon.script["stream_start"] = {**STARTED, "state": "connecting"}
            daemon.script["stream_status"] = StreamNotFound("gone")
            with pytest.raises(StreamNotFound):
                await chaosd.start(settle_s=0.01, **asked)

    run(body())
