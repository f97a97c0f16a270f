"""PipeWire ends and comes back, or isn't there yet: chaosd connects by itself, and each stream goes on in its take."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from harness import Daemon, RawClient, RefusedError
from rig import CountingSource, Session
from rig.counting import check

from chaos.terms.ledger import Cause

RESTARTS = int(os.environ.get("CHAOS_RESTARTS", "3"))
AUDIO = {"type": "audio"}
DEVICES = {"first": 11, "second": 12}


def plug_in(session: Session) -> dict[str, CountingSource]:
    return {name: CountingSource(session, name=name, source_id=number) for name, number in DEVICES.items()}


@pytest.fixture
def daemon(own_session: Session, tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(own_session, tmp_path) as daemon:
        yield daemon


def assert_in_pieces(stopped: dict[str, Any], source_id: int, n_restarts: int) -> None:
    """Between gaps the source's frames, each next to its neighbour; a gap for every restart."""
    samples = np.asarray(zarr.open_array(f"{stopped['recording']}/audio", mode="r")[:])
    gaps = np.asarray(zarr.open_array(f"{stopped['recording']}/gaps", mode="r")[:]).tolist()
    away = [gap for gap in gaps if gap[2] == Cause.DEVICE_AWAY]
    assert len(away) == n_restarts, gaps
    at = 0
    for first, n_frames, *_ in [*away, [samples.shape[1], 0]]:
        inner = [(gap[0] - at, gap[1]) for gap in gaps if at <= gap[0] and gap[0] + gap[1] <= first]
        found = check(samples[:, at:first], source_id, gaps=inner)
        # A follower whose own process came too late sends a cycle's frames a cycle later; none may be another's.
        assert (found.silent, found.foreign) == (0, 0), (at, found, gaps)
        assert not samples[:, first : first + n_frames].any()
        at = first + n_frames


def times_to_come_back(client: RawClient) -> list[float]:
    """Of each device: ms from its being there to its stream's streaming."""
    added: dict[str, int] = {}
    streaming: dict[str, int] = {}
    while len(streaming) < len(DEVICES):
        event = client.next_event()
        if event["type"] == "device_added":
            added[f"stream://{event['device']['name']}/1"] = event["monotonic_ns"]
        elif event["type"] == "stream_state" and event["state"] == "streaming":
            streaming[event["stream_uri"]] = event["monotonic_ns"]
    return [(at - added[uri]) / 1e6 for uri, at in streaming.items()]


def await_more(client: RawClient, uri: str, n_captured: int) -> int:
    """Waits until more frames than so many have been captured: the head also moves over what is lost."""
    while True:
        client.event("stream_head_position", stream_uri=uri)
        status = client.call("stream_status", uri=uri)
        if status["head_frame"] - status["lost_frames"] > n_captured:
            return int(status["head_frame"] - status["lost_frames"])


def test_streams_go_on_when_pipewire_is_back(own_session: Session, daemon: Daemon) -> None:
    client = daemon.client
    sources = plug_in(own_session)
    for name in DEVICES:
        client.call("device_wait", name=name, timeout_s=50)
        client.call("stream_start", uri=f"stream://{name}/1", device_identity=name, format=AUDIO, staging_seconds=5)
    settled, back_ms = (0, 0, 0), []
    captured = dict.fromkeys(DEVICES, 0)
    for restart in range(RESTARTS):
        for name in DEVICES:
            captured[name] = await_more(client, f"stream://{name}/1", captured[name])
        own_session.kill_pipewire()
        for _ in DEVICES:
            waiting = client.event("stream_state", state="waiting")
            assert "PipeWire" in waiting["reason"]
        assert client.call("status")["pipewire"]["connected"] is False
        with pytest.raises(RefusedError) as refused:
            client.call("device_list")
        assert refused.value.code == "pipewire_unavailable"
        for source in sources.values():
            source.stop()
        own_session.start_pipewire()
        sources = plug_in(own_session)
        back_ms += times_to_come_back(client)
        status = client.call("status")["pipewire"]
        assert (status["connected"], status["session_manager"]) == (True, True)
        if restart == 1:
            settled = daemon.held()
    for name in DEVICES:
        await_more(client, f"stream://{name}/1", captured[name])
    last = daemon.held_again(settled)
    for name, number in DEVICES.items():
        stopped = client.call("stream_stop", uri=f"stream://{name}/1")
        assert stopped["clean"] is True
        assert_in_pieces(stopped, number, RESTARTS)
    for source in sources.values():
        source.stop()
    print(
        f"{RESTARTS} restarts: streaming {statistics.median(back_ms):.1f} ms (median), {max(back_ms):.1f} ms (worst) "
        f"after the device is there; (fds, threads, KiB): {settled}, {last}"
    )
    assert (last[0] <= settled[0], last[1] <= settled[1]) == (True, True)
    assert last[2] <= settled[2] + 1024 + 64 * RESTARTS  # the history keeps each restart's events


def test_chaosd_may_be_there_first(own_session: Session, daemon: Daemon, tmp_path: Path) -> None:
    own_session.kill_pipewire()
    folder = tmp_path / "early"
    folder.mkdir()
    with Daemon(own_session, folder) as early:
        client = early.client
        assert client.call("status")["pipewire"]["connected"] is False
        with pytest.raises(RefusedError) as refused:
            client.call("stream_start", uri="stream://first/1", device_identity="first", format=AUDIO)
        assert refused.value.code == "pipewire_unavailable"
        started = client.call("stream_start", uri="stream://first/1", device_identity="first", format=AUDIO, wait=True)
        assert started["state"] == "waiting"
        chaosctl = str(Path(sys.executable).with_name("chaosctl"))
        ends = ("--endpoint", early.command, "--events", early.events)
        said = own_session.run(chaosctl, *ends, "start", "stream://first/2", "--target", "first", "--wait", "--json")
        assert json.loads(said)["state"] == "waiting"
        own_session.start_pipewire()
        with CountingSource(own_session, name="first", source_id=DEVICES["first"]):
            client.event("stream_state", stream_uri="stream://first/1", state="streaming")
            client.event("stream_head_position", stream_uri="stream://first/1")
            while client.call("stream_status", uri="stream://first/2")["state"] != "streaming":
                client.event("stream_head_position")
            client.call("stream_stop", uri="stream://first/2")
            stopped = client.call("stream_stop", uri="stream://first/1")
        assert_in_pieces(stopped, DEVICES["first"], 0)


def test_a_pipewire_that_dies_while_chaosd_connects_harms_nothing(own_session: Session, daemon: Daemon) -> None:
    client = daemon.client
    own_session.kill_pipewire()
    while client.call("status")["pipewire"]["connected"]:  # the first events may come before we are subscribed
        pass
    for turn in range(12):
        short_lived = own_session.spawn("pipewire", "-c", str(own_session.root / "pipewire.conf"), log="short")
        socket_path = own_session.runtime_dir / "pipewire-0"
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
            while probe.connect_ex(str(socket_path)):
                assert short_lived.poll() is None
        if turn % 2:
            client.event("device_added")
        short_lived.kill()
        own_session.end(short_lived)
        if turn % 2:
            client.event("device_removed")
            assert client.call("status")["pipewire"]["connected"] is False
        if turn == 3:
            settled = daemon.held()
    last = daemon.held_again(settled)
    assert (last[0] <= settled[0], last[1] <= settled[1]) == (True, True)
    own_session.start_pipewire()
    assert client.call("device_wait", name="virtual-mic", timeout_s=50)["device"]["format"]["channels"] == 2
