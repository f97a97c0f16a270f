"""MIDI ports that really are in a graph: listed, found, waited for, and told of as they come and go."""

from __future__ import annotations

from typing import Any

from harness import RawClient
from rig import MidiSource, Session

NAME = "md-keys"


def event_of(client: RawClient, kind: str) -> dict[str, Any]:
    """The device of the next such event that is about it; others may come and go as well."""
    while (device := client.event(kind)["device"])["description"] != NAME:
        pass
    return dict(device)


def test_a_port_comes_is_found_and_goes(session: Session, client: RawClient) -> None:
    waiting = client.send("device_wait", name=NAME, timeout_s=50, format="midi")
    with MidiSource(session, [], name=NAME, hold=True):
        device = client.answer(waiting)["device"]
        assert device["format"] == {"type": "midi"}
        assert (device["direction"], device["description"]) == ("input", NAME)
        assert event_of(client, "device_added") == device
        assert client.call("device_find", name=NAME)["device"] == device
        assert device in client.call("device_list", format="midi", direction="input")["devices"]
        assert device not in client.call("device_list", format="audio")["devices"]
    gone = event_of(client, "device_removed")
    assert gone["identity"] == device["identity"]
    with MidiSource(session, [], name=NAME, hold=True):
        again = event_of(client, "device_added")
        assert again["identity"] == device["identity"]
        assert again["object_serial"] != device["object_serial"]


def test_audio_and_midi_of_one_node_and_several_ports(session: Session, client: RawClient) -> None:
    with MidiSource(session, [], name="md-stage", ports=["midi", "ump", "control"], channels=2, hold=True):
        audio = client.call("device_wait", name="md-stage", timeout_s=50, format="audio")["device"]
        assert (audio["format"]["type"], audio["format"]["channels"]) == ("audio", 2)
        found = client.call("device_list", format="midi")["devices"]
        ports = [device for device in found if device["node_id"] == audio["node_id"]]
        assert len({device["identity"] for device in ports}) == 3
        assert all(device["description"].startswith("md-stage ") for device in ports)
