"""`chaosctl doctor` on machines that lack one thing or another; what it says is compared with what is so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Daemon, SourceFactory, is_pipewire_from
from rig import Session

COMMAND = str(Path(sys.executable).with_name("chaosctl"))
CHECKS = {
    "device", "recording", "real-time priority", "memory lock", "session manager", "PipeWire", "capture buffers",
    "disk space", "disk speed", "clock", "open files",
}  # fmt: skip
# The default, once WirePlumber has seen it: its two seconds are over sooner than those of PipeWire's test source.
PATIENT: dict[str, Any] = {
    "description": "Patient desk", "driver": True, "speed": 4, "properties": {"priority.session": "9000"},
}  # fmt: skip

BRINGS_SILENCE = is_pipewire_from(1, 7)  # a sink that nobody plays into, there


@pytest.fixture
def env(session: Session, tmp_path: Path) -> dict[str, str]:
    """Of somebody who runs no chaosd."""
    ends = {f"CHAOS_{name.upper()}": f"ipc://{tmp_path}/{name}" for name in ("endpoint", "events")}
    return {**session.env, **ends, "CHAOS_STORE": str(tmp_path / "store")}


def doctor(env: dict[str, str], *under: str, code: set[int] = frozenset({0, 8})) -> dict[str, Any]:  # type: ignore[assignment]
    """What it says in JSON. Whether the machine that tests has a clock that is set, say, is its own affair."""
    done = subprocess.run(
        [*under, COMMAND, "doctor", "--json"], env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode in code, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["ok"] == all(each["state"] == "ok" for each in told["checks"])
    assert all(each["command"] for each in told["checks"] if each["state"] == "missing"), told
    return told


def states(told: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["state"] for each in told["checks"]}


def test_without_a_daemon_it_records_by_itself_and_leaves_nothing(
    env: dict[str, str], counting_source: SourceFactory, tmp_path: Path
) -> None:
    counting_source("patient", channels=1, **PATIENT)
    told = doctor(env)
    assert not told["chaosd_runs"]
    account = told["account"]
    if not account["is_test_source"]:
        assert (account["device"], account["channels"]) == ("Patient desk", 1)
    assert (account["verified"], account["lost_frames"], account["n_gaps"]) == (True, 0, 0)
    assert account["n_frames"] >= 2 * account["sample_rate"]
    assert states(told).keys() >= CHECKS
    assert states(told)["recording"] == "ok"
    assert list(tmp_path.iterdir()) == []


def test_with_a_daemon_it_asks_that_one_and_deletes_the_trial(
    daemon: Daemon, counting_source: SourceFactory, env: dict[str, str]
) -> None:
    source = counting_source("patient", **PATIENT)
    daemon.client.call("device_wait", name=source.name, timeout_s=50)
    told = doctor({**env, "CHAOS_ENDPOINT": daemon.command, "CHAOS_EVENTS": daemon.events})
    assert told["chaosd_runs"]
    assert told["account"]["verified"]
    assert states(told).keys() >= CHECKS
    assert daemon.client.call("stream_list")["streams"] == []
    assert daemon.client.call("recording_list")["recordings"] == []


def test_a_device_that_brings_nothing_is_told_and_the_test_source_recorded(env: dict[str, str]) -> None:
    """There is only the virtual microphone, which nobody plays into."""
    told = doctor(env, code={0, 5, 8} if BRINGS_SILENCE else {5, 8})
    if BRINGS_SILENCE:
        assert (told["account"]["device"], told["account"]["peak_dbfs"]) == ("Virtual microphone", None)
        return
    device = next(each for each in told["checks"] if each["name"] == "device")
    assert device["state"] == "missing"
    assert device["text"].startswith("Virtual microphone brought nothing: ")
    account, recording = told["account"], states(told)["recording"]
    if account is None:  # a machine so busy that the test source stopped each time
        assert recording == "unchecked"
        return
    assert (account["device"], account["verified"]) == ("PipeWire test source", True)
    assert account["peak_dbfs"] > -1
    # Cycles that a busy machine misses are lost, and said to be; the source's own end is no loss.
    assert (recording == "ok") == (account["lost_frames"] == account["n_gaps"] == 0)
    assert account["n_frames"] - account["unsettled_frames"] - account["lost_frames"] > 48_000


def test_without_pipewire_nothing_is_called_well(env: dict[str, str], tmp_path: Path) -> None:
    told = doctor({**env, "XDG_RUNTIME_DIR": str(tmp_path)}, code={8})
    assert (told["ok"], told["account"]) == (False, None)
    found = states(told)
    assert found["PipeWire"] == "missing"
    for name in ("recording", "real-time priority", "memory lock", "session manager"):
        assert found[name] == "unchecked"
    done = subprocess.run(
        [COMMAND, "doctor"], env={**env, "XDG_RUNTIME_DIR": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[0] == "nothing was recorded"
    assert "not checked: recording: needs PipeWire" in done.stdout


def test_what_the_machine_lacks_is_found(env: dict[str, str], counting_source: SourceFactory) -> None:
    """Few files and no locked memory, of the very process that records."""
    counting_source("patient", **PATIENT)
    told = doctor(env, "prlimit", "--memlock=65536", "--nofile=1024", code={0, 5, 8})
    found = {each["name"]: each for each in told["checks"]}
    assert found["open files"]["state"] == "missing"
    assert "nofile" in found["open files"]["command"]
    if os.geteuid():  # root may lock as much as it likes
        assert found["memory lock"]["state"] == "missing"
        assert "memlock" in found["memory lock"]["command"]


def test_buffers_on_a_disk_are_found(
    chaosd: Callable[..., Daemon], env: dict[str, str], counting_source: SourceFactory
) -> None:
    counting_source("patient", **PATIENT)
    daemon = chaosd("--staging-dir", str(Path.cwd() / f".doctor-{os.getpid()}"))
    try:
        told = doctor({**env, "CHAOS_ENDPOINT": daemon.command, "CHAOS_EVENTS": daemon.events}, code={0, 5, 8})
    finally:
        daemon.stop()
        (Path.cwd() / f".doctor-{os.getpid()}").rmdir()
    found = {each["name"]: each for each in told["checks"]}
    assert found["capture buffers"]["state"] == "missing"
    assert "--staging-dir /dev/shm" in found["capture buffers"]["command"]
