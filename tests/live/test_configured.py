"""chaosd with a configuration: streams that run from the start on, come back after a crash, and are told of."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import zarr
from harness import TIMEOUT_S, Daemon, SourceFactory
from rig import Session

from chaos.store.info import load

LOGGER = '[[stream]]\nname = "logger"\ndevice = "Configured desk"\nroll = "12h"\n'
SESSION = (
    '[[session]]\nname = "jam"\n'
    '[[session.stream]]\nname = "left"\ndevice = "First desk"\n'
    '[[session.stream]]\nname = "right"\ndevice = "Second desk"\n'
)


def config(folder: Path, text: str) -> Path:
    path = folder / "chaosd.toml"
    path.write_text(text)
    return path


def test_a_configured_stream_waits_and_comes_back_as_the_next_take(
    chaosd: Callable[..., Daemon], counting_source: SourceFactory, tmp_path: Path
) -> None:
    daemon = chaosd("--config", str(config(tmp_path, LOGGER)))
    source = counting_source("configured", description="Configured desk", driver=True)
    first = daemon.client.event("stream_started")
    assert re.fullmatch(r"stream://logger/\d{8}T\d{6}Z", first["stream_uri"])
    while daemon.client.event("stream_head_position")["frame"] < 24_000:
        pass
    daemon.kill()
    daemon.start()
    second = daemon.client.event("stream_started")
    while daemon.client.event("stream_head_position", stream_uri=second["stream_uri"])["frame"] < 24_000:
        pass
    assert daemon.stop() == 0
    one, two = load(Path(first["recording"])), load(Path(second["recording"]))
    assert (two.definition.follows, one.definition.uri) == (one.definition.uri, first["stream_uri"])
    assert two.definition.away_ns
    for info in (one, two):
        found = source.check(zarr.open_array(info.path / "audio", mode="r")[:])
        assert found.ok, found
        assert info.n_frames >= 24_000
    for told in (f"{first['stream_uri']} started: Configured desk, 2 ch 48000 Hz f32", "recovered",
                 f"{second['stream_uri']} stopped: {two.n_frames} frames, 0 gaps, 0 frames lost"):  # fmt: skip
        assert told in daemon.log, daemon.log
    assert re.search(r"^chaosd: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d stream://logger/\S+ started", daemon.log, re.MULTILINE)


def test_one_that_somebody_stops_stays_stopped(
    chaosd: Callable[..., Daemon], counting_source: SourceFactory, tmp_path: Path
) -> None:
    counting_source("configured", description="Configured desk", driver=True)
    daemon = chaosd("--config", str(config(tmp_path, LOGGER)))
    uri = daemon.client.event("stream_started")["stream_uri"]
    daemon.client.call("stream_stop", uri=uri)
    other = counting_source("another", description="Another desk", driver=True)  # a device comes: a start would be due
    daemon.client.call("device_wait", name=other.name, timeout_s=TIMEOUT_S)
    daemon.client.call("stream_start", uri="stream://x/1", device_identity=other.name, format={"type": "audio"})
    assert [each["uri"] for each in daemon.client.call("stream_list")["streams"]] == ["stream://x/1"]


def test_a_start_that_is_refused_is_told_and_tried_again(
    chaosd: Callable[..., Daemon], counting_source: SourceFactory, tmp_path: Path
) -> None:
    counting_source("configured", description="Configured desk", channels=1, driver=True)
    daemon = chaosd("--config", str(config(tmp_path, f"{LOGGER}channels = 3\n")))
    refused = "logger can't start: "
    while refused not in daemon.log:
        daemon.client.call("ping")
    assert daemon.log.count(refused) == 1


def test_a_configured_session_begins_together(
    chaosd: Callable[..., Daemon], counting_source: SourceFactory, tmp_path: Path
) -> None:
    for number, name in enumerate(("First desk", "Second desk")):
        counting_source(f"member-{number}", description=name)
    daemon = chaosd("--config", str(config(tmp_path, SESSION)))
    begun = {daemon.client.event("stream_started")["stream_uri"].split("/")[2] for _ in range(2)}
    assert begun == {"left", "right"}
    [session] = daemon.client.call("session_list")["sessions"]
    assert re.fullmatch(r"jam-\d{8}T\d{6}Z", session["session"])


UNCHECKED = "whether the devices are there was not checked"


def test_a_bad_configuration_ends_it_with_the_line(session: Session, tmp_path: Path) -> None:
    path = config(tmp_path, LOGGER.replace("roll", "rol"))
    chaosd = str(Path(sys.executable).with_name("chaosd"))
    for more in ([], ["--check"]):
        done = subprocess.run(
            [chaosd, "--config", str(path), *more], env=session.env, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f'{path}:4: unknown key "rol"\n  did you mean "roll"?\n'
    path.write_text(LOGGER)
    done = subprocess.run(
        [chaosd, "--config", str(path), "--check"], env=session.env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"{path}: ok, 1 stream, 0 sessions; {UNCHECKED}\n"), done.stderr


def test_a_service_manager_is_told_and_its_watchdog_petted(
    session: Session, counting_source: SourceFactory, tmp_path: Path
) -> None:
    """As systemd does it: READY once the sockets are there, WATCHDOG again and again, STOPPING at the end."""
    counting_source("configured", description="Configured desk", driver=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address = str(session.runtime_dir / "notify")
        manager.bind(address)
        manager.settimeout(TIMEOUT_S)
        folder = tmp_path / "watched"
        folder.mkdir()
        under = ["env", f"NOTIFY_SOCKET={address}", "WATCHDOG_USEC=1000000"]
        with Daemon(session, folder, "--config", str(config(tmp_path, LOGGER)), under=under) as daemon:
            assert manager.recv(4096).decode().splitlines()[0] == "READY=1"
            daemon.client.event("stream_started")
            told = [manager.recv(4096).decode() for _ in range(3)]
            while not told[-1].endswith("STATUS=1 stream: 1 streaming"):
                told.append(manager.recv(4096).decode())
            assert all(each.startswith("WATCHDOG=1\nSTATUS=") for each in told), told
            assert daemon.stop() == 0
            while (last := manager.recv(4096).decode()) != "STOPPING=1":
                assert last.startswith("WATCHDOG=1"), last
