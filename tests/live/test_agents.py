"""`chaosctl mcp` over its pipes, as an agent's program starts it: a real chaosd, real devices, each frame looked at."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import soundfile
from harness import Daemon, SourceFactory
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from rig import MIDI, Event, MidiSource, Session

from chaos.agents.arguments import EXAMPLES
from chaos.store.store import Store
from chaos.store.verify import verify

COMMAND = str(Path(sys.executable).with_name("chaosctl"))
URI = "stream://agent/take-1"


@pytest.fixture
def agent(daemon: Daemon, tmp_path: Path) -> Callable[..., None]:
    """Runs a body with the SDK's client of a `chaosctl mcp` that serves this daemon; files go to `saved`."""
    (tmp_path / "saved").mkdir()
    arguments = ["--endpoint", daemon.command, "--events", daemon.events, "mcp", "--save-to", str(tmp_path / "saved")]

    def run(body: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
        server = StdioServerParameters(command=COMMAND, args=arguments, env={**os.environ, **daemon.session.env})

        async def whole() -> None:
            async with Client(stdio_client(server)) as client:
                await asyncio.wait_for(body(client), 120)

        asyncio.run(whole())

    return run


async def call(client: Client, tool: str, /, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    answer: dict[str, Any] = result.structured_content
    return answer


async def error_of(client: Client, tool: str, /, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result.structured_content
    return str(result.structured_content["error"]["code"])


def test_an_agent_records_a_device(
    agent: Callable[..., None], daemon: Daemon, counting_source: SourceFactory, tmp_path: Path
) -> None:
    source = counting_source("agent-desk", description="Agent desk", driver=True, speed=4)
    daemon.client.call("device_wait", name=source.name, timeout_s=50)

    async def body(client: Client) -> None:
        found = (await call(client, "device_list", format="audio"))["devices"]
        [device] = [each for each in found if each["description"] == "Agent desk"]
        assert (device["type"], device["sample_rate"], device["channels"]) == ("audio", 48_000, 2)
        asked = {"uri": URI, "device_identity": device["identity"], "format": {"type": "audio"}, "request_id": "r1"}
        started = await call(client, "stream_create", **asked, chunk_size_bytes=48_000 * 8)
        assert (started["state"], started["chunk"]) == ("streaming", {"frames": 48_000, "seconds": 1.0})
        assert await call(client, "stream_create", **asked, chunk_size_bytes=48_000 * 8) == started
        assert await error_of(client, "stream_create", **asked | {"request_id": "r2"}) == "stream_exists"
        await asyncio.to_thread(_await_frames, daemon, 60_000)
        marked = await call(client, "mark", uri=URI, label="here", request_id="m")
        assert marked == await call(client, "mark", uri=URI, label="here", request_id="m")
        [stream] = (await call(client, "stream_status", uri=URI))["streams"]
        assert stream["length"]["frames"] >= 60_000
        assert (stream["lost"]["frames"], stream["recording"]["sample_rate"]) == (0, 48_000)
        saved = await call(client, "save", uri=URI, path="live.wav", last="1s")
        assert (saved["length"], saved["is_exact"]) == ({"frames": 48_000, "seconds": 1.0}, True)
        ended = await call(client, "stream_stop", uri=URI, request_id="s")
        assert ended == await call(client, "stream_stop", uri=URI, request_id="s")
        account = ended["recording"]
        assert (account["clean"], account["n_gaps"], account["lost"]["seconds"]) == (True, 0, 0.0)
        assert [(each["label"], each["at"]) for each in account["marks"]] == [("here", marked["at"])]
        report = verify(Store(daemon.store).path(URI))
        assert (account["root_hash"], account["length"]["frames"]) == (report.root_hash, report.n_frames)
        [content] = (await client.read_resource(URI)).contents
        assert json.loads(content.text)["root_hash"] == report.root_hash  # type: ignore[union-attr]
        assert await error_of(client, "stream_stop", uri=URI) == "stream_not_found"
        assert await error_of(client, "recording_delete", uri=URI) == "unauthorized"
        whole = await call(client, "save", uri=URI, path="whole.wav")
        assert whole["root_hash"] == report.root_hash

    agent(body)
    for name in ("live", "whole"):
        samples = soundfile.read(tmp_path / "saved" / f"{name}.wav", dtype="float32")[0].T
        found = source.check(samples)
        assert found.ok, (name, found)


def _await_frames(daemon: Daemon, n_frames: int) -> None:
    while daemon.client.event("stream_head_position", stream_uri=URI)["frame"] < n_frames:
        pass


def test_a_session_and_standby(
    agent: Callable[..., None], daemon: Daemon, session: Session, counting_source: SourceFactory
) -> None:
    counting_source("agent-mix", driver=True, speed=4)
    script = [Event(frame, 0, MIDI, bytes([0x90, 60, 97])) for frame in range(0, 9600, 480)]
    with MidiSource(session, script, name="agent-keys", ports=["midi"], speed=4) as keys:
        daemon.client.call("device_wait", name="agent-mix", timeout_s=50, format="audio")
        daemon.client.call("device_wait", name="agent-keys", timeout_s=50, format="midi")

        async def body(client: Client) -> None:
            devices = [
                {"device_identity": "agent-mix"},
                {"device_identity": "agent-keys", "format": "midi", "uri": "stream://keys/jam"},
            ]
            started = await call(client, "session_start", session="jam", devices=devices)
            assert [each["uri"] for each in started["streams"]] == ["stream://agent-mix/jam", "stream://keys/jam"]
            assert await error_of(client, "session_start", session="jam", devices=devices) == "session_exists"
            await asyncio.to_thread(keys.play)
            await asyncio.to_thread(keys.await_end)
            ended = await call(client, "session_stop", session="jam")
            assert [each["recording"]["sample_format"] for each in ended["streams"]] == ["f32", "midi"]
            assert all(each["length"]["seconds"] > 0 for each in ended["streams"])
            uri = "stream://agent/idea"
            await call(client, "stream_create", uri=uri, device_identity="agent-mix", standby_s=1)
            [held] = (await call(client, "stream_status", uri=uri))["streams"]
            assert (held["standby_s"], held["recording"]) == (1.0, None)
            kept = await call(client, "keep", uri=uri)
            ended = await call(client, "stream_stop", uri=uri)
            assert ended["recording"]["length"]["frames"] >= kept["held"]["frames"]

        agent(body)


def test_a_daemon_that_goes_and_comes_back(
    agent: Callable[..., None], daemon: Daemon, counting_source: SourceFactory
) -> None:
    source = counting_source("agent-back", driver=True, speed=4)
    daemon.client.call("device_wait", name=source.name, timeout_s=50)

    async def body(client: Client) -> None:
        await call(client, "stream_create", uri=URI, device_identity=source.name)
        await asyncio.to_thread(_await_frames, daemon, 4800)
        daemon.kill()
        assert await error_of(client, "stream_status") == "timeout"
        daemon.start()  # in this thread: what a rig starts ends with the thread that did
        assert (await call(client, "stream_status"))["streams"] == []
        await asyncio.to_thread(daemon.client.call, "verify", uri=URI)  # it is brought in before this is answered
        [found] = (await call(client, "recording_list", uri=URI))["recordings"]
        assert found["account"]["length"]["frames"] >= 4800
        assert not found["clean"]

    agent(body)


def test_what_is_said_in_between_does_not_reach_the_wire(agent: Callable[..., None]) -> None:
    """Wrong calls of every kind, one behind the other, and the next right one is answered."""

    async def body(client: Client) -> None:
        tools = ("stream_create", "stream_stop", "save", "mark", "keep", "session_start", "session_stop", "\x1b")
        wrong = ({"uri": 1}, {"uri": "\x00"}, {"uri": "stream://a/" + "b" * 150}, {"path": "../x"}, {"": None})
        for tool in tools:
            for arguments in wrong:
                assert await error_of(client, tool, **arguments)
        for tool, example in EXAMPLES.items():
            for key in (*example, "request_id", "bogus"):
                for value in (None, True, 2**70, "", "\0", [[]], {"a": {}}):
                    result = await client.call_tool(tool, {"uri": URI, **example, key: value})
                    told = result.structured_content["error"] if result.is_error else {"code": "", "hint": "none"}
                    assert (told["code"] != "internal_error", bool(told["hint"])) == (True, True), (tool, key, value)
        assert (await call(client, "stream_status"))["streams"] == []

    agent(body)

