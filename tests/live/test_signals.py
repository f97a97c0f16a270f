"""Signals to a daemon that captures: those that would kill end it cleanly, SIGUSR1 asks how it stands."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import TIMEOUT_S, Daemon, RawClient, SourceFactory
from rig import Session

from chaos.store.info import load

URI = "stream://ending/1"


@pytest.fixture(autouse=True)
def a_hangup_counts() -> Iterator[None]:
    """Also where the tests themselves were started by nohup, whose ignored signals are inherited."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def capture(client: RawClient, device: str) -> str:
    """Starts a stream and gives its recording's path once there are frames."""
    fields = {"uri": URI, "device_identity": device, "format": {"type": "audio"}}
    client.call("device_wait", name=device, timeout_s=50)
    client.call("stream_start", **fields)
    recording = client.recording_of(URI)
    while client.event("stream_head_position", stream_uri=URI)["frame"] < 10_000:
        pass
    return recording


ENDING = ["HUP", "QUIT", "PWR", "XCPU", "USR2", "ALRM", "VTALRM", "PROF", "IO", "STKFLT", "RTMIN", "RTMAX"]


@pytest.mark.parametrize("name", ENDING)
def test_it_ends_cleanly(counting_source: SourceFactory, chaosd: Callable[..., Daemon], name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    daemon = chaosd()
    recording = capture(daemon.client, counting_source("ending", driver=True, speed=4).name)
    os.kill(daemon.pid, number)
    stopped = daemon.client.event("stream_stopped", stream_uri=URI)
    assert (stopped["clean"], stopped["lost_frames"]) == (True, 0)
    finished = load(Path(recording)).finish
    assert finished is not None
    assert finished.clean


def test_a_report_goes_to_the_log_and_capture_goes_on(counting_source: SourceFactory, daemon: Daemon) -> None:
    capture(daemon.client, counting_source("asked", driver=True, speed=4).name)
    os.kill(daemon.pid, signal.SIGUSR1)
    deadline = time.monotonic() + TIMEOUT_S
    while "report: stream://ending/1 streaming" not in daemon.log:
        assert time.monotonic() < deadline, daemon.log
        daemon.client.call("ping")
    assert "Thread 0x" in daemon.log
    assert daemon.client.call("stream_stop", uri=URI)["lost_frames"] == 0


TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def in_terminal(
    session: Session, folder: Path, how: str = ""
) -> Iterator[tuple[subprocess.Popen[bytes], RawClient, int]]:
    """A daemon whose terminal is the other end of the descriptor, and a client of it."""
    ours, theirs = pty.openpty()
    endpoints = f"ipc://{session.runtime_dir}/pty.c", f"ipc://{session.runtime_dir}/pty.e"
    chaosd = str(Path(sys.executable).with_name("chaosd"))
    options = ["--endpoint", endpoints[0], "--events", endpoints[1], "--store", str(folder / "store")]
    client = RawClient(*endpoints)
    process = subprocess.Popen(
        [sys.executable, "-c", TERMINAL, how, chaosd, *options],
        env=session.env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )
    try:
        os.close(theirs)
        client.call("ping")
        yield process, client, ours
    finally:
        client.close()
        process.kill()
        process.wait()
        os.close(ours)


def test_a_terminal_that_closes_is_a_clean_end(
    session: Session, counting_source: SourceFactory, tmp_path: Path
) -> None:
    with in_terminal(session, tmp_path) as (process, client, ours):
        recording = capture(client, counting_source("ending", driver=True, speed=4).name)
        with open(os.devnull) as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), ours)  # closes our end
        assert process.wait(TIMEOUT_S) == 0
    finished = load(Path(recording)).finish
    assert finished is not None
    assert finished.clean


def test_what_ignores_that_goes_on(session: Session, tmp_path: Path) -> None:
    """As nohup has it."""
    with in_terminal(session, tmp_path, "nohup") as (process, client, _):
        os.kill(process.pid, signal.SIGHUP)
        assert client.call("ping")["pid"] == process.pid
        assert client.call("shutdown") == {}
        assert process.wait(TIMEOUT_S) == 0


def test_storage_that_hangs_keeps_no_process(chaosd: Callable[..., Daemon], session: Session, tmp_path: Path) -> None:
    """Whatever stands in place of a journal: recovery and who asks for the recording pass it by."""
    recording = tmp_path / "store" / "recordings" / "old" / "1.zarr"
    recording.mkdir(parents=True)
    os.mkfifo(recording / "journal.jsonl")
    daemon = chaosd("--store", str(tmp_path / "store"))
    asked = [daemon.client.send("verify", uri="stream://old/1") for _ in range(5)]
    assert daemon.client.call("ping")["name"] == "chaosd"
    assert daemon.client.call("status")["store"]["error"] is None
    assert daemon.stop() == 0
    assert len(asked) == 5
