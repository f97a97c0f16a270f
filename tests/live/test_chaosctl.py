"""chaosctl against a chaosd that runs, as a person and as a script use it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import soundfile
from harness import Daemon, RawClient, SourceFactory

import chaos


@pytest.fixture
def ctl(daemon: Daemon) -> Any:
    command = str(Path(sys.executable).with_name("chaosctl"))
    env = {
        **daemon.session.env, "CHAOS_ENDPOINT": daemon.command, "CHAOS_EVENTS": daemon.events,
        "CHAOS_STORE": str(daemon.store),
    }  # fmt: skip

    def run(*arguments: str, code: int = 0) -> str:
        done = subprocess.run([command, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stdout + done.stderr

    return run


def test_start_says_that_a_device_brings_nothing(ctl: Any, client: RawClient) -> None:
    client.call("device_wait", name="virtual-mic", timeout_s=50)
    said = ctl("start", "--target", "virtual-mic")
    assert said.startswith("stalled: Virtual microphone")
    assert "the device has delivered nothing for more than a second" in said
    assert [stream["state"] for stream in json.loads(ctl("status", "--json"))["streams"]] == ["stalled"]


def test_from_device_to_wav(ctl: Any, counting_source: SourceFactory, client: RawClient, tmp_path: Path) -> None:
    source = counting_source("desk-mic", description="Desk microphone", driver=True, speed=4)
    client.call("device_wait", name=source.name, timeout_s=50)
    assert "Desk microphone" in ctl("devices")
    started = json.loads(ctl("start", "stream://desk/1", "--target", "Desk micro", "--json"))
    assert (started["uri"], started["state"]) == ("stream://desk/1", "streaming")
    while client.event("stream_head_position", stream_uri="stream://desk/1")["frame"] < 96_000:
        pass
    assert "stream://desk/1" in ctl("list")
    assert json.loads(ctl("status", "stream://desk/1", "--json"))["lost_frames"] == 0
    stopped = json.loads(ctl("stop", "stream://desk/1", "--json", "--strict"))
    assert json.loads(ctl("verify", "stream://desk/1", "--json"))["n_frames"] == stopped["n_frames"]
    ctl("save", "stream://desk/1", str(tmp_path / "last.wav"), "--last", "1s")
    samples, rate = soundfile.read(tmp_path / "last.wav", dtype="float32")
    assert (samples.shape, rate) == ((48_000, 2), 48_000)
    found = source.check(samples.T)
    assert found.ok, found


def test_a_start_tells_where_its_time_went(
    ctl: Any, counting_source: SourceFactory, client: RawClient
) -> None:
    source = counting_source("desk-mic", driver=True)
    client.call("device_wait", name=source.name, timeout_s=50)
    asked = {"device_identity": source.name, "format": {"type": "audio"}}
    assert client.call("stream_start", uri="stream://desk/1", **asked)["trace"] is None
    trace = client.call("stream_start", uri="stream://desk/2", **asked, trace=True)["trace"]
    steps = ("asked", "paths_checked", "device_found", "take_made", "node_made", "links_asked", "recording_made")
    assert [step for step in trace if step in (*steps, "answered")] == [*steps, "answered"]
    assert trace["node_made"] < trace["first_frame"] < trace["recording_made"]
    shown = ctl("start", "stream://desk/3", "--target", source.name, "--trace").splitlines()
    assert ["0.0", "ms", "asked"] in [line.split() for line in shown]
    assert shown[-1].endswith("answered")


def test_exit_codes_tell_what_was_wrong(ctl: Any, counting_source: SourceFactory, client: RawClient) -> None:
    source = counting_source("desk-mic")
    client.call("device_wait", name=source.name, timeout_s=50)
    assert "desk-mic" in ctl("start", "stream://desk/1", "--target", "desk-mik", code=3)
    ctl("start", "stream://desk/1", "--target", "desk-mic", "--channels", "8", code=4)
    ctl("start", "stream://desk/1", "--target", "desk-mic", "--rate", "44100", code=4)
    ctl("stop", "stream://nobody/1", code=2)
    ctl("verify", "stream://nobody/1", code=6)
    ctl("start", "no uri", code=2)


def test_a_flipped_bit_is_found(ctl: Any, counting_source: SourceFactory, client: RawClient) -> None:
    source = counting_source("desk-mic", driver=True, speed=4)
    client.call("device_wait", name=source.name, timeout_s=50)
    ctl("start", "stream://desk/2", "--target", source.name)
    stopped = json.loads(ctl("stop", "stream://desk/2", "--json"))
    chunk = Path(stopped["recording"]) / "audio" / "c" / "0" / "0"
    chunk.chmod(0o644)
    raw = bytearray(chunk.read_bytes())
    raw[17] ^= 4
    chunk.write_bytes(raw)
    assert "chunk 0" in ctl("verify", "stream://desk/2", code=8) + ctl("verify", "stream://desk/2", "--json", code=8)


EVIL = "Mic\x1b]0;owned\x07\x1b[2J\x1b]52;c;aGk=\x07\nrow\u202e"


def on_terminal(daemon: Daemon, *arguments: str) -> str:
    """What a command writes to a terminal of 200 columns."""
    main_end, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (50, 200))
    command = [str(Path(sys.executable).with_name("chaosctl")), *arguments]
    env = {**daemon.session.env, "CHAOS_ENDPOINT": daemon.command, "CHAOS_EVENTS": daemon.events, "TERM": "xterm"}
    with subprocess.Popen(command, env=env, stdin=terminal, stdout=terminal, stderr=terminal) as child:
        os.close(terminal)
        written = b""
        with suppress(OSError):  # EIO: the command has ended
            while block := os.read(main_end, 65536):
                written += block
        assert child.wait(60) == 0
    os.close(main_end)
    return written.decode()


def test_a_devices_name_cannot_act_on_the_terminal(
    chaosd: Callable[..., Daemon], counting_source: SourceFactory, tmp_path: Path
) -> None:
    """Any PipeWire client can choose it. Through every command that shows it, and the log."""
    daemon = chaosd("--log-level", "debug")
    source = counting_source("evil-mic", description=EVIL, driver=True)
    client = daemon.client
    client.call("device_wait", name=source.name, timeout_s=50)
    assert client.call("device_find", name=source.name)["device"]["description"] == EVIL
    shown = [on_terminal(daemon, "devices")]
    shown.append(on_terminal(daemon, "start", "stream://evil/1", "--target", source.name))
    shown += [on_terminal(daemon, *command) for command in (["status"], ["status", "stream://evil/1"], ["list"])]
    shown.append(on_terminal(daemon, "list", "--running"))
    shown.append(on_terminal(daemon, "stop", "stream://evil/1"))
    for text in [*shown, daemon.log]:
        assert "\x1b]" not in text, text
        assert "\x1b[2J" not in text, text
        assert "\u202e" not in text, text
        assert "\nrow" not in text, text
    assert all("\\x1b]0;owned" in text for text in shown[:-1]), shown
    path = tmp_path / "evil.wav"
    on_terminal(daemon, "save", "stream://evil/1", str(path))
    header, _, _ = path.read_bytes().partition(b"data")  # samples may have any byte
    assert b"evil" in header
    assert b"\x1b" not in header


def test_a_mark_in_a_running_stream(
    ctl: Any, counting_source: SourceFactory, client: RawClient, tmp_path: Path
) -> None:
    source = counting_source("desk-mic", driver=True, speed=4)
    client.call("device_wait", name=source.name, timeout_s=50)
    ctl("start", "stream://desk/3", "--target", source.name)
    while client.event("stream_head_position", stream_uri="stream://desk/3")["frame"] < 48_000:
        pass
    marked = json.loads(ctl("mark", "verse 2", "--json"))
    event = client.event("stream_mark", stream_uri="stream://desk/3")
    assert (event["frame"], event["label"]) == (marked["frame"], "verse 2")
    assert marked["frame"] >= 48_000
    ctl("mark", "first second", "--at", "1s")
    ctl("stop")
    with chaos.open(marked["recording"]) as recording:
        assert [mark.label for mark in recording.marks] == ["first second", "verse 2"]
        assert [mark.frame for mark in recording.marks] == [48_000, marked["frame"]]
    assert "verse 2" in ctl("list", "stream://desk/3")
    ctl("save", "stream://desk/3", str(tmp_path / "o.wav"), "--labels")
    assert (tmp_path / "o.txt").read_text().startswith("1.000000000\t1.000000000\tfirst second\n")
