"""Uploads by a real chaosd of a real stream: what arrives, what is told of it, and what becomes of it in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from harness import Daemon, RawClient, SourceFactory
from rig import CountingSource
from uploading import copied, record, takes_in, tree

import chaos
from chaos.recorders.index import index
from chaos.store.store import Store
from chaos.store.verify import verify

URI = "stream://logger/1"
CHUNK_BYTES = 65_536


def begin(client: RawClient, source: CountingSource) -> str:
    client.call("device_wait", name=source.name, timeout_s=50)
    client.call(
        "stream_start",
        uri=URI,
        device_identity=source.name,
        format={"type": "audio"},
        chunk_size_bytes=CHUNK_BYTES,
    )
    return str(client.event("stream_started", stream_uri=URI)["recording"])


def check_is_there(url: str, recording: str, folder: Path) -> None:
    objects = tree(url)
    (take,) = takes_in(objects)
    here, there = verify(Path(recording)), verify(copied(objects, take, folder))
    assert (here.ok, there.ok, there.bad) == (True, True, [])
    assert there.recording_hash_v3 == here.recording_hash_v3
    assert there.state == "finished"


def test_a_stream_is_there_and_everybody_is_told_so(
    chaosd: Callable[..., Daemon], counting_source: SourceFactory, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/bucket"
    daemon = chaosd("--upload", url, "--upload-as", "rig1")
    client, source = daemon.client, counting_source(driver=True, speed=4)
    recording = begin(client, source)
    told = client.event("stream_uploaded", stream_uri=URI)
    assert (told["recording"], told["ended"]) == (recording, False)
    assert told["n_frames"] > 0
    status = client.call("stream_status", uri=URI)
    assert told["n_frames"] <= status["uploaded_frame"] <= status["sealed_frame"] <= status["head_frame"]
    client.call("stream_stop", uri=URI)
    command = [str(Path(sys.executable).with_name("chaosctl")), "wait", "--uploaded", URI, "--timeout", "60", "--json"]
    waited = json.loads(subprocess.run(command, env=env_of(daemon), capture_output=True, check=True).stdout)
    assert [each["is_uploaded"] for each in waited["recordings"]] == [True]
    check_is_there(url, recording, tmp_path / "copy")
    (line,) = client.call("recording_list")["recordings"]
    assert (line["uploaded_frame"], line["is_uploaded"]) == (line["n_frames"], True)
    upload = client.call("status")["upload"]
    assert upload["target"] == f"{url}/rig1"
    assert upload["n_bytes"] == line["n_bytes"]
    check_is_selected(url, recording)


def check_is_selected(url: str, recording: str) -> None:
    """The index over all has it, to the bit, and by the clock that the engine saw."""
    assert index(url).n_new == 1
    fleet = chaos.fleet(url)
    (row,) = fleet.takes().to_dict("records")
    margin = timedelta(hours=1)  # its source is faster than its clock: by that it does not end where it ended
    (take,) = fleet.select(row["start"] - margin, row["end"] + margin).leaves
    with chaos.open(Path(recording)) as here:
        assert take["audio"].shape == here.shape
        assert (take["audio"].values == here[:]).all()
        causes = np.zeros(here.n_frames, "u1")
        for gap in here.gaps:
            causes[gap.first_frame : gap.end_frame] = gap.cause
        assert (take["gap"].values == causes).all()
        anchors = [anchor for anchor in here.anchors if anchor.frame < here.n_frames]
        times = take["time"].values
        for anchor in anchors:
            assert abs(int(times[anchor.frame].astype("i8")) - anchor.wall_ns) < 2_000


def uploader_of(daemon: Daemon) -> int:
    """The process that chaosd has started for it."""
    found = set()
    for task in Path(f"/proc/{daemon.pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread may end between the listing and the look
            found |= {int(child) for child in (task / "children").read_text().split()}
    (process,) = [each for each in found if b"chaos.upload" in Path(f"/proc/{each}/cmdline").read_bytes()]
    return process


def test_a_chunk_that_can_not_go_up_is_named_to_who_waits_for_it(
    chaosd: Callable[..., Daemon], tmp_path: Path
) -> None:
    rotator = record(Store(tmp_path / "store"))
    rotator.write(64)
    rotator.stop()
    chunk = rotator.writer.path / "audio" / "c" / "0" / "1"
    whole = chunk.read_bytes()
    chunk.chmod(0o600)
    chunk.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    store, url = str(tmp_path / "store"), f"file://{tmp_path}/bucket"
    daemon = chaosd("--store", store, "--upload", url, "--upload-as", "rig1", "--keep", "1B")
    command = [str(Path(sys.executable).with_name("chaosctl")), "wait", "--uploaded", "stream://mic/take"]
    waited = subprocess.run([*command, "--timeout", "60"], env=env_of(daemon), capture_output=True, text=True)
    assert waited.returncode == 6, waited
    assert "chunk 1 of stream://mic/take" in waited.stderr
    assert "chaosctl verify stream://mic/take" in waited.stderr
    daemon.client.call("retire")
    assert chunk.exists()


def env_of(daemon: Daemon) -> dict[str, str]:
    return {**daemon.session.env, "CHAOS_ENDPOINT": daemon.command, "CHAOS_EVENTS": daemon.events}


def test_an_uploader_that_is_killed_goes_on_where_it_was(
    chaosd: Callable[..., Daemon], counting_source: SourceFactory, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/bucket"
    daemon = chaosd("--upload", url, "--upload-as", "rig1")
    client, source = daemon.client, counting_source(driver=True, speed=4)
    recording = begin(client, source)
    client.event("stream_uploaded", stream_uri=URI)
    process = uploader_of(daemon)
    assert os.getpriority(os.PRIO_PROCESS, process) == 19
    os.kill(process, signal.SIGKILL)
    client.event("upload_state", state="waiting")
    client.event("upload_state", state="idle")
    client.call("stream_stop", uri=URI)
    client.event("stream_uploaded", stream_uri=URI, ended=True)
    check_is_there(url, recording, tmp_path / "copy")


def test_what_the_store_refuses_waits_and_a_capture_does_not_notice(
    chaosd: Callable[..., Daemon], counting_source: SourceFactory, tmp_path: Path
) -> None:
    (tmp_path / "bucket").write_text("a file is in the way")
    daemon = chaosd("--upload", f"file://{tmp_path}/bucket", "--upload-as", "rig1", "--keep", "1B")
    client, source = daemon.client, counting_source(driver=True, speed=4)
    recording = begin(client, source)
    client.event("stream_chunk_sealed", stream_uri=URI, chunk=2)
    client.call("stream_stop", uri=URI)
    held: dict[str, Any] = client.call("retire")
    assert held["retired"] == []
    assert [each["reason"] for each in held["kept"]] == ["not_uploaded"]
    report = verify(Path(recording))
    assert (report.ok, report.lost_frames) == (True, 0)
    (tmp_path / "bucket").unlink()
    client.event("stream_uploaded", stream_uri=URI, ended=True)
    retired = client.call("retire")["retired"]
    assert [each["chunks"] for each in retired] == [report.n_chunks]
