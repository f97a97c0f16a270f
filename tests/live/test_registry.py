"""The registry listener and the device map against a real PipeWire with devices that come and go."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rig.counting import CountingSource
from rig.session import Session

from chaos import _registry
from chaos._connection import Connection
from chaos._registry import Registry
from chaos.graph.devices import Change, Decoder, DeviceInfo, DeviceMap
from chaos.graph.followed import Followed
from chaos.graph.objects import Kind, RecordKind
from chaos.terms.errors import DeviceAmbiguous, DeviceNotFound, PipeWireUnavailable

TIMEOUT_S = 60.0


class Watch:
    """A device map that is kept up to date by a registry listener of its own."""

    def __init__(self) -> None:
        self.connection = Connection()
        self.registry = Registry(self.connection)
        self.map = DeviceMap()
        self.changes: list[Change] = []
        self._decoder = Decoder()
        self.registry.settle()
        self.take()

    def take(self) -> None:
        for note in self.connection.drain():
            event = self._decoder.decode(note)
            if event is not None:
                self.changes += self.map.apply(event)

    def until(self, done: Callable[[], object]) -> None:
        """Takes what comes until `done` is true. Fails after TIMEOUT_S."""
        deadline = time.monotonic() + TIMEOUT_S
        while not done():
            left = deadline - time.monotonic()
            assert left > 0, f"waited in vain; seen: {[(c.kind, c.device.identity) for c in self.changes]}"
            select.select([self.connection.wake_fd], [], [], left)
            self.take()

    def until_told(self, kind: str, identity: str) -> DeviceInfo:
        """Waits for this change among those not yet looked at, and forgets all up to it."""

        def place() -> int | None:
            for at, change in enumerate(self.changes):
                if (change.kind, change.device.identity) == (kind, identity):
                    return at
            return None

        self.until(lambda: place() is not None)
        at = place()
        assert at is not None
        device = self.changes[at].device
        del self.changes[: at + 1]
        return device


@pytest.fixture
def watch(session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(session.runtime_dir))
    watch = Watch()
    yield watch
    watch.connection.close()


@contextmanager
def loopback_source(session: Session, name: str, props: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A source made of a loopback, until the block ends."""
    child = session.spawn(
        "pw-loopback",
        f"--capture-props=node.autoconnect=false node.name={name}-in",
        f"--playback-props=media.class=Audio/Source node.name={name} {props}",
    )
    try:
        yield child
    finally:
        session.end(child)


@contextmanager
def adapter(session: Session, props: str) -> Iterator[None]:
    """A null device with these properties, until the block ends."""
    child = session.spawn("pw-cli", stdin=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.write(f"create-node adapter {{ factory.name=support.null-audio-sink {props} }}\n".encode())
    child.stdin.flush()
    try:
        yield
    finally:
        session.end(child)


def test_the_virtual_microphone_is_there_whole(watch: Watch) -> None:
    mic = watch.map.find("virtual-mic")
    assert (mic.identity, mic.description) == ("name:virtual-mic", "Virtual microphone")
    assert (mic.channels, mic.positions, mic.direction) == (2, ("FL", "FR"), "input")
    assert [port.channel for port in mic.ports] == ["FL", "FR"]
    assert mic.sample_rate is None or mic.sample_rate == 48000
    assert "F32P" in mic.native_formats
    assert (mic.is_monitor, mic.muted, mic.sample_gain) == (False, False, 1.0)
    assert watch.map.has_session_manager
    assert watch.map.graph_rate == 48000
    assert watch.map.find("Virtual micro") == mic


def test_a_device_that_comes_and_goes_is_told_of_and_known_again(session: Session, watch: Watch) -> None:
    seen = set()
    with loopback_source(session, "filler"):
        watch.until_told("added", "name:filler")
        for _ in range(3):
            with loopback_source(session, "plug", 'node.description="Plug in"'):
                plug = watch.until_told("added", "name:plug")
                assert [port.channel for port in plug.ports] == ["FL", "FR"]
                assert watch.map.ports(plug.node_id, "output") == list(plug.ports)
                assert watch.map.find("Plug in") == Followed(plug.identity, plug).locate(watch.map.devices()).device
                seen.add(plug.object_serial)
            gone = watch.until_told("removed", "name:plug")
            assert Followed(gone.identity, gone).locate(watch.map.devices()).device is None
    assert len(seen) == 3
    watch.until_told("removed", "name:filler")
    with pytest.raises(DeviceNotFound):
        watch.map.find("plug")


def test_equal_descriptions_are_ambiguous_and_names_are_not(session: Session, watch: Watch) -> None:
    with (
        loopback_source(session, "twin-a", 'node.description="Twin"'),
        loopback_source(session, "twin-b", 'node.description="Twin"'),
    ):
        watch.until_told("added", "name:twin-a")
        watch.until(lambda: len([d for d in watch.map.devices() if d.description == "Twin"]) == 2)
        with pytest.raises(DeviceAmbiguous) as caught:
            watch.map.find("Twin")
        assert {c["name"] for c in caught.value.details["candidates"]} == {"twin-a", "twin-b"}
        assert watch.map.find("twin-b").identity == "name:twin-b"


def test_identity_comes_from_the_serial(session: Session, watch: Watch) -> None:
    props = "node.name=usb media.class=Audio/Source/Virtual audio.position=FL device.bus-path=usb-1"
    with adapter(session, f"{props} device.serial=Maker_Mic_77A1"):
        mic = watch.until_told("added", "serial:Maker_Mic_77A1")
        assert mic.identity_basis == "serial"
    watch.until_told("removed", "serial:Maker_Mic_77A1")
    with adapter(session, f"{props} device.serial=Maker_Mic_77A2"):
        watch.until_told("added", "serial:Maker_Mic_77A2")
        assert Followed(mic.identity, mic).locate(watch.map.devices()).device is None
        assert watch.map.find("usb").name == mic.name


def test_a_volume_that_changes_samples_is_told(session: Session, watch: Watch, tmp_path: Path) -> None:
    with loopback_source(session, "loud"):
        loud = watch.until_told("added", "name:loud")
        # PipeWire 1.4 tells no change of the volume of a node that has never run.
        recorder = session.spawn("pw-record", "--target", "loud", str(tmp_path / "loud.wav"))
        session.await_global("Link", {"link.output.node": str(loud.node_id)})
        watch.take()
        watch.changes.clear()
        session.run("wpctl", "set-volume", str(loud.node_id), "0.5")
        watch.until(lambda: watch.map.find("loud").sample_gain == 0.125)
        assert watch.map.find("loud").volume == 0.125
        session.run("wpctl", "set-mute", str(loud.node_id), "1")
        watch.until(lambda: watch.map.find("loud").muted)
        assert watch.map.find("loud").sample_gain == 0.0
        session.run("wpctl", "set-mute", str(loud.node_id), "0")
        session.run("wpctl", "set-volume", str(loud.node_id), "1.0")
        watch.until(lambda: watch.map.find("loud").sample_gain == 1.0)
        assert {c.kind for c in watch.changes if c.device.name == "loud"} == {"changed"}
        session.end(recorder)


def test_a_sinks_monitor_can_be_captured(session: Session, watch: Watch) -> None:
    shape = "audio.channels=3 audio.position=[FL FR LFE]"
    with adapter(session, f'node.name=box node.description="Box" media.class=Audio/Sink {shape}'):
        monitor = watch.until_told("added", "name:box:monitor")
        assert (monitor.is_monitor, monitor.direction, monitor.channels) == (True, "input", 3)
        assert monitor.positions == ("FL", "FR", "LFE")
        assert all(port.monitor and port.direction == "output" for port in monitor.ports)
        assert watch.map.find("box.monitor").role == "monitor"
        assert watch.map.find("box").role == "monitor"
        sink = watch.map.find("name:box:output")
        assert (sink.direction, sink.node_id) == ("output", monitor.node_id)
    watch.until_told("removed", "name:box:monitor")


def test_the_default_source_follows_the_session_manager(session: Session, watch: Watch) -> None:
    with loopback_source(session, "wanted"):
        wanted = watch.until_told("added", "name:wanted")
        session.run("wpctl", "set-default", str(wanted.node_id))
        watch.until(lambda: watch.map.find("wanted").is_default)
        assert watch.map.find("wanted").is_default
    watch.until(lambda: watch.map.find("virtual-mic").is_default)


@pytest.mark.parametrize("channels", [1, 8, 64])
def test_a_source_of_many_channels_is_whole_when_it_is_told_of(
    session: Session, watch: Watch, channels: int
) -> None:
    with CountingSource(session, channels=channels, name=f"many-{channels}"):
        watch.until(
            lambda: any(d.name == f"many-{channels}" and d.channels == channels for d in watch.map.devices())
        )
        many = watch.map.find(f"many-{channels}")
        assert [port.index for port in many.ports] == list(range(channels))
    watch.until(lambda: not any(d.name == f"many-{channels}" for d in watch.map.devices()))


def test_a_midi_source_is_listed_by_its_port(session: Session, watch: Watch, tmp_path: Path) -> None:
    song = tmp_path / "rest.mid"
    events = b"\x87\x68\x90\x3c\x40" * 64 + b"\x00\xff\x2f\x00"
    song.write_bytes(b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk" + len(events).to_bytes(4, "big") + events)
    player = session.spawn(
        "pw-midiplay", "--target", "0", "-P", "{ media.class=Midi/Source node.name=keys }", str(song)
    )
    watch.until(lambda: watch.map.devices(kind="midi"))
    [keys] = watch.map.devices(kind="midi")
    assert keys.direction == "input"
    assert keys.name.startswith("keys:")
    assert keys.to_wire()["format"] == {"type": "midi"}
    session.end(player)
    watch.until(lambda: not watch.map.devices(kind="midi"))


def test_nodes_that_live_for_milliseconds_leave_no_ghost(session: Session, watch: Watch) -> None:
    before = {device.object_serial for device in watch.map.devices()}
    fleeting = "{ factory.name=support.null-audio-sink node.name=fleeting media.class=Audio/Source/Virtual }"
    for _ in range(20):
        session.run("pw-cli", "create-node", "adapter", fleeting)
    with loopback_source(session, "after"):
        watch.until_told("added", "name:after")
        session.run("pw-cli", "info", "0")
        watch.connection.sync()
        watch.take()
        assert {d.object_serial for d in watch.map.devices() if d.name != "after"} == before
    watch.until_told("removed", "name:after")


def test_other_nodes_and_their_ports_are_seen(session: Session, watch: Watch) -> None:
    with loopback_source(session, "mate"):
        stream = int(session.await_global("Node", {"node.name": "mate-in"})["id"])
        watch.until(lambda: len(watch.map.ports(stream, "input")) == 2)
        assert watch.map.node_props(stream)["media.class"] == "Stream/Input/Audio"
    watch.until(lambda: not watch.map.ports(stream, "input"))


def test_opening_and_closing_leaves_nothing_behind(watch: Watch) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    Registry(watch.connection).close()
    before = descriptors()
    for _ in range(50):
        registry = Registry(watch.connection)
        registry.settle()
        registry.close()
        registry.close()
        assert registry.closed
    assert descriptors() == before
    with pytest.raises(PipeWireUnavailable):
        registry.settle()


def test_the_connection_closes_its_registry(watch: Watch) -> None:
    connection = Connection()
    registry = Registry(connection)
    connection.close()
    assert registry.closed
    registry.close()
    with pytest.raises(PipeWireUnavailable):
        Registry(connection)


def test_pipewire_may_go_first_and_come_back(own_session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(own_session.runtime_dir))
    watch = Watch()
    mic = watch.map.find("virtual-mic")
    own_session.kill_pipewire()
    select.select([watch.connection.wake_fd], [], [], TIMEOUT_S)
    watch.take()
    assert Change("removed", watch.map.find("virtual-mic")) in watch.map.reset()
    assert watch.map.devices() == []
    watch.connection.close()
    own_session.start_pipewire()
    again = Watch()
    followed = Followed(mic.identity, mic)
    followed.lose()
    again.until(lambda: followed.locate(again.map.devices()).device)
    again.connection.close()


def test_nothing_is_woken_while_nothing_changes(watch: Watch) -> None:
    watch.connection.sync()
    watch.take()
    readable, _, _ = select.select([watch.connection.wake_fd], [], [], 0.3)
    assert not readable


def test_c_and_python_number_records_alike() -> None:
    assert {kind.name: kind.value for kind in RecordKind} == _registry.RECORD_KINDS
    assert {kind.name: kind.value for kind in Kind} == _registry.KINDS


def test_the_listener_never_takes_the_gil() -> None:
    imported = subprocess.run(
        ["nm", "-D", "--undefined-only", os.fspath(_registry.__file__)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "PyObject" in imported
    assert "PyGILState" not in imported
