"""The rig itself: a private PipeWire that leaves nothing behind, and a source that others capture exactly."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from harness import SourceFactory
from rig import CountingSource, RigError, Session, check, leading_silence, modulus, tap

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.mark.parametrize("quantum", [64, 256, 1024, 8192])
@pytest.mark.parametrize("channels", [1, 2, 8, 64])
def test_every_frame_of_a_driver_is_captured(
    session: Session, counting_source: SourceFactory, channels: int, quantum: int
) -> None:
    session.force_quantum(quantum)
    source = counting_source(f"driver-{channels}", channels=channels, driver=True, speed=0)
    tapped = tap(session, source.name, channels, max(48000, 8 * quantum))
    assert tapped.missed == 0
    silent = leading_silence(tapped.samples)
    assert silent in (0, quantum)
    found = source.check(tapped.samples, first=tapped.first % modulus(channels), gaps=[(0, silent)])
    assert found.ok, found


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_pw_record_gets_the_same_bits_over_the_sessions_clock(
    session: Session, counting_source: SourceFactory, tmp_path: Path, channels: int
) -> None:
    session.force_quantum(8192)
    source = counting_source(f"follower-{channels}", channels=channels)
    wav = tmp_path / "out.wav"
    recorder = session.spawn(
        "pw-record", "--target", source.name, "--format", "f32", "--channels", str(channels), str(wav)
    )
    source.wait_for("streaming")
    tap(session, source.name, channels, 48000)
    session.end(recorder)
    samples, rate = soundfile.read(wav, dtype="float32", always_2d=True)
    assert rate == 48000
    planar = np.ascontiguousarray(samples.T)
    silent = leading_silence(planar)
    found = source.check(planar[:, silent:])
    assert found.ok, found
    assert found.n_frames >= 32768


def test_two_sources_are_told_apart(session: Session, counting_source: SourceFactory) -> None:
    one = counting_source("one", driver=True, speed=0)
    other = counting_source("other", driver=True, speed=0)
    tapped = tap(session, other.name, 2, 48000)
    samples = tapped.samples[:, leading_silence(tapped.samples) :]
    assert other.check(samples).ok
    assert not one.check(samples).ok


def test_an_impatient_driver_goes_on_without_a_stopped_follower(
    session: Session, counting_source: SourceFactory
) -> None:
    source = counting_source("impatient", driver=True, speed=50, patience_ms=5, hold=True)
    recorder = session.spawn("pw-record", "--target", source.name, "/dev/null")
    source.wait_for("streaming")
    os.kill(recorder.pid, signal.SIGSTOP)
    source.begin()
    first = tap(session, source.name, 2, 4800)
    again = tap(session, source.name, 2, 4800)
    os.kill(recorder.pid, signal.SIGCONT)
    session.end(recorder)
    assert again.first > first.first


def test_a_source_looks_like_a_microphone(session: Session, counting_source: SourceFactory) -> None:
    source = counting_source("mic", description="A counting mic", channels=2)
    node = session.await_global("Node", {"node.name": "mic"})
    assert node["id"] == source.node_id
    assert node["media.class"] == "Audio/Source"
    assert node["node.description"] == "A counting mic"
    wanted = {"node.id": str(source.node_id), "port.direction": "out"}
    for position in ("FL", "FR"):
        session.await_global("Port", {**wanted, "audio.channel": position})


def test_without_a_session_manager_the_node_has_no_ports() -> None:
    with Session(wireplumber=False) as bare, CountingSource(bare, name="bare", ports=False) as source:
        assert bare.await_global("Node", {"node.name": "bare"})["id"] == source.node_id


def test_pipewire_can_be_killed_and_comes_back(own_session: Session) -> None:
    before = own_session.pipewire_pid
    own_session.restart_pipewire()
    assert own_session.pipewire_pid != before
    with CountingSource(own_session, name="after", driver=True, speed=0) as source:
        tapped = tap(own_session, source.name, 2, 4800)
    assert check(tapped.samples[:, leading_silence(tapped.samples) :], source.source_id).ok


def test_a_source_says_that_pipewire_is_gone(own_session: Session) -> None:
    source = CountingSource(own_session, name="orphan")
    own_session.kill_pipewire()
    with pytest.raises(RigError, match="PipeWire is gone"):
        source.wait_for("streaming")


def test_what_does_not_start_says_why() -> None:
    with pytest.raises(RigError, match="no-such-factory"), Session(objects=["{ factory = no-such-factory }"]):
        pass


def test_nothing_is_left_of_a_killed_owner() -> None:
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from rig import Session\n"
        "session = Session(); session.start()\n"
        "print(session.root, session.pipewire_pid, flush=True); sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(TOOLS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    assert owner.stdin is not None
    root, pid = owner.stdout.readline().split()
    pipewire = os.pidfd_open(int(pid))
    owner.kill()
    owner.wait()
    owner.stdin.close()
    owner.stdout.close()
    ended, _, _ = select.select([pipewire], [], [], 10)
    os.close(pipewire)
    assert ended, "PipeWire outlived its owner"
    with Session():
        assert not Path(root.decode()).exists()
