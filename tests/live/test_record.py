"""`chaosctl record`: one line from device to file, with chaosd and without; each frame is looked at."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from harness import Daemon, RawClient, SourceFactory
from rig import Session

from chaos.store.store import Store
from chaos.store.verify import verify

RATE = 48_000
COMMAND = str(Path(sys.executable).with_name("chaosctl"))
METER = rb"(?<=\x1b\[K)\d+:\d\d:\d\d[^\r]*?\[[-#|]+\][^\r]*"


@pytest.fixture
def alone(session: Session, tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who runs no chaosd."""
    nowhere = {"CHAOS_ENDPOINT": f"ipc://{tmp_path}/none.c", "CHAOS_EVENTS": f"ipc://{tmp_path}/none.e"}
    return {**os.environ, **session.env, **nowhere, "CHAOS_STORE": str(tmp_path / "store")}


def record(env: dict[str, str], folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [COMMAND, "record", *arguments],
        env=env,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr.decode()
    return done


def test_without_a_daemon_it_records_by_itself(
    alone: dict[str, str], counting_source: SourceFactory, tmp_path: Path
) -> None:
    source = counting_source("solo", description="Solo desk", driver=True, speed=4)
    done = record(alone, tmp_path, "Solo", "take.wav", "--for", "2s", "--strict", "--json")
    told: dict[str, Any] = json.loads(done.stdout)
    assert (told["clean"], told["lost_frames"]) == (True, 0)
    assert told["n_frames"] >= told["file"]["n_frames"] == 2 * RATE
    heard = told["signal"]
    assert (heard["frame"], heard["n_not_finite"], heard["silent_since_frame"]) == (told["n_frames"], 0, None)
    assert heard["channels"][0]["peak_dbfs"] <= 0
    samples, rate = soundfile.read(tmp_path / "take.wav", dtype="float32")
    assert (samples.shape, rate) == ((2 * RATE, 2), RATE)
    found = source.check(samples.T)
    assert found.ok, found
    report = verify(Store(tmp_path / "store").path(told["uri"]))
    assert (report.ok, report.lost_frames) == (True, 0)
    assert b"Ctrl-C" in done.stderr


def test_devices_are_listed_and_watched_without_a_daemon(
    alone: dict[str, str], counting_source: SourceFactory, tmp_path: Path
) -> None:
    counting_source("listed", description="Listed desk", driver=True)
    done = subprocess.run(
        [COMMAND, "devices", "--all", "--json"], env=alone, capture_output=True, timeout=60, check=True
    )
    assert "Listed desk" in [each["description"] for each in json.loads(done.stdout)["devices"]]
    watch = ["env", "--default-signal=INT", COMMAND, "devices", "--watch"]  # a shell's background job ignores it
    with subprocess.Popen(watch, env=alone, stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        try:
            while b"Listed desk" not in (line := watching.stdout.readline()):
                assert line
        finally:
            watching.send_signal(signal.SIGINT)
        watching.stdout.read()  # it may still write a line, and would end by a closed pipe
    assert watching.returncode == 0
    assert not (tmp_path / "store").exists()


def test_status_names_what_is_recorded_without_a_daemon(
    alone: dict[str, str], counting_source: SourceFactory, tmp_path: Path
) -> None:
    counting_source("unseen", description="Unseen desk", driver=True)
    command = [COMMAND, "record", "Unseen", "take.wav"]
    recording = subprocess.Popen(
        command, env=alone, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        assert recording.stderr is not None
        while b"streaming: Unseen desk" not in (line := recording.stderr.readline()):
            assert line.startswith(b"recovery: "), "what an earlier test has left may be told first"
        asked = [COMMAND, "status"]
        done = subprocess.run(asked, env=alone, capture_output=True, text=True, timeout=60, check=False)
        told = subprocess.run([*asked, "--json"], env=alone, capture_output=True, timeout=60, check=False)
    finally:
        recording.send_signal(signal.SIGINT)
        recording.communicate(timeout=60)
    assert (done.returncode, told.returncode) == (7, 7)
    assert f"process {recording.pid}: stream://unseen-desk/" in done.stdout
    assert "Unseen desk" in done.stdout
    [found] = json.loads(told.stdout)["error"]["details"]["captures"]
    assert (found["pid"], found["store"], found["lost_frames"]) == (recording.pid, str(tmp_path / "store"), 0)
    after = subprocess.run(asked, env=alone, capture_output=True, text=True, timeout=60, check=False)
    assert (after.returncode, after.stdout) == (7, "")


def test_the_daemon_that_runs_does_it(
    daemon: Daemon, client: RawClient, counting_source: SourceFactory, tmp_path: Path
) -> None:
    source = counting_source("desk", description="Big desk", driver=True, speed=4)
    client.call("device_wait", name=source.name, timeout_s=50)
    env = {**os.environ, **daemon.session.env, "CHAOS_ENDPOINT": daemon.command, "CHAOS_EVENTS": daemon.events}
    said = record(env, tmp_path, source.name, "--for", "1s").stdout.decode()
    [file] = tmp_path.glob("*.wav")
    assert file.name.startswith("big-desk-")
    assert said.startswith(f"{file.name}: 0:00:01.000 (48000 frames), 0 gaps, 0 frames lost, hash ")
    found = source.check(soundfile.read(file, dtype="float32")[0].T)
    assert found.ok, found
    assert client.call("stream_list")["streams"] == []
    assert len(client.call("recording_list")["recordings"]) == 1


def test_ctrl_c_ends_it_and_the_file_is_there(
    alone: dict[str, str], counting_source: SourceFactory, tmp_path: Path
) -> None:
    source = counting_source("solo", driver=True, speed=4)
    running = subprocess.Popen(
        [COMMAND, "record", source.name, "-", "--strict"],
        env=alone,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdout is not None
    assert running.stderr is not None
    begin = running.stdout.read(RATE * 8)
    running.send_signal(signal.SIGINT)
    rest, said = running.stdout.read(), running.stderr.read()  # `communicate` would miss what is buffered already
    assert running.wait(60) == 0, said.decode()
    running.stdout.close()
    running.stderr.close()
    samples = np.frombuffer(begin + rest, "<f4").reshape(-1, 2)
    found = source.check(samples.T)
    assert found.ok, found
    assert f"({len(samples)} frames)".encode() in said


def test_a_reader_that_has_enough_ends_it_and_the_recording_is_there(
    alone: dict[str, str], counting_source: SourceFactory, tmp_path: Path
) -> None:
    source = counting_source("solo", driver=True, speed=4)
    line = f"set -o pipefail; {COMMAND} record {source.name} - | head -c 80000; echo $? > code"
    done = subprocess.run(["bash", "-c", line], env=alone, cwd=tmp_path, capture_output=True, timeout=60, check=True)
    found = source.check(np.frombuffer(done.stdout, "<f4").reshape(-1, 2).T)
    assert (found.ok, found.n_frames) == (True, 10_000)
    why, there, how = done.stderr.decode().splitlines()[-3:]
    assert why.startswith("standard output is closed, which ended the recording: 0:00:")
    assert why.endswith(" frames), 0 gaps, 0 frames lost")
    assert there.startswith("the recording is there: stream://solo/")
    uri = there.rpartition(" ")[2]
    assert how == f"  save it with: chaosctl save {uri} FILE"
    report = verify(Store(tmp_path / "store").path(uri))
    assert (report.ok, report.clean, report.n_frames >= 10_000) == (True, True, True)
    assert (tmp_path / "code").read_text() == "141\n", "as of any command whose reader has gone"


def test_a_pipe_of_so_many_seconds_has_so_many(
    alone: dict[str, str], counting_source: SourceFactory, tmp_path: Path
) -> None:
    source = counting_source("solo", driver=True, speed=4)
    done = record(alone, tmp_path, source.name, "-", "--for", "1s")
    samples = done.stdout
    assert len(samples) == RATE * 8
    assert b"-: 0:00:01.000 (48000 frames), 0 gaps, 0 frames lost" in done.stderr
    found = source.check(np.frombuffer(samples, "<f4").reshape(-1, 2).T)
    assert found.ok, found


def test_where_the_file_fails_the_recording_is_there(
    alone: dict[str, str], counting_source: SourceFactory, tmp_path: Path
) -> None:
    source = counting_source("solo", channels=3, driver=True, speed=4)
    done = record(alone, tmp_path, source.name, "take.opus", "--for", "1s", code=4)
    [line] = [each for each in done.stderr.decode().splitlines() if "the recording is there" in each]
    uri = line.rpartition(" ")[2]
    report = verify(Store(tmp_path / "store").path(uri))
    assert (report.ok, report.n_frames >= RATE) == (True, True)
    assert not (tmp_path / "take.opus").exists()


def test_what_is_not_there_is_said(alone: dict[str, str], session: Session, tmp_path: Path) -> None:
    assert b"no-such" in record(alone, tmp_path, "no-such", "take.wav", code=3).stderr
    assert list(tmp_path.glob("*.wav")) == []


def test_a_person_chooses_the_device_and_sees_the_meters(
    alone: dict[str, str], counting_source: SourceFactory, tmp_path: Path
) -> None:
    """On a terminal of 80 columns: the devices with numbers, a line that is kept up to date, the file at the end."""
    source = counting_source("solo", description="Solo desk", driver=True, speed=4)
    main_end, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    with subprocess.Popen(
        [COMMAND, "record"],
        env={**alone, "TERM": "xterm"},
        cwd=tmp_path,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    ) as child:
        os.close(terminal)
        shown = b""

        def read_until(pattern: bytes) -> None:
            nonlocal shown
            while re.search(pattern, shown) is None:
                shown += os.read(main_end, 65536)

        read_until(rb"Record which one.*: $")
        [line] = [each for each in shown.decode().splitlines() if "Solo desk" in each]
        os.write(main_end, line.split()[0].encode() + b"\n")
        read_until(METER)
        child.send_signal(signal.SIGINT)
        with suppress(OSError):  # EIO: the command has ended
            while block := os.read(main_end, 65536):
                shown += block
        assert child.wait(60) == 0, shown.decode()
    os.close(main_end)
    text = shown.decode()
    assert ": Solo desk, Ctrl-C ends it" in text
    assert all(len(found.group()) < 80 for found in re.finditer(METER, shown)), text
    [file] = tmp_path.glob("solo-desk-*.wav")
    samples = soundfile.read(file, dtype="float32")[0].T
    assert f"({samples.shape[-1]} frames)" in " ".join(text[text.index(f"{file.name}: ") :].split()), text
    found = source.check(samples)
    assert found.ok, found


def test_where_nothing_can_be_told_it_records_all_the_same(
    daemon: Daemon, client: RawClient, counting_source: SourceFactory, tmp_path: Path
) -> None:
    source = counting_source("mute", driver=True, speed=4)
    client.call("device_wait", name=source.name, timeout_s=50)
    env = {**os.environ, **daemon.session.env, "CHAOS_ENDPOINT": daemon.command, "CHAOS_EVENTS": daemon.events}
    words = [COMMAND, "record", source.name, "take.wav", "--for", "1s"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            words, env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=full, timeout=60,
            check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout.split(b",")[0]) == (0, b"take.wav: 0:00:01.000 (48000 frames)")
    assert soundfile.info(tmp_path / "take.wav").frames == RATE
    assert client.call("stream_list")["streams"] == []


@pytest.mark.parametrize("hears", [True, False], ids=["SIGHUP", "nohup"])
def test_where_the_terminal_is_closed_the_file_is_written(
    hears: bool, daemon: Daemon, client: RawClient, counting_source: SourceFactory, tmp_path: Path
) -> None:
    source = counting_source("mute", driver=True, speed=4)
    client.call("device_wait", name=source.name, timeout_s=50)
    env = {**os.environ, **daemon.session.env, "CHAOS_ENDPOINT": daemon.command, "CHAOS_EVENTS": daemon.events}
    main_end, terminal = pty.openpty()
    length = [] if hears else ["--for", "3s"]
    words = [COMMAND, "record", source.name, "take.wav", *length]
    with subprocess.Popen(
        words, env={**env, "TERM": "xterm"}, cwd=tmp_path, stdin=terminal, stdout=terminal, stderr=terminal
    ) as child:
        os.close(terminal)
        shown = b""
        while re.search(METER, shown) is None:
            shown += os.read(main_end, 65536)
        os.close(main_end)
        if hears:
            child.send_signal(signal.SIGHUP)
        assert child.wait(60) == 6, "its last line could not be written"
    samples = soundfile.read(tmp_path / "take.wav", dtype="float32")[0].T
    assert samples.shape[-1] > 0 if hears else samples.shape[-1] == 3 * RATE
    found = source.check(samples)
    assert found.ok, found
    assert client.call("stream_list")["streams"] == []


def test_those_that_begin_in_the_same_second_have_names_of_their_own(
    alone: dict[str, str], counting_source: SourceFactory, tmp_path: Path
) -> None:
    source = counting_source("many", description="Many hands", driver=True, speed=4)
    at_once(alone, source.name, tmp_path)


def test_they_have_with_chaosd_too(
    daemon: Daemon, client: RawClient, counting_source: SourceFactory, tmp_path: Path
) -> None:
    source = counting_source("many", description="Many hands", driver=True, speed=4)
    client.call("device_wait", name=source.name, timeout_s=50)
    env = {**os.environ, **daemon.session.env, "CHAOS_ENDPOINT": daemon.command, "CHAOS_EVENTS": daemon.events}
    at_once(env, source.name, tmp_path)


def at_once(env: dict[str, str], device: str, folder: Path) -> None:
    """Three that record it into files: each is there, whole, and its owner's as other files are."""
    running = [
        subprocess.Popen(
            [COMMAND, "record", device, f"{k}.wav", "--for", "1s", "--json"],
            env=env,
            cwd=folder,
            umask=0o022,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for k in range(3)
    ]
    ended = [(*each.communicate(timeout=60), each.returncode) for each in running]
    assert [code for _, _, code in ended] == [0, 0, 0], ended
    assert len({json.loads(said)["uri"] for said, _, _ in ended}) == 3
    for k in range(3):
        assert soundfile.info(folder / f"{k}.wav").frames == RATE
        assert (folder / f"{k}.wav").stat().st_mode & 0o777 == 0o644
