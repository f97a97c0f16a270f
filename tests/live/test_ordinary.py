"""A device does something ordinary in mid-capture: what it is meant to be goes on, and no other's audio comes in.

As in test_following the graph's clock is a second source that never stops, so that each frame carries the number of its
place.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Daemon, RawClient, RefusedError, SourceFactory
from rig import CountingSource, Session, SlowNode
from test_following import PLUG_ID, QUANTUM, assert_all_in_place, plug, samples_of

import chaos
from chaos.store.info import load

AUDIO = {"type": "audio"}
LOUD = "stream://loud/1"


@pytest.fixture
def loud(session: Session, counting_source: SourceFactory, client: RawClient) -> CountingSource:
    """The source that drives the graph, with a stream on it so that it does."""
    source = counting_source("loud", source_id=1, driver=True, patience_ms=400)
    session.force_quantum(QUANTUM)
    client.call("device_wait", name="loud", timeout_s=50)
    client.call("stream_start", uri=LOUD, device_identity="loud", format=AUDIO)
    return source


def pass_time(client: RawClient, n_frames: int = 12_000) -> None:
    """Lets the graph run on for so many frames."""
    before = client.call("stream_status", uri=LOUD)["head_frame"]
    while client.event("stream_head_position", stream_uri=LOUD)["frame"] < before + n_frames:
        pass


@contextmanager
def slow_node(session: Session, name: str, *channels: str) -> Iterator[SlowNode]:
    node = SlowNode(session, name)
    try:
        for channel in channels:
            node.add(channel)
        yield node
    finally:
        node.close()


def n_channels(client: RawClient, name: str) -> int:
    return int(client.call("device_find", name=name)["device"]["format"]["channels"])


def await_device(client: RawClient, name: str, n: int) -> None:
    """Waits until it is listed with so many channels: a busy machine may list it with some of them first."""
    client.call("device_wait", name=name, timeout_s=50)
    while n_channels(client, name) != n:
        client.event("device_changed")


def await_channels(client: RawClient, n: int) -> None:
    """On a busy machine a device may first be told with fewer ports than it was made with."""
    while client.event("device_changed")["device"]["format"]["channels"] != n:
        pass


def await_added(client: RawClient, name: str) -> int:
    """Waits until the next device of that name is told; its node's serial."""
    while (told := client.event("device_added")["device"])["name"] != name:
        pass
    return int(told["object_serial"])


def await_reason(client: RawClient, uri: str, part: str) -> dict[str, Any]:
    """Waits until the stream waits for that reason, whatever it waited for before."""
    while part not in (told := client.event("stream_state", stream_uri=uri, state="waiting"))["reason"]:
        pass
    return told


def test_ports_that_come_and_go_are_seen_and_a_capture_goes_on(
    session: Session, loud: CountingSource, client: RawClient
) -> None:
    uri = "stream://slow/1"
    with slow_node(session, "slow", "FL", "FR") as node:
        await_device(client, "slow", 2)
        client.call("stream_start", uri=uri, device_identity="slow", format=AUDIO)
        client.event("stream_head_position", stream_uri=uri)
        node.add("LFE")
        await_channels(client, 3)
        pass_time(client)
        status = client.call("stream_status", uri=uri)
        assert (status["state"], status["lost_frames"]) == ("streaming", 0)
        node.remove("LFE")
        await_channels(client, 2)
        node.remove("FR")
        waiting = client.event("stream_state", stream_uri=uri, state="waiting")
        assert "FR" in waiting["reason"]
        node.add("FR")
        client.event("stream_state", stream_uri=uri, state="streaming")
        client.event("stream_head_position", stream_uri=uri)
        assert client.call("stream_stop", uri=uri)["clean"] is True


def test_a_device_that_comes_back_while_chaosd_can_not_look_is_listed(
    session: Session, daemon: Daemon, client: RawClient
) -> None:
    """It is told that the old one begins to run, of its end and of the new one in one go: PipeWire's answer to what it
    asks of the old one then comes to the new one, whose number at PipeWire is the same."""
    with slow_node(session, "again", "FL", "FR") as node:
        before = await_added(client, "again")
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            session.run("pw-link", "again:capture_FL", "virtual-mic:input_FL")
            node.close()
            with slow_node(session, "again", "FL", "FR"):
                os.kill(daemon.pid, signal.SIGCONT)
                assert await_added(client, "again") > before
        finally:
            os.kill(daemon.pid, signal.SIGCONT)


def test_a_node_whose_ports_come_slowly_is_listed(session: Session, loud: CountingSource, client: RawClient) -> None:
    """However far apart: with those that are there once it is quiet, and in the end with all."""
    with slow_node(session, "late", "FL") as node:
        pass_time(client, 19_200)  # 400 ms
        node.add("FR")
        await_device(client, "late", 2)


def test_a_second_node_of_the_same_name_stops_nothing(
    session: Session, loud: CountingSource, client: RawClient
) -> None:
    uri = "stream://twin/1"
    with plug(session, "twin") as own:
        own.insert()
        client.call("device_wait", name="twin", timeout_s=50)
        client.call("stream_start", uri=uri, device_identity="twin", format=AUDIO)
        client.event("stream_head_position", stream_uri=uri)
        with plug(session, "twin", source_id=8) as second:
            other = second.insert()
            client.event("device_added")
            pass_time(client, 24_000)
            assert client.call("stream_status", uri=uri)["lost_frames"] == 0
            with pytest.raises(RefusedError) as caught:
                client.call("device_find", name="twin")
            assert caught.value.code == "device_ambiguous"
            assert f"node:{other.node_id}" in caught.value.hint
            chosen = client.call("device_find", name=f"node:{other.node_id}")["device"]
            assert chosen["node_id"] == other.node_id
            client.call(
                "stream_start", uri="stream://twin/2", device_identity=f"node:{other.node_id}", format=AUDIO
            )
            recording = client.recording_of("stream://twin/2")
            client.event("stream_head_position", stream_uri="stream://twin/2")
            own.remove()
            client.event("stream_state", stream_uri=uri, state="waiting")
            pass_time(client)
            own.insert()
            client.event("stream_state", stream_uri=uri, state="streaming")
            client.event("stream_head_position", stream_uri=uri)
            client.call("stream_stop", uri="stream://twin/2")
        stopped = client.call("stream_stop", uri=uri)
    assert_all_in_place(stopped["recording"], PLUG_ID)
    assert_all_in_place(recording, 8)


def of_port(number: int) -> dict[str, str]:
    return {"device.serial": "Maker_Mic_00A1", "device.bus-path": f"usb-{number}"}


@pytest.mark.parametrize("accepts", ["never", "before", "later"])
def test_another_with_the_same_serial_at_another_port(
    session: Session, loud: CountingSource, client: RawClient, accepts: str
) -> None:
    """A constant serial number: A is recorded and unplugged, B is plugged in elsewhere."""
    uri = f"stream://port/{accepts}"
    with plug(session, "usb", properties=of_port(1)) as a, plug(session, "usb", properties=of_port(2)) as b:
        b._options["source_id"] = 8 if accepts == "never" else PLUG_ID
        a.insert()
        client.call("device_wait", name="serial:Maker_Mic_00A1", timeout_s=50)
        is_accepted = accepts == "before"
        client.call("stream_start", uri=uri, device_identity="usb", format=AUDIO, accept_port_change=is_accepted)
        client.event("stream_head_position", stream_uri=uri)
        a.remove()
        client.event("stream_state", stream_uri=uri, state="waiting")
        b.insert()
        if accepts == "before":
            client.event("stream_state", stream_uri=uri, state="streaming")
        else:
            told = await_reason(client, uri, "another port")
            assert "usb-2" in told["reason"]
            pass_time(client)
            if accepts == "never":
                b.remove()
                a.insert()
            else:
                assert client.call("stream_accept_port", uri=uri) == {"uri": uri}
            client.event("stream_state", stream_uri=uri, state="streaming")
        client.event("stream_head_position", stream_uri=uri)
        stopped = client.call("stream_stop", uri=uri)
    assert stopped["clean"] is True
    assert_all_in_place(stopped["recording"], PLUG_ID)


def tone(session: Session, name: str, *channels: str) -> SlowNode:
    """A node whose every channel has a level of its own, by its name."""
    node = SlowNode(session, name)
    for channel in channels:
        node.add(channel)
    return node


def test_channels_in_another_order_are_not_swapped(session: Session, loud: CountingSource, client: RawClient) -> None:
    uri = "stream://swap/1"
    node = tone(session, "swap", "FL", "FR")
    await_device(client, "swap", 2)
    client.call("stream_start", uri=uri, device_identity="swap", format=AUDIO)
    client.event("stream_head_position", stream_uri=uri)
    node.close()
    client.event("stream_state", stream_uri=uri, state="waiting")
    node = tone(session, "swap", "FR", "FL")
    client.event("stream_state", stream_uri=uri, state="streaming")
    before = client.event("stream_head_position", stream_uri=uri)["frame"]
    while client.event("stream_head_position", stream_uri=uri)["frame"] < before + 9600:
        pass
    node.close()
    client.event("stream_state", stream_uri=uri, state="waiting")
    node = tone(session, "swap", "AUX0", "AUX1")
    await_reason(client, uri, "AUX0")
    pass_time(client)
    node.close()
    stopped = client.call("stream_stop", uri=uri)
    left, right = samples_of(stopped["recording"])
    levels = [set(np.unique(channel)) - {0.0} for channel in (left, right)]
    assert levels == [{0.25}, {0.5}]  # as `ports` has them for FL and FR


def test_a_device_that_changes_its_shape_for_a_while_is_waited_for(
    session: Session, loud: CountingSource, client: RawClient
) -> None:
    """A headset that takes a call: two channels, then one, then two."""
    uri = "stream://headset/1"
    with plug(session, "headset") as device, plug(session, "headset", channels=1) as call:
        device.insert()
        client.call("device_wait", name="headset", timeout_s=50)
        client.call("stream_start", uri=uri, device_identity="headset", format=AUDIO)
        client.event("stream_head_position", stream_uri=uri)
        device.remove()
        client.event("stream_state", stream_uri=uri, state="waiting")
        call.insert()
        await_reason(client, uri, "MONO")
        pass_time(client)
        call.remove()
        device.insert()
        client.event("stream_state", stream_uri=uri, state="streaming")
        client.event("stream_head_position", stream_uri=uri)
        stopped = client.call("stream_stop", uri=uri)
    assert stopped["clean"] is True
    assert_all_in_place(stopped["recording"], PLUG_ID)


def test_with_roll_on_format_change_it_goes_on_in_a_new_take(
    session: Session, loud: CountingSource, client: RawClient
) -> None:
    uri = "stream://roll/1"
    with plug(session, "roll") as device, plug(session, "roll", channels=1) as call:
        device.insert()
        client.call("device_wait", name="roll", timeout_s=50)
        client.call("stream_start", uri=uri, device_identity="roll", format=AUDIO, roll_on_format_change=True)
        first = client.recording_of(uri)
        client.event("stream_head_position", stream_uri=uri)
        device.remove()
        call.insert()
        rolled = client.event("stream_rolled", stream_uri=uri)
        assert (rolled["take"], rolled["continues"]) == (f"{uri}.0002", None)
        started = client.event("stream_started", stream_uri=uri)
        assert started["channels"] == 1
        client.event("stream_head_position", stream_uri=uri)
        stopped = client.call("stream_stop", uri=uri)
    assert (stopped["clean"], stopped["recording"]) == (True, started["recording"])
    assert load(Path(first)).clean is True
    report = client.call("verify", uri=uri)
    assert (report["ok"], [(take["uri"], take["channels"]) for take in report["takes"]]) == (
        True,
        [(uri, 2), (f"{uri}.0002", 1)],
    )
    assert_all_in_place(first, PLUG_ID)
    assert_all_in_place(stopped["recording"], PLUG_ID)


def test_a_driver_that_stalls_is_told_while_it_does(loud: CountingSource, client: RawClient) -> None:
    client.event("stream_head_position", stream_uri=LOUD)
    loud.hold()
    opened = client.event("stream_gap", stream_uri=LOUD)
    assert (opened["n_frames"], opened["cause"]) == (None, "missed")
    told = client.event("stream_state", stream_uri=LOUD, state="stalled")
    assert "no cycle" in told["reason"]
    status = client.call("stream_status", uri=LOUD)
    assert (status["state"], status["n_gaps"], status["lost_frames"]) == ("stalled", 1, 0)
    with chaos.open(status["recording"]) as recording:
        followed = [(gap.first_frame, gap.n_frames, gap.cause.label) for gap in recording.gaps]
    assert followed == [(opened["first_frame"], 0, "missed")]
    loud.begin()
    closed = client.event("stream_gap", stream_uri=LOUD)
    assert (closed["first_frame"], closed["n_frames"]) == (opened["first_frame"], 0), "its clock had stood as well"
    client.event("stream_state", stream_uri=LOUD, state="streaming")
    stopped = client.call("stream_stop", uri=LOUD)
    assert (stopped["clean"], stopped["n_gaps"], stopped["lost_frames"]) == (True, 0, 0)


def test_a_source_that_hangs_is_told_while_it_does(session: Session, loud: CountingSource, client: RawClient) -> None:
    """The graph runs on without it."""
    uri = "stream://hung/1"
    with plug(session, "hung") as device:
        source = device.insert()
        client.call("device_wait", name="hung", timeout_s=50)
        client.call("stream_start", uri=uri, device_identity="hung", format=AUDIO)
        client.event("stream_head_position", stream_uri=uri)
        os.kill(source.pid, signal.SIGSTOP)
        try:
            client.event("stream_state", stream_uri=uri, state="stalled")
        finally:
            os.kill(source.pid, signal.SIGCONT)
        client.event("stream_state", stream_uri=uri, state="streaming")
        client.event("stream_head_position", stream_uri=uri)
        stopped = client.call("stream_stop", uri=uri)
    assert stopped["lost_frames"] > 0  # the driver waits for it first, and its clock stands meanwhile
    assert_all_in_place(stopped["recording"], PLUG_ID)


def test_chosen_channels_alone_are_linked(session: Session, loud: CountingSource, client: RawClient) -> None:
    uri = "stream://desk/1"
    with plug(session, "desk", channels=32) as device:
        device.insert()
        client.call("device_wait", name="desk", timeout_s=50)
        started = client.call(
            "stream_start", uri=uri, device_identity="desk", format=AUDIO, channel_map=["AUX2", "4"]
        )
        assert started["format"]["channels"] == 2
        before = client.event("stream_head_position", stream_uri=uri)["frame"]
        while client.event("stream_head_position", stream_uri=uri)["frame"] < before + 9600:
            pass
        links = [line for line in session.run("pw-link", "-l", "-o", "desk").split("\n") if "chaosd.desk.1" in line]
        stopped = client.call("stream_stop", uri=uri)
    assert len(links) == 2
    info = load(Path(stopped["recording"]))
    assert (info.definition.channels, info.definition.positions) == (2, ["AUX2", "AUX3"])
    assert info.definition.device["captured_channels"] == [3, 4]
    whole: Any = samples_of(stopped["recording"])
    assert whole.any(axis=1).all()


def test_more_channels_than_sixty_four(session: Session, loud: CountingSource, client: RawClient) -> None:
    """Each in its place, by a level of its own."""
    uri = "stream://many/1"
    names = [f"AUX{number}" for number in range(100)]
    node = tone(session, "many", *names)
    await_device(client, "many", 100)
    started = client.call("stream_start", uri=uri, device_identity="many", format=AUDIO)
    assert started["format"]["channels"] == 100
    before = client.event("stream_head_position", stream_uri=uri)["frame"]
    while client.event("stream_head_position", stream_uri=uri)["frame"] < before + 4800:
        pass
    stopped = client.call("stream_stop", uri=uri)
    node.close()
    samples = samples_of(stopped["recording"])
    last = samples[:, samples.any(axis=0)][:, -1]
    assert last.tolist() == [(number + 1) / 1024 for number in range(100)]
    form = {**AUDIO, "layout": "interleaved"}
    with slow_node(session, "many-too", *names):
        client.call("device_wait", name="many-too", timeout_s=50)
        with pytest.raises(RefusedError) as caught:
            client.call("stream_start", uri="stream://many/2", device_identity="many-too", format=form)
    assert caught.value.code == "format_unsupported"


def test_a_node_that_says_what_no_device_should_harms_nobody(
    session: Session, loud: CountingSource, client: RawClient
) -> None:
    """A format made of objects, and a card number of 5,000 digits. The other one makes its ports itself: WirePlumber
    0.5.12 gives nobody any while the odd one is there."""
    client.event("stream_head_position", stream_uri=LOUD)
    odd = SlowNode(session, "odd", "odd")
    odd.add("FL")
    assert client.call("device_wait", name="odd", timeout_s=50)["device"]["card"] is None
    with slow_node(session, "after", "FL"):
        assert client.call("device_wait", name="after", timeout_s=50)["device"]["name"] == "after"
    pass_time(client)
    odd.close()
    stopped = client.call("stream_stop", uri=LOUD)
    assert (stopped["clean"], stopped["lost_frames"]) == (True, 0)


def test_a_client_that_goes_takes_its_waits_along(daemon: Daemon, client: RawClient) -> None:
    other = daemon.new_client()
    for number in range(16):
        other.send("device_wait", name=f"never {number}", timeout_s=600)
    other.call("ping")
    other.close()
    assert client.call("device_wait", name="virtual-mic", timeout_s=50)["device"]["name"] == "virtual-mic"
