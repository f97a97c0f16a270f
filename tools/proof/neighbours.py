"""What devices and PipeWire's other programs can do to a capture beside them."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import numpy as np
from rig import CountingSource, RigError, SlowNode

from proof.scene import KEPT, SIDE_ID, Abuse, Scene, of_beside

__all__ = ["NEIGHBOURS"]

OTHER_ID = 8
CHANNELS = 128
ESCAPES = "\x1b]0;title\x07\x1b]52;c;eA==\x07\x1b[2J\nnew line"
_LARGE = {"chunk_size_bytes": 8 << 20}
_CYCLES_S = 0.1
_STALL_S = 1.5


def _odd(scene: Scene, n: int) -> None:
    """A card number of 5,000 digits, sample formats that are objects; and a name that would act on a terminal."""
    for _ in range(n):
        # In this order: WirePlumber 0.5.12 may give no other node its ports while the odd one is there.
        with scene.device("escaping", description=ESCAPES):
            node = SlowNode(scene.session, "odd", "odd")
            try:
                node.add("FL")
                scene.engine.call("device_list")
            finally:
                node.close()


def _ports(scene: Scene, n: int) -> None:
    """The capture of that node goes on, or waits for what it has lost."""
    node = SlowNode(scene.session, "ports")
    try:
        for channel in ("FL", "FR"):
            node.add(channel)
        scene.await_device("ports", 2)
        with scene.stream("ports") as uri:
            for _ in range(n):
                node.add("LFE")
                node.remove("LFE")
                node.remove("FR")
                scene.engine.await_state(uri, "waiting")
                node.add("FR")
                scene.engine.await_state(uri, "streaming")
    finally:
        node.close()


def _twin(scene: Scene, n: int) -> None:
    """Of the name of what is being kept."""
    for _ in range(n):
        with scene.device(scene.source.name, source_id=OTHER_ID):
            time.sleep(_CYCLES_S)


def _other_port(scene: Scene, n: int) -> None:
    """With the same serial number, where the recorded one was unplugged: its audio is another's."""
    def plugged(number: int, source_id: int) -> CountingSource:
        told = {"device.serial": "Maker_Mic_00A1", "device.bus-path": f"usb-{number}"}
        return CountingSource(scene.session, name="usb", source_id=source_id, properties=told)

    for _ in range(n):
        device = plugged(1, SIDE_ID)
        scene.engine.call("device_wait", name="usb", timeout_s=50)
        with scene.stream("usb", is_own=of_beside) as uri:
            time.sleep(_CYCLES_S)
            device.stop()
            scene.engine.await_state(uri, "waiting")
            with plugged(2, OTHER_ID):
                scene.engine.await_status(uri, lambda status: "another port" in (status["reason"] or ""))
                time.sleep(_CYCLES_S)


def _other_shape(scene: Scene, n: int) -> None:
    """A headset that takes a call: two channels, one, two."""
    with scene.device("headset") as first, scene.stream("headset", is_own=of_beside) as uri:
        first.stop()
        for _ in range(n):
            scene.engine.await_state(uri, "waiting")  # one that is there beside it never takes its place
            with CountingSource(scene.session, name="headset", channels=1, source_id=OTHER_ID):
                scene.engine.await_status(uri, lambda status: "MONO" in (status["reason"] or ""))
            scene.engine.await_status(uri, lambda status: "is away" in (status["reason"] or ""))
            with CountingSource(scene.session, name="headset", source_id=SIDE_ID):
                scene.engine.await_state(uri, "streaming")
                time.sleep(_CYCLES_S)


def _other_order(scene: Scene, n: int) -> None:
    """Then with other names, where nothing can be told of which is which."""
    def plugged(*channels: str) -> SlowNode:
        node = SlowNode(scene.session, "swapped")
        for channel in channels:
            node.add(channel)
        return node

    node = plugged("FL", "FR")
    scene.await_device("swapped", 2)
    with scene.stream("swapped", is_own=lambda samples: (samples[0] == 0.25) & (samples[1] == 0.5)) as uri:
        for _ in range(n):
            node.close()
            scene.engine.await_state(uri, "waiting")
            node = plugged("FR", "FL")
            scene.engine.await_state(uri, "streaming")
            time.sleep(_CYCLES_S)
            node.close()
            node = plugged("AUX0", "AUX1")
            scene.engine.await_status(uri, lambda status: "AUX" in (status["reason"] or ""))
    node.close()


def _stall(scene: Scene, n: int) -> None:
    with scene.device("hung") as source, scene.stream("hung", is_own=of_beside) as uri:
        for _ in range(n):
            os.kill(source.pid, signal.SIGSTOP)
            try:
                scene.engine.await_state(uri, "stalled")
            finally:
                os.kill(source.pid, signal.SIGCONT)
            scene.engine.await_state(uri, "streaming")


def _foreign_link(scene: Scene, n: int) -> None:
    """To the ports of the very capture that is kept."""
    node = next(line for line in scene.session.run("pw-link", "-i").split() if "abuse.kept" in line)
    with scene.device("louder", source_id=OTHER_ID):
        for _ in range(n):
            before = scene.engine.call("stream_status", uri=KEPT)["head_frame"]
            seq = scene.engine.call("status")["event_seq"]
            with suppress(RigError):  # from 1.4 on pw-link waits for the link, and fails where it was removed by then
                scene.session.run("pw-link", "louder:capture_FL", node)
            scene.await_told(seq, "foreign_link")
            scene.engine.await_status(KEPT, lambda status, head=before: status["head_frame"] > head + 4096)


def _removed(scene: Scene, n: int) -> None:
    """A node of chaosd's own is destroyed, as `pw-cli destroy` does it, or one of its ports; it is made anew."""
    with scene.device("plain") as source, scene.stream(source.name, is_own=of_beside) as uri:
        name = "chaosd." + uri.removeprefix("stream://").replace("/", ".")
        for number in range(n):
            graph = scene.session.objects()
            found = [each["id"] for each in graph if each.get("info", {}).get("props", {}).get("node.name") == name]
            ports = [each["id"] for each in graph if each.get("info", {}).get("props", {}).get("node.id") in found]
            before = scene.engine.call("stream_status", uri=uri)["head_frame"]
            scene.session.run("pw-cli", "destroy", str((found if number % 2 else ports)[0]))
            scene.engine.await_status(
                uri, lambda status, head=before: status["state"] == "streaming" and status["head_frame"] > head + 4096
            )


def _many_channels(scene: Scene, n: int) -> None:
    levels = (np.arange(CHANNELS, dtype=np.float32)[:, np.newaxis] + 1) / 1024  # as ports.c has them
    node = SlowNode(scene.session, "desk")
    try:
        for channel in range(CHANNELS):
            node.add(f"AUX{channel}")
        scene.await_device("desk", CHANNELS)
        for _ in range(n):
            with scene.stream("desk", is_own=lambda samples: np.all(samples == levels, axis=0), **_LARGE):
                time.sleep(_CYCLES_S)
    finally:
        node.close()


NEIGHBOURS = (
    Abuse("a node that tells of itself what can't be", 200, _odd, batch=5),
    Abuse("ports that come and go under a capture", 200, _ports, batch=5),
    Abuse("a second node of the recorded one's name", 200, _twin, batch=5),
    Abuse("another device with the recorded one's serial number", 50, _other_port),
    Abuse("a device that comes back with its channels in another order", 50, _other_order, batch=2),
    Abuse("a device that takes another shape for a while", 50, _other_shape, batch=2),
    Abuse("a source that hangs for over a second", 50, _stall, batch=2),
    Abuse("a link of another program's to the capture", 100, _foreign_link, batch=5),
    Abuse("a node of the capture's that is removed by another program", 100, _removed, batch=4),
    Abuse(f"a stream of {CHANNELS} channels started and stopped", 50, _many_channels, batch=2),
)
