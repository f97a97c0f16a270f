"""A device that another one's clock drives is resampled: it is told, marked in the recording, and refused if asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import RawClient, RefusedError
from rig import FaultyDriver, Session

import chaos
from chaos.terms.ledger import Cause

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


def clock_notes(client: RawClient) -> list[str]:
    """What the status says of the clock; it may also have to say that there is no real-time priority."""
    return [note for note in client.call("stream_status", uri=URI)["notes"] if "clock" in note]


def test_one_that_joins_another_in_mid_recording_is_marked_there(
    session: Session, follower: FaultyDriver, client: RawClient
) -> None:
    client.call("device_wait", name="led-mic", timeout_s=50)
    client.call("stream_start", uri=URI, device_identity="led-mic", format=AUDIO)
    while client.event("stream_head_position", stream_uri=URI)["frame"] < 24_000:
        pass
    assert clock_notes(client) == []
    with leader(session):
        client.call("device_wait", name="conductor", timeout_s=50)
        client.call("stream_start", uri="stream://led/conductor", device_identity="conductor", format=AUDIO)
        told = client.event("stream_notice", stream_uri=URI)
        assert "runs by the clock of conductor" in told["notes"][0]
        begun = client.event("stream_mark", stream_uri=URI)
        assert clock_notes(client) == told["notes"]
        stopped = client.call("stream_stop", uri=URI)
        client.call("stream_stop", uri="stream://led/conductor")
    assert (stopped["clean"], begun["frame"] >= 24_000) == (True, True)
    with chaos.open(stopped["recording"]) as recording:
        marks = [(mark.frame, mark.label) for mark in recording.marks]
    assert marks == [(begun["frame"], "resampled from here: runs by the clock of conductor")]


def test_one_that_has_its_own_clock_again_is_marked_there(
    session: Session, follower: FaultyDriver, client: RawClient
) -> None:
    client.call("device_wait", name="led-mic", timeout_s=50)
    client.call("stream_start", uri=URI, device_identity="led-mic", format=AUDIO)
    while client.event("stream_head_position", stream_uri=URI)["frame"] < 24_000:
        pass
    with leader(session):
        client.call("device_wait", name="conductor", timeout_s=50)
        client.call("stream_start", uri="stream://led/conductor", device_identity="conductor", format=AUDIO)
        assert client.event("stream_notice", stream_uri=URI)["notes"]
        led = client.event("stream_mark", stream_uri=URI)["frame"]
        client.call("stream_stop", uri="stream://led/conductor")
    client.event("stream_notice", stream_uri=URI, notes=[])
    back = client.event("stream_mark", stream_uri=URI, label="by its own clock from here")
    while client.event("stream_head_position", stream_uri=URI)["frame"] < back["frame"] + 24_000:
        pass
    assert clock_notes(client) == []
    stopped = client.call("stream_stop", uri=URI)
    assert (stopped["clean"], led < back["frame"]) == (True, True)
    with chaos.open(stopped["recording"]) as recording:
        marks = [(mark.frame, mark.label) for mark in recording.marks]
        switches = {gap.end_frame for gap in recording.gaps if gap.cause == Cause.DRIVER_SWITCH}
        samples = recording.read(back["frame"], back["frame"] + 24_000)
        lost = [(gap.first_frame - back["frame"], gap.n_frames) for gap in recording.gaps]
    assert marks[0] == (led, "resampled from here: runs by the clock of conductor")
    assert marks[-1] == (back["frame"], "by its own clock from here")
    # Each switch is in the ledger before its mark, and what follows the last one is the device's own.
    assert {led, back["frame"]} <= switches
    found = follower.check(samples, gaps=[gap for gap in lost if gap[0] >= 0])
    assert (found.silent, found.foreign) == (0, 0), (found, lost)


def test_with_an_own_clock_required_it_waits_for_that(
    session: Session, follower: FaultyDriver, client: RawClient
) -> None:
    client.call("device_wait", name="led-mic", timeout_s=50)
    client.call("stream_start", uri=URI, device_identity="led-mic", format=AUDIO, require_own_clock=True)
    while client.event("stream_head_position", stream_uri=URI)["frame"] < 24_000:
        pass
    with leader(session):
        client.call("device_wait", name="conductor", timeout_s=50)
        client.call("stream_start", uri="stream://led/conductor", device_identity="conductor", format=AUDIO)
        told = client.event("stream_state", stream_uri=URI, state="waiting")
        assert "clock" in told["reason"]
        client.call("stream_stop", uri="stream://led/conductor")
    client.event("stream_state", stream_uri=URI, state="streaming")
    head = client.event("stream_head_position", stream_uri=URI)["frame"]
    while client.event("stream_head_position", stream_uri=URI)["frame"] < head + 24_000:
        pass
    stopped = client.call("stream_stop", uri=URI)
    assert stopped["clean"] is True
    with chaos.open(stopped["recording"]) as recording:
        samples = recording.read(0, stopped["n_frames"])
        gaps = [(gap.first_frame, gap.n_frames) for gap in recording.gaps]
    found = follower.check(samples, gaps=gaps)
    assert (found.silent, found.foreign) == (0, 0), (found, gaps)


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
