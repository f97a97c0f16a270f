"""Standby with a real graph: the last second held in memory, then kept, with every frame at its place over the seam."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import zarr
from harness import Daemon, RawClient, RefusedError, SourceFactory
from rig import CountingSource

from chaos.store.info import load
from chaos.store.verify import verify

URI = "stream://held/1"
RATE = 48_000
CHUNK_BYTES = 65_536
CHUNK = CHUNK_BYTES // 8


def hold(client: RawClient, source: CountingSource, **more: Any) -> None:
    client.call("device_wait", name=source.name, timeout_s=50)
    started = client.call(
        "stream_start",
        uri=URI,
        device_identity=source.name,
        format={"type": "audio"},
        chunk_size_bytes=CHUNK_BYTES,
        standby_s=1.0,
        **more,
    )
    assert started["recording"] == ""


def await_frames(client: RawClient, n_frames: int) -> int:
    while (head := client.event("stream_head_position", stream_uri=URI)["frame"]) < n_frames:
        pass
    return int(head)


def recovery_of(client: RawClient) -> dict[str, Any]:
    """What a restarted daemon has told of the stream, before events reached this client; it starts none before that."""
    with pytest.raises(RefusedError):
        client.call("stream_start", uri="stream://no/1", device_identity="?", format={"type": "audio"})
    told = client.call("events_since", seq=0)["events"]
    [recovered] = [event for event in told if event["type"] == "recovery"]
    assert recovered["stream_uri"] == URI
    return dict(recovered)


def in_store(daemon: Daemon) -> list[Path]:
    return [path for path in (daemon.store / "recordings").rglob("*") if path.is_file()]


def check(source: CountingSource, recording: str) -> None:
    """Each frame of the recording has the number that follows the one before it."""
    info = load(Path(recording))
    report = verify(info.path)
    assert (report.ok, report.clean, report.bad) == (True, True, [])
    group: Any = zarr.open_group(info.path, mode="r")
    found = source.check(np.asarray(group["audio"][:]), gaps=[(gap.first_frame, gap.n_frames) for gap in info.gaps])
    assert found.ok, found
    assert found.first > 0, "the beginning of the capture is not in it"


def test_the_last_second_is_kept_without_a_seam(
    daemon: Daemon, client: RawClient, counting_source: SourceFactory
) -> None:
    source = counting_source("held", driver=True, speed=4)
    hold(client, source)
    await_frames(client, 4 * RATE)
    assert in_store(daemon) == []
    assert client.call("stream_status", uri=URI)["standby_s"] == 1.0
    kept = client.call("stream_keep", uri=URI)
    assert kept["n_frames"] >= RATE
    started = client.event("stream_started", stream_uri=URI)
    assert started["recording"] == kept["recording"]
    assert client.call("stream_status", uri=URI)["standby_s"] is None
    await_frames(client, kept["n_frames"] + RATE)
    assert client.call("stream_keep", uri=URI)["n_frames"] == kept["n_frames"]
    stopped = client.call("stream_stop", uri=URI)
    assert stopped["clean"] is True
    assert stopped["n_frames"] >= kept["n_frames"] + RATE
    check(source, stopped["recording"])


def test_nothing_is_left_of_what_was_not_kept(
    daemon: Daemon, client: RawClient, counting_source: SourceFactory
) -> None:
    source = counting_source("held", driver=True, speed=4)
    hold(client, source)
    await_frames(client, 2 * RATE)
    stopped = client.call("stream_stop", uri=URI)
    assert (stopped["recording"], stopped["n_frames"], stopped["clean"]) == ("", 0, True)
    hold(client, source)
    await_frames(client, RATE)
    daemon.kill()
    daemon.start()
    recovered = recovery_of(client)
    assert (recovered["outcome"], recovered["recording"]) == ("removed", None)
    assert in_store(daemon) == []


def test_a_kept_recording_outlives_a_crash(daemon: Daemon, client: RawClient, counting_source: SourceFactory) -> None:
    source = counting_source("held", driver=True, speed=4)
    hold(client, source)
    await_frames(client, 3 * RATE)
    kept = client.call("stream_keep", uri=URI)
    await_frames(client, kept["n_frames"] + CHUNK // 2)
    daemon.kill()
    daemon.start()
    recovered = recovery_of(client)
    assert recovered["outcome"] == "recovered"
    assert recovered["n_frames"] >= kept["n_frames"] + CHUNK // 2
    info = load(Path(kept["recording"]))
    assert info.n_frames == recovered["n_frames"]
    assert verify(info.path).bad == []
    group: Any = zarr.open_group(info.path, mode="r")
    found = source.check(
        np.asarray(group["audio"][:]), gaps=[(gap.first_frame, gap.n_frames) for gap in info.gaps]
    )
    assert found.ok, found


def test_what_is_not_in_standby_has_nothing_to_keep(client: RawClient, counting_source: SourceFactory) -> None:
    source = counting_source("held", driver=True, speed=4)
    client.call("device_wait", name=source.name, timeout_s=50)
    client.call("stream_start", uri=URI, device_identity=source.name, format={"type": "audio"})
    with pytest.raises(RefusedError, match="from its start"):
        client.call("stream_keep", uri=URI)
    with pytest.raises(RefusedError, match="together"):
        client.call(
            "stream_start",
            uri="stream://held/2",
            device_identity=source.name,
            format={"type": "audio"},
            standby_s=5,
            roll_on_format_change=True,
        )


def test_a_musician_keeps_and_saves_without_naming_anything(
    daemon: Daemon, client: RawClient, counting_source: SourceFactory, tmp_path: Path
) -> None:
    command = str(Path(sys.executable).with_name("chaosctl"))
    env = {**daemon.session.env, "CHAOS_ENDPOINT": daemon.command, "CHAOS_EVENTS": daemon.events}
    env = {**os.environ, **env}

    def ctl(*arguments: str) -> str:
        done = subprocess.run(
            [command, *arguments], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    source = counting_source("held", description="Desk two", driver=True, speed=4)
    client.call("device_wait", name=source.name, timeout_s=50)
    said = ctl("start", URI, "--target", "Desk two", "--standby", "2s", "--chunk-size", "64k")
    assert "chaosctl keep" in said
    assert "standby" in ctl("status")
    await_frames(client, 3 * RATE)
    report = json.loads(ctl("save", "--last", "1s", "--json"))
    [saved] = tmp_path.glob("*.wav")
    assert saved.name.startswith("desk-two-")
    assert (report["n_frames"], report["missing_frames"]) == (RATE, 0)
    found = source.check(soundfile.read(saved, dtype="float32")[0].T)
    assert found.ok, found
    assert "is already kept" in ctl("keep")
    stopped = client.call("stream_stop", uri=URI)
    check(source, stopped["recording"])
