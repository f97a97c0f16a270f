"""`kill -9` of chaosd at random moments: no committed frame is lost or doubled, and the gap is as long as it was.

CHAOS_KILLS says how many times (5).
"""

from __future__ import annotations

import itertools
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from harness import Daemon, RefusedError
from rig import CountingSource, MidiSource, Session, modulus, random_tune

import chaos
from chaos.staging.reader import StagingReader
from chaos.store.info import RecordingInfo, load
from chaos.store.verify import verify
from chaos.terms.ledger import Cause

KILLS = int(os.environ.get("CHAOS_KILLS", "5"))
QUANTUM = 1024
RATE = 48000


def capture_and_kill(daemon: Daemon, devices: list[str], take: int, chance: random.Random) -> dict[str, int]:
    """Starts a stream of each device and kills the daemon at some moment; the frames committed, by URI."""
    for number, device in enumerate(devices):
        size = chance.choice([8192, 65536, 1 << 20])
        daemon.client.call("device_wait", name=device, timeout_s=50)
        daemon.client.call(
            "stream_start",
            uri=f"stream://device-{number}/{take}",
            device_identity=device,
            format={"type": "audio"},
            chunk_size_bytes=size,
        )
    time.sleep(chance.uniform(0, 0.8))  # the fault comes at any moment
    daemon.kill()
    heads = {}
    for path in (daemon.session.runtime_dir / "slots").glob("*.staging"):
        with StagingReader(path) as staging:
            heads[staging.uri] = staging.head_frame
    return heads


def recovered(daemon: Daemon) -> dict[str, dict[str, Any]]:
    """What the restarted daemon tells of each stream. It starts none before it has recovered."""
    with pytest.raises(RefusedError):
        daemon.client.call("stream_start", uri="stream://no/1", device_identity="?", format={"type": "audio"})
    told = daemon.client.call("events_since", seq=0)["events"]
    return {event["stream_uri"]: event for event in told if event["type"] == "recovery"}


def check_content(source: CountingSource, info: RecordingInfo) -> None:
    group: Any = zarr.open_group(info.path, mode="r")
    gaps = [(gap.first_frame, gap.n_frames) for gap in info.gaps]
    found = source.check(np.asarray(group["audio"][:]), gaps=gaps)
    assert found.ok, found
    begin = info.anchors[0]
    assert found.first == (begin.position - begin.frame) % modulus(source.channels)


def check_length(before: RecordingInfo, after: RecordingInfo) -> None:
    """The engine was down for as long as the graph's clock says, by which the next take begins."""
    last, begin = before.anchors[-1], after.anchors[0]
    n_since = before.n_frames - last.frame
    passed = (begin.monotonic_ns - last.monotonic_ns) * RATE / 1e9 - n_since
    assert abs(begin.position - last.position - n_since - passed) <= QUANTUM


def test_no_committed_frame_is_lost_or_doubled(session: Session, tmp_path: Path) -> None:
    chance = random.Random(20260131)
    session.force_quantum(QUANTUM)
    # The session's clock is even, and a second daemon that lives keeps it going meanwhile. The counting source
    # is exact; with less patience than a cycle it goes on as hardware does, whoever listens.
    for name in ("keeper", "killed"):
        (tmp_path / name).mkdir()
    with Daemon(session, tmp_path / "keeper") as keeper:
        keeper.client.call(
            "stream_start", uri="stream://keep/1", device_identity="virtual-mic", format={"type": "audio"}
        )
        options = ("--staging-dir", str(session.runtime_dir / "slots"))
        with Daemon(session, tmp_path / "killed", *options) as daemon:
            clocks: list[RecordingInfo] = []
            followed: dict[str, str] = {}
            for take in range(KILLS):
                # One for each take: a buffer that the killed one didn't take stays in the source's stream from PipeWire
                # 1.6 on, and all that comes behind it is a cycle late there.
                with CountingSource(session, channels=2, driver=True, patience_ms=20) as source:
                    heads = capture_and_kill(daemon, [source.name, "virtual-mic"], take, chance)
                daemon.start()
                told = recovered(daemon)
                assert told.keys() == heads.keys()
                for uri, event in told.items():
                    if not heads[uri]:  # it was killed before its device had brought anything
                        assert event["outcome"] == "removed"
                        continue
                    assert event["outcome"] == "recovered"
                    info = load(Path(event["recording"]))
                    assert verify(info.path).ok
                    assert (info.n_frames, info.clean) == (heads[uri], False)
                    assert event["down_frames"] > 0
                    assert {gap.cause for gap in info.gaps} <= {Cause.MISSED, Cause.NO_DATA}
                    assert info.definition.follows == followed.get(uri.rpartition("/")[0])
                    followed[uri.rpartition("/")[0]] = uri
                    if uri.startswith("stream://device-0/"):
                        check_content(source, info)
                    elif info.anchors:  # it may have been killed before its device brought anything but cycles
                        clocks.append(info)
            for before, after in itertools.pairwise(clocks):
                check_length(before, after)
    assert list((session.runtime_dir / "slots").iterdir()) == []


def test_no_committed_event_is_lost_or_doubled(session: Session, tmp_path: Path) -> None:
    """Hundreds of events a second from one device, which plays on whoever listens."""
    chance = random.Random(20260201)
    session.force_quantum(256)
    tune = random_tune(1, 200_000, 20_000_000)
    slots = session.runtime_dir / "slots"
    (tmp_path / "killed").mkdir()
    with (
        MidiSource(session, tune, name="killed-keys", speed=4, patience_ms=20) as source,
        Daemon(session, tmp_path / "killed", "--staging-dir", str(slots)) as daemon,
    ):
        first = None
        n_events = 0
        for take in range(KILLS):
            daemon.client.call("device_wait", name=source.name, timeout_s=50, format="midi")
            uri = f"stream://keys/{take}"
            daemon.client.call("stream_start", uri=uri, device_identity=source.name, format={"type": "midi"})
            first = source.play() if first is None else first  # it runs only while somebody listens
            time.sleep(chance.uniform(0, 0.8))  # the fault comes at any moment
            daemon.kill()
            (path,) = slots.glob("*.staging")
            with StagingReader(path) as staging:
                head = staging.head_frame
            daemon.start()
            told = recovered(daemon)[uri]
            if not head:
                assert told["outcome"] == "removed"
                continue
            assert verify(Path(told["recording"])).ok
            with chaos.open(Path(told["recording"])) as recording:
                assert recording.n_frames == head
                begin, gaps = recording.anchors[0], recording.gaps
                found = [(int(row.frame), row.bytes) for row in recording.events[:] if row.bytes != b"\xfe"]
            origin = first + begin.frame - begin.position
            offered = [(event.frame + origin, event.data) for event in sorted(tune) if 0 <= event.frame + origin < head]
            kept = [
                (frame, data)
                for frame, data in offered
                if not any(gap.first_frame <= frame < gap.end_frame for gap in gaps)
            ]
            assert found == kept
            n_events += len(found)
    assert n_events
    print(f"{KILLS} kills, {n_events} events stored, none lost or doubled")
