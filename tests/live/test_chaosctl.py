"""chaosctl against a chaosd that runs, as a person and as a script use it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
from harness import Daemon, RawClient, SourceFactory


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


def test_from_device_to_wav(ctl: Any, counting_source: SourceFactory, client: RawClient, tmp_path: Path) -> None:
    source = counting_source("desk-mic", description="Desk microphone", driver=True, speed=4)
    client.call("device_wait", name=source.name, timeout_s=10)
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


def test_exit_codes_tell_what_was_wrong(ctl: Any, counting_source: SourceFactory, client: RawClient) -> None:
    source = counting_source("desk-mic")
    client.call("device_wait", name=source.name, timeout_s=10)
    assert "desk-mic" in ctl("start", "stream://desk/1", "--target", "desk-mik", code=3)
    ctl("start", "stream://desk/1", "--target", "desk-mic", "--channels", "8", code=4)
    ctl("start", "stream://desk/1", "--target", "desk-mic", "--rate", "44100", code=4)
    ctl("stop", "stream://nobody/1", code=2)
    ctl("verify", "stream://nobody/1", code=6)
    ctl("start", "no uri", code=2)


def test_a_flipped_bit_is_found(ctl: Any, counting_source: SourceFactory, client: RawClient) -> None:
    source = counting_source("desk-mic", driver=True, speed=4)
    client.call("device_wait", name=source.name, timeout_s=10)
    ctl("start", "stream://desk/2", "--target", source.name)
    stopped = json.loads(ctl("stop", "stream://desk/2", "--json"))
    chunk = Path(stopped["recording"]) / "audio" / "c" / "0" / "0"
    chunk.chmod(0o644)
    raw = bytearray(chunk.read_bytes())
    raw[17] ^= 4
    chunk.write_bytes(raw)
    assert "chunk 0" in ctl("verify", "stream://desk/2", code=8) + ctl("verify", "stream://desk/2", "--json", code=8)
