"""Many daemons asked side by side: a line for each, also for one that is away, and the others answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from freeports import free_port
from scripted import ScriptedDaemon

import chaos.aio
from chaos.cli.main import main
from chaos.client import Client, DaemonUnreachable
from chaos.hosts import Hosts
from chaos.system.keys import Keys
from chaos.terms.errors import ChaosError, InvalidRequest, StreamNotFound


class Site:
    """Two rigs that answer, and one that is away; all as ports of this machine."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        recorder, self.laptop = Keys(folder / "recorder"), Keys(folder / "config" / "chaos" / "keys")
        public = recorder.make().public
        recorder.add("laptop", self.laptop.make().public)
        self.laptop.add("127.0.0.1", public, is_host=True)
        self.hosts = [f"127.0.0.1:{free_port()}" for _ in range(3)]
        self.rigs = []
        for number, host in enumerate(self.hosts[:2]):
            place = folder / f"rig{number}"
            place.mkdir()
            daemon = ScriptedDaemon(place, endpoint=f"tcp://{host}", keys=recorder.folder)
            self.rigs.append(stack.enter_context(daemon))

    def script(self, op: str, *answers: Any) -> None:
        for rig, answer in zip(self.rigs, answers, strict=True):
            rig.script[op] = answer

    def run(self, *words: str, n: int = 3) -> Result:
        return CliRunner().invoke(main, ["--host", ",".join(self.hosts[:n]), *words])


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


def stream(uri: str, state: str = "streaming", lost_frames: int = 0) -> dict[str, Any]:
    return {"uri": uri, "state": state, "lost_frames": lost_frames}


def lines_of(done: Result) -> dict[str, str]:
    head, *lines = done.stdout.splitlines()
    assert head.split()[0] == "host"
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}


def test_status_is_a_line_for_each_host(site: Site) -> None:
    site.script("status", {"streams": [stream("stream://a/1", lost_frames=7)]}, {"streams": []})
    done = site.run("status")
    lines = lines_of(done)
    assert list(lines) == site.hosts
    assert "stream://a/1 streaming" in lines[site.hosts[0]]
    assert "7 frames lost" in lines[site.hosts[0]]
    assert "no stream runs" in lines[site.hosts[1]]
    assert "no chaosd answers" in lines[site.hosts[2]]
    assert "chaosctl keys list" in done.stderr
    assert done.exit_code == 7
    assert site.run("status", n=2).exit_code == 0


def test_list_says_how_much_each_has(site: Site) -> None:
    one = {"uri": "stream://a/2", "n_bytes": 2048, "lost_frames": 3, "started_utc": "2026-11-26T12:00:00Z"}
    site.script("recording_list", {"recordings": [one, {**one, "uri": "stream://a/1"}]}, {"recordings": []})
    lines = lines_of(site.run("list", "--limit", "2", n=2))
    first, second = lines[site.hosts[0]], lines[site.hosts[1]]
    assert first.startswith("the newest 2 recordings")
    assert "6 frames lost" in first
    assert "stream://a/2 2026-11-26T12:00:00Z" in first
    assert second.startswith("0 recordings")
    assert lines_of(site.run("list", "--all", n=2))[site.hosts[0]].startswith("2 recordings")


def test_mark_and_stop_take_the_only_stream_of_each(site: Site) -> None:
    site.script("stream_list", *({"streams": [stream(f"stream://{rig}/1"), stream("stream://x/0", "stopped")]}
                                 for rig in "ab"))  # fmt: skip
    site.script("mark", *(lambda asked: {"uri": asked.uri, "recording": "", "frame": 5, "label": asked.label},) * 2)
    lines = lines_of(site.run("mark", "verse", n=2))
    assert lines[site.hosts[0]] == "stream://a/1: frame 5 is marked 'verse'"
    assert lines[site.hosts[1]] == "stream://b/1: frame 5 is marked 'verse'"
    site.script("stream_stop", *(lambda asked, lost=lost: {"uri": asked.uri, "clean": True, "n_frames": 9,
                                                           "lost_frames": lost} for lost in (0, 4)))  # fmt: skip
    done = site.run("stop", "--strict", n=2)
    assert done.exit_code == 5
    assert "none lost" in lines_of(done)[site.hosts[0]]
    assert "4 frames lost" in lines_of(done)[site.hosts[1]]
    assert site.run("stop", n=2).exit_code == 0


def test_what_one_refuses_the_others_do(site: Site) -> None:
    site.script("stream_list", {"streams": []}, {"streams": [stream("stream://b/1"), stream("stream://b/2")]})
    done = site.run("stop", "--json", n=2)
    first, second = json.loads(done.stdout)["hosts"]
    assert (first["host"], first["error"]["code"]) == (site.hosts[0], "stream_not_found")
    assert "stream://b/1, stream://b/2" in second["error"]["message"]
    site.script("stream_stop", StreamNotFound("no such stream"), {"uri": "stream://b/1", "clean": True, "n_frames": 1,
                                                                  "lost_frames": 0})  # fmt: skip
    lines = lines_of(site.run("stop", "stream://b/1", n=2))
    assert lines[site.hosts[0]] == "no such stream"
    assert lines[site.hosts[1]].startswith("stream://b/1 stopped")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("devices",), "devices takes one host"), (("status", "--watch"), "--watch"),
        (("mark", "x", "--at", "5"), "--at"), (("list", "--running"), "--running"),
        (("list", "s3://bucket/x"), "object store"),
    ],
)  # fmt: skip
def test_what_takes_one_host_says_so(site: Site, words: tuple[str, ...], said: str) -> None:
    done = site.run(*words)
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("hosts", ["a,,b", "a,", ",", "a,a"])
def test_hosts_are_named_once_each(hosts: str) -> None:
    done = CliRunner().invoke(main, ["--host", hosts, "status"])
    assert done.exit_code == 2


def test_from_python(site: Site) -> None:
    site.script("status", {"streams": []}, InvalidRequest("not today"))
    with Hosts(site.hosts[:2], timeout_s=60) as many, Hosts(site.hosts[2:], timeout_s=0.1) as few:
        good, refused = many.call("status").values()
        assert good == {"streams": []}
        assert isinstance(refused, InvalidRequest)
        (absent,) = few.call("status").values()
        assert isinstance(absent, DaemonUnreachable)
        assert many.each(_ping) == dict.fromkeys(site.hosts[:2], "chaosd")

        def broken(chaosd: Client) -> int:
            raise RuntimeError("a fault of the caller's")

        with pytest.raises(RuntimeError):
            many.each(broken)

    async def told(hosts: list[str], timeout_s: float) -> list[dict[str, Any] | ChaosError]:
        async with chaos.aio.Hosts(hosts, timeout_s=timeout_s) as rigs:
            return list((await rigs.call("status")).values())

    assert list(map(type, asyncio.run(told(site.hosts[:2], 60)))) == [dict, InvalidRequest]
    assert list(map(type, asyncio.run(told(site.hosts[2:], 0.1)))) == [DaemonUnreachable]


def _ping(chaosd: Client) -> str:
    return str(chaosd.call("ping")["name"])


def test_one_host_in_two_spellings_is_refused() -> None:
    for many in (Hosts, chaos.aio.Hosts):
        with pytest.raises(InvalidRequest, match="rig and RIG:47800 are the same host"):
            many(["rig", "RIG:47800"])
