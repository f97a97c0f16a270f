"""A device that another one's clock drives is resampled: it is told, marked in the recording, and refused if asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import RawClient, RefusedError
from rig import FaultyDriver, Session

import chaos

URI = "stream://led/1"
GROUP = {"node.group": "one-graph"}
FIRST = {**GROUP, "priority.driver": "60000"}
AUDIO = {"type": "audio"}


@pytest.fixture
def follower(session: Session) -> Iterator[FaultyDriver]:
    session.force_quantum(1024)
    with FaultyDriver(session, name="led-mic", properties=GROUP, ppm=500) as device:
        yield device


def leader(session: Session) -> FaultyDriver:
    return FaultyDriver(session, name="conductor", properties=FIRST)


def test_one_that_joins_another_in_mid_recording_is_marked_there(
    session: Session, follower: FaultyDriver, client: RawClient
) -> None:
    client.call("device_wait", name="led-mic", timeout_s=50)
    client.call("stream_start", uri=URI, device_identity="led-mic", format=AUDIO)
    while client.event("stream_head_position", stream_uri=URI)["frame"] < 24_000:
        pass
    assert client.call("stream_status", uri=URI)["notes"] == []
    with leader(session):
        client.call("device_wait", name="conductor", timeout_s=50)
        client.call("stream_start", uri="stream://led/conductor", device_identity="conductor", format=AUDIO)
        told = client.event("stream_notice", stream_uri=URI)
        assert "runs by the clock of conductor" in told["notes"][0]
        begun = client.event("stream_mark", stream_uri=URI)
        assert client.call("stream_status", uri=URI)["notes"] == told["notes"]
        stopped = client.call("stream_stop", uri=URI)
        client.call("stream_stop", uri="stream://led/conductor")
    assert (stopped["clean"], begun["frame"] >= 24_000) == (True, True)
    with chaos.open(stopped["recording"]) as recording:
        marks = [(mark.frame, mark.label) for mark in recording.marks]
    assert marks == [(begun["frame"], "resampled from here: runs by the clock of conductor")]


def test_one_that_is_led_from_the_start_says_so_from_its_first_frame(
    session: Session, follower: FaultyDriver, client: RawClient
) -> None:
    with leader(session):
        client.call("device_wait", name="led-mic", timeout_s=50)
        client.call("stream_start", uri=URI, device_identity="led-mic", format=AUDIO)
        assert "conductor" in client.event("stream_notice", stream_uri=URI)["notes"][0]
        client.event("stream_mark", stream_uri=URI, frame=0)
        assert client.call("stream_stop", uri=URI)["clean"] is True


def test_with_an_own_clock_required_it_is_refused(session: Session, follower: FaultyDriver, client: RawClient) -> None:
    with leader(session):
        client.call("device_wait", name="led-mic", timeout_s=50)
        for _ in range(2):  # the second time the URI is free again
            with pytest.raises(RefusedError) as caught:
                client.call("stream_start", uri=URI, device_identity="led-mic", format=AUDIO, require_own_clock=True)
            assert caught.value.code == "foreign_clock"
            assert "led-mic" in caught.value.message
    other = {"uri": "stream://led/2", "device_identity": "virtual-mic", "format": AUDIO}
    with pytest.raises(RefusedError) as caught:
        client.call("stream_start", **other, require_own_clock=True)
    assert caught.value.code == "foreign_clock"
