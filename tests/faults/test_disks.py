"""Real filesystems that fill up, die and lose their power under a live capture of the counting source.

CHAOS_CUTS says how many power cuts (2).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from disks import PowerCutDisk, small_disk
from harness import Daemon
from rig import CountingSource, Session

from chaos.staging.reader import StagingReader
from chaos.store.info import RecordingInfo, load
from chaos.store.verify import verify
from chaos.terms.ledger import Cause

CUTS = int(os.environ.get("CHAOS_CUTS", "2"))
RATE = 48000
URI = "stream://disk/1"


@pytest.fixture
def source(session: Session) -> Iterator[CountingSource]:
    session.force_quantum(1024)
    with CountingSource(session, channels=8, driver=True) as source:
        yield source


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[PowerCutDisk]:
    made = PowerCutDisk(tmp_path)
    yield made
    made.close()


def slots_folder(session: Session, tmp_path: Path) -> Path:
    """Each test has its own: a daemon that was killed leaves its slots."""
    return session.runtime_dir / f"slots-{tmp_path.name}"


def start_daemon(session: Session, tmp_path: Path, store: Path, *options: str) -> Daemon:
    folder = tmp_path / "d"
    folder.mkdir()
    slots = slots_folder(session, tmp_path)
    return Daemon(session, folder, "--staging-dir", str(slots), "--store", str(store), *options)


def start_stream(daemon: Daemon, source: CountingSource, uri: str = URI, **more: Any) -> dict[str, Any]:
    daemon.client.call("device_wait", name=source.name, timeout_s=50)
    return daemon.client.call(
        "stream_start", uri=uri, device_identity=source.name, format={"type": "audio"}, **more
    )


def check(source: CountingSource, path: Path) -> RecordingInfo:
    """All that the recording has is right, and all that it has not is told."""
    info = load(path)
    assert verify(path).bad == []
    group: Any = zarr.open_group(path, mode="r")
    gaps = [(gap.first_frame, gap.n_frames) for gap in info.gaps]
    found = source.check(np.asarray(group["audio"][:]), gaps=gaps)
    assert found.ok, found
    return info


def test_a_full_disk_costs_what_the_ledger_says(
    session: Session, source: CountingSource, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 16 << 20) as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(14 << 20))
        with start_daemon(session, tmp_path, disk / "store", "--free-margin", "2M") as daemon:
            client = daemon.client
            start_stream(daemon, source, chunk_size_bytes=256 << 10, staging_seconds=0.5)
            assert client.event("storage_low")["free_bytes"] < 2 << 20
            assert client.event("storage_full", stream_uri=URI)["error"]["code"] == "storage_full"
            client.event("stream_gap", cause="overrun", n_frames=None)
            filler.unlink()
            told: dict[str, list[dict[str, Any]]] = {"storage_restored": [], "stream_gap": []}
            while not all(told.values()):  # in whatever order: the gap ends with the first chunk that is stored
                event = client.next_event()
                if event["type"] in told and event.get("n_frames", 0) is not None:
                    told[event["type"]].append(event)
            stopped = client.call("stream_stop", uri=URI)
            assert stopped["clean"]
            info = check(source, Path(stopped["recording"]))
            # A busy machine may store what waits so slowly that there is another overrun.
            while (event := client.next_event())["type"] != "stream_stopped":
                if event["type"] == "stream_gap":
                    told["stream_gap"].append(event)
            ends = [each for each in told["stream_gap"] if each["n_frames"] is not None]
            assert [each.to_wire() for each in info.gaps] == [
                {key: gap[key] for key in ("first_frame", "n_frames", "cause", "confidence")} for gap in ends
            ]
            assert {each.cause for each in info.gaps} == {Cause.OVERRUN}
            assert stopped["lost_frames"] == sum(each.n_frames for each in info.gaps)
            assert stopped["n_frames"] > info.gaps[0].end_frame


def test_a_disk_that_comes_back_is_gone_on_with(
    session: Session, source: CountingSource, tmp_path: Path, disk: PowerCutDisk
) -> None:
    with start_daemon(session, tmp_path, disk.path) as daemon:
        client = daemon.client
        start_stream(daemon, source, chunk_size_bytes=256 << 10, staging_seconds=10)
        client.event("stream_chunk_sealed", chunk=2)
        disk.die()
        assert client.event("storage_failed", stream_uri=URI)["error"]["code"] == "storage_failed"
        disk.come_back(in_use=True)
        client.event("storage_restored", stream_uri=URI)
        stopped = client.call("stream_stop", uri=URI)
        assert (stopped["clean"], stopped["lost_frames"]) == (True, 0)
        assert check(source, Path(stopped["recording"])).gaps == []


def test_a_disk_that_hangs_holds_up_its_own_frames_alone(
    session: Session, source: CountingSource, tmp_path: Path, disk: PowerCutDisk
) -> None:
    """Commands are answered, frames wait in the slots, and what finds none is in the ledger."""
    with start_daemon(session, tmp_path, disk.path) as daemon:
        client = daemon.client
        start_stream(daemon, source, chunk_size_bytes=256 << 10, staging_seconds=3)
        client.event("stream_chunk_sealed", chunk=2)
        with disk.frozen():
            failed, gap = client.all_of(
                {"type": "storage_failed", "stream_uri": URI},
                {"type": "stream_gap", "cause": "overrun", "n_frames": None},
            )
            assert "has not answered" in failed["error"]["message"]
            first = gap["first_frame"]
            notes = client.call("stream_status", uri=URI)["notes"]
            assert any(note.startswith("storage has not answered for") for note in notes)
            assert client.call("ping")["pid"] == daemon.pid
            assert client.call("device_find", name=source.name)
            assert client.call("stream_status", uri=URI)["slots"]["free"] == 0
            assert client.call("status")["streams"]
        closed, _ = client.all_of(
            {"type": "stream_gap", "first_frame": first, "n_frames": bool},
            {"type": "storage_restored", "stream_uri": URI},
        )
        stopped = client.call("stream_stop", uri=URI)
        assert stopped["clean"]
        gaps = {gap.first_frame: gap for gap in check(source, Path(stopped["recording"])).gaps}
        assert (gaps[first].n_frames, gaps[first].cause) == (closed["n_frames"], Cause.OVERRUN)


def test_an_end_does_not_wait_for_a_disk_that_hangs_and_the_next_start_has_all_of_it(
    session: Session, source: CountingSource, tmp_path: Path, disk: PowerCutDisk
) -> None:
    """The kernel keeps the process itself until the disk answers: all that chaosd can do is to be done with it."""
    with start_daemon(session, tmp_path, disk.path, "--stop-within", "2") as daemon:
        started = start_stream(daemon, source, chunk_size_bytes=256 << 10, staging_seconds=10)
        daemon.client.event("stream_chunk_sealed", chunk=2)
        with disk.frozen():
            head = daemon.client.call("stream_status", uri=URI)["head_frame"]
            os.kill(daemon.pid, signal.SIGTERM)
            deadline = time.monotonic() + 60
            while f"left behind, with its frames in staging for the next start: {URI}" not in daemon.log:
                assert time.monotonic() < deadline, daemon.log
                os.sched_yield()
        assert daemon.stop() == 1
        daemon.start()
        daemon.client.call("stream_stop", uri=start_stream(daemon, source, "stream://probe/1")["uri"])
        info = check(source, Path(started["recording"]))
        assert info.n_frames >= head
        assert not info.gaps


def test_a_power_cut_costs_at_most_the_last_second(
    session: Session, source: CountingSource, tmp_path: Path, disk: PowerCutDisk
) -> None:
    chance = random.Random(20260131)
    with start_daemon(session, tmp_path, disk.path) as daemon:
        for cut in range(CUTS):
            uri = f"stream://cut/{cut}"
            size = chance.choice([64 << 10, 1 << 20, 16 << 20])
            started = start_stream(daemon, source, uri, chunk_size_bytes=size)
            time.sleep(chance.uniform(0.5, 3))  # the fault comes at any moment
            (slots,) = slots_folder(session, tmp_path).glob("*.staging")
            with StagingReader(slots) as staging:
                disk.die()
                head = staging.head_frame
            daemon.kill()
            slots.unlink()
            disk.come_back()
            daemon.start()
            # A stream only starts once recovery is done.
            probe = start_stream(daemon, source, f"stream://probe/{cut}")
            daemon.client.call("stream_stop", uri=probe["uri"])
            info = check(source, Path(started["recording"]))
            assert info.clean is False
            assert head - info.n_frames <= RATE
