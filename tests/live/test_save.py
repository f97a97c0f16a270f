"""Parts of running recordings: sliced, saved, put side by side, opened in other people's tools."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tensorstore
import xarray
import zarr
from blake3 import blake3
from harness import Daemon, RawClient, RefusedError, SourceFactory
from rig import tap
from rig.counting import decode

import chaos

RATE = 48_000
DRIVE: dict[str, Any] = {"driver": True, "speed": 4}


def start(client: RawClient, source: str, uri: str, **fields: Any) -> str:
    """The path of the recording that now runs."""
    client.call("device_wait", name=source, timeout_s=50)
    form = {"type": "audio"}
    client.call("stream_start", uri=uri, device_identity=source, format=form, **fields)
    return client.recording_of(uri)


def await_frames(client: RawClient, uri: str, n_frames: int) -> int:
    while (head := client.event("stream_head_position", stream_uri=uri)["frame"]) < n_frames:
        pass
    return int(head)


@pytest.fixture
def ctl(daemon: Daemon) -> Callable[..., bytes]:
    command = str(Path(sys.executable).with_name("chaosctl"))
    env = {**daemon.session.env, "CHAOS_ENDPOINT": daemon.command, "CHAOS_EVENTS": daemon.events}

    def run(*arguments: str | Path) -> bytes:
        done = subprocess.run([command, *arguments], env=env, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return run


def test_a_running_recording_is_sliced_without_losing_a_frame(
    counting_source: SourceFactory, daemon: Daemon, client: RawClient, tmp_path: Path
) -> None:
    uri = "stream://slice/1"
    source = counting_source("slice", **DRIVE)
    start(client, source.name, uri, chunk_size_bytes=10_000 * 8)
    await_frames(client, uri, 2 * RATE)
    part = client.call("slice", uri=uri, output="virtual", **{"from": {"frame": 12_345}, "to": {"frame": 54_321}})
    assert (part["first_frame"], part["n_frames"], part["gaps"]) == (12_345, 54_321 - 12_345, [])
    spans = [(each["first_frame"], each["n_frames"]) for each in part["chunks"]]
    assert spans == [(12_345, 7_655), (20_000, 10_000), (30_000, 10_000), (40_000, 10_000), (50_000, 4_321)]
    for each in part["chunks"]:
        stored = daemon.store / "objects" / each["hash"][:2] / each["hash"][2:]
        assert blake3(stored.read_bytes()).hexdigest() == each["hash"]
    whole = {"from": "start", "to": "head"}
    newest = client.call("slice", uri=uri, output="virtual", **whole)
    assert sum(each["n_frames"] for each in newest["chunks"]) == newest["n_frames"]
    last = client.call("slice", uri=uri, output="materialize", **{"from": {"seconds_ago": 1}, "to": "head"})
    assert (last["n_frames"], last["is_exact"], last["lost_frames"]) == (RATE, True, 0)
    samples, _ = soundfile.read(last["path"], dtype="float32")
    found = source.check(samples.T)
    assert found.ok, found
    outside = tmp_path / "outside.wav"
    for path in (last["path"], str(outside)):
        with pytest.raises(RefusedError) as refused:
            client.call("slice", uri=uri, output="materialize", path=path, **whole)
        assert refused.value.code == "path_not_allowed"
    assert not outside.exists()
    with pytest.raises(RefusedError) as refused:
        client.call("slice", uri=uri, output="virtual", **{"from": "start", "to": {"frame": 1 << 40}})
    assert refused.value.code == "invalid_range"
    assert "numpy" not in Path(f"/proc/{daemon.pid}/maps").read_text()
    assert client.call("stream_stop", uri=uri)["lost_frames"] == 0


def test_the_last_second_of_a_running_recording_goes_into_a_pipe(
    counting_source: SourceFactory, client: RawClient, ctl: Callable[..., bytes]
) -> None:
    uri = "stream://pipe/1"
    source = counting_source("pipe", channels=8, **DRIVE)
    start(client, source.name, uri)
    await_frames(client, uri, RATE + 1000)
    samples = np.frombuffer(ctl("save", uri, "-", "--last", "1s"), "<f4").reshape(-1, 8)
    found = source.check(samples.T)
    assert (found.n_frames, found.right) == (RATE, RATE), found
    client.call("stream_stop", uri=uri)


def test_two_streams_of_one_graph_are_saved_aligned_to_the_sample(
    counting_source: SourceFactory, client: RawClient, ctl: Callable[..., bytes], tmp_path: Path
) -> None:
    """The frames carry the graph's own count: side by side the same number stands in both files at each place."""
    uris = ["stream://side/early", "stream://side/late"]
    source = counting_source("side", **DRIVE)
    for uri in uris:
        start(client, source.name, uri, chunk_size_bytes=9_999 * 8)
        await_frames(client, uri, 20_000)
    reports = json.loads(ctl("save", *uris, tmp_path / "out", "--json"))
    assert [report["uri"] for report in reports] == uris
    assert {report["aligned_by"] for report in reports} == {"graph_clock"}
    assert {report["n_written"] for report in reports} == {reports[0]["n_frames"]}
    early, late = (decode(soundfile.read(each["path"], dtype="float32")[0].T, source.source_id) for each in reports)
    assert early.size >= 20_000
    assert (early >= 0).all()
    np.testing.assert_array_equal(early, late)
    for uri in uris:
        client.call("stream_stop", uri=uri)


def test_other_tools_open_it_while_it_grows(counting_source: SourceFactory, client: RawClient) -> None:
    uri = "stream://open/1"
    source = counting_source("open", channels=4, **DRIVE)
    path = start(client, source.name, uri, chunk_size_bytes=12_000 * 16)
    seen = 0
    for _ in range(4):
        await_frames(client, uri, seen + 24_001)
        dataset = xarray.open_zarr(path)
        assert dataset.attrs["state"] == "recording"
        assert dataset["audio"].chunks == ((4,), (12_000,) * (dataset.sizes["frame"] // 12_000))
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/audio/"}}
        group = zarr.open_group(path, mode="r")
        for samples in (
            dataset["audio"].values,
            np.asarray(tensorstore.open(spec, read=True).result().read().result()),
            np.asarray(group["audio"][:]),  # type: ignore[index]
        ):
            assert samples.shape[1] > seen
            found = source.check(samples)
            assert found.ok, found
        seen = dataset.sizes["frame"]
    client.call("stream_stop", uri=uri)
    assert xarray.open_zarr(path).attrs["state"] == "finished"


def test_a_gap_is_known_at_once_and_marked_in_the_file(
    counting_source: SourceFactory, daemon: Daemon, client: RawClient, ctl: Callable[..., bytes], tmp_path: Path
) -> None:
    """The engine is stopped while the device, which waits 20 ms for it, goes on: cycles are missed."""
    uri = "stream://gap/1"
    source = counting_source("gap", driver=True, patience_ms=20)
    path = start(client, source.name, uri)
    await_frames(client, uri, RATE // 2)
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        tap(daemon.session, source.name, 2, RATE // 4)  # the fault itself: it lasts until another has had so much
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    while (gap := client.event("stream_gap", stream_uri=uri))["n_frames"] is None:
        pass
    await_frames(client, uri, gap["first_frame"] + RATE)
    with chaos.open(path) as recording:
        gaps = recording.gaps
        known = [(each.first_frame, each.n_frames) for each in gaps]
        assert (gap["first_frame"], gap["n_frames"]) in known
        assert sum(n_frames for _, n_frames in known) >= RATE // 4
        found = source.check(recording[:], gaps=known)
        assert found.ok, (found, gaps)
    report = json.loads(ctl("save", uri, tmp_path / "out.wav", "--json"))
    told = subprocess.run(
        ["ffprobe", "-v", "error", "-of", "json", "-show_chapters", report["path"]], check=True, capture_output=True
    )
    chapters = [round(float(each["start_time"]) * RATE) for each in json.loads(told.stdout)["chapters"]]
    assert chapters[: len(known)] == [first for first, _ in known]
    samples = soundfile.read(report["path"], dtype="float32")[0].T
    found = source.check(samples, gaps=[(each["first_frame"], each["n_frames"]) for each in report["gaps"]])
    assert found.ok, found
    client.call("stream_stop", uri=uri)
