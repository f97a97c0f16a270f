"""The MIDI source of the rig: every event of its script reaches a client's port, at its frame and with its bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from rig import (
    CLICK,
    MIDI,
    UMP,
    Event,
    MidiSource,
    RigError,
    Session,
    Witness,
    as_ump,
    long_sysex,
    random_tune,
    seen_events,
)

QUANTA = [32, 64, 256, 1024, 8192]

Play = Callable[..., tuple[list[Event], list[Event]]]


@pytest.fixture
def play(session: Session) -> Iterator[Play]:
    """Plays a script into a witness whose event ports are of kind `sees`: what was offered and what was seen, both at
    positions of the clock."""
    with ExitStack() as stack:

        def played(
            script: Sequence[Event], quantum: int = 1024, sees: str = "control", **options: Any
        ) -> tuple[list[Event], list[Event]]:
            session.force_quantum(quantum)
            source = stack.enter_context(MidiSource(session, script, speed=0, hold=True, **options))
            kinds = [kind if kind == "audio" else sees for kind in source.kinds]
            # The clicking source is silent until then, so its sound can't show that it is linked.
            witness = stack.enter_context(Witness(session, source.node_id, kinds))
            source.begin()
            witness.await_first()
            first = source.play()
            source.await_end()
            source.hold()
            return sorted(event.moved(first) for event in script), sorted(seen_events(witness.see()))

        yield played


@pytest.mark.parametrize("quantum", QUANTA)
def test_every_event_arrives_at_its_frame(play: Play, quantum: int) -> None:
    offered, seen = play(random_tune(quantum, 2000, 40 * quantum), quantum, buffer_bytes=65536)
    assert seen == offered


@pytest.mark.parametrize("quantum", QUANTA)
def test_the_first_and_the_last_frame_of_a_cycle_count(play: Play, quantum: int) -> None:
    edges = sorted(cycle * quantum + at for cycle in range(20) for at in (0, quantum - 1))
    script = [Event(frame, 0, MIDI, bytes([0x90, number, 1])) for number, frame in enumerate(edges)]
    offered, seen = play(script, quantum)
    assert seen == offered


@pytest.mark.parametrize("quantum", [32, 1024])
def test_a_thousand_events_of_one_cycle(play: Play, quantum: int) -> None:
    script = [Event(quantum + n * quantum // 1000, 0, MIDI, bytes([0x90, n % 128, n // 128])) for n in range(1000)]
    offered, seen = play(script, quantum)
    assert seen == offered


def test_events_of_one_frame_keep_their_order(session: Session, play: Play) -> None:
    script = [Event(100, 0, MIDI, bytes([0x90, 127 - n, 1])) for n in range(50)]
    with (
        MidiSource(session, [], hold=True, name="unplayed"),
        MidiSource(session, script, speed=0, hold=True) as source,
        Witness(session, source.node_id, ["control"]) as witness,
    ):
        source.begin()
        witness.await_first()
        source.play()
        source.await_end()
        source.hold()
        # The script's order at one frame is by bytes: it is sorted when it is written.
        assert [event.data for event in seen_events(witness.see())] == sorted(event.data for event in script)


@pytest.mark.parametrize("quantum", [32, 1024])
@pytest.mark.parametrize(("n_bytes", "part"), [(1, 3), (12, 4), (1024, 2000), (1024, 256), (65536, 4096)])
def test_sysex_of_any_length_with_clocks_between_its_parts(play: Play, n_bytes: int, part: int, quantum: int) -> None:
    offered, seen = play(long_sysex(n_bytes, part=part, step=quantum), quantum)
    assert seen == offered
    assert len(b"".join(event.data for event in seen if event.data != b"\xf8")) == n_bytes + 2


@pytest.mark.parametrize("kind", ["midi", "control"])
def test_both_kinds_of_port(play: Play, kind: str) -> None:
    offered, seen = play(random_tune(7, 300, 20_000), ports=[kind])
    assert seen == offered


@pytest.mark.parametrize("quantum", [64, 1024])
def test_packets_of_ump(play: Play, quantum: int) -> None:
    script = [packet for event in random_tune(8, 300, 20_000) for packet in as_ump(event, group=event.frame % 16)]
    offered, seen = play(script, quantum, ports=["ump"])
    assert seen == offered
    assert {event.kind for event in seen} == {UMP}


def test_sysex_as_packets() -> None:
    words = [
        [int.from_bytes(event.data[at : at + 4], "little") for at in (0, 4)]
        for event in as_ump(Event(5, 0, MIDI, b"\xf0" + bytes(range(14)) + b"\xf7"), group=3)
    ]
    assert words == [[0x33160001, 0x02030405], [0x33260607, 0x08090A0B], [0x33320C0D, 0]]


def test_a_click_and_a_note_at_one_frame(play: Play) -> None:
    frames = [0, 1023, 1024, 5000, 9999]
    script = [Event(frame, 0, CLICK, b"") for frame in frames]
    script += [Event(frame, 1, MIDI, b"\x90\x40\x7f") for frame in frames]
    offered, seen = play(script, channels=1)
    assert seen == offered


def test_several_ports_are_kept_apart(play: Play) -> None:
    script = [event for port in range(4) for event in random_tune(port, 100, 10_000, port)]
    offered, seen = play(script, ports=["midi"] * 4)
    assert seen == offered


def test_bytes_that_are_no_midi_arrive_too(play: Play) -> None:
    script = [Event(n * 10, 0, MIDI, data) for n, data in enumerate([b"", b"\x40", b"\xff" * 9, bytes(range(256))])]
    offered, seen = play(script)
    assert seen == offered


@pytest.mark.parametrize("overflow", ["larger", "zero"])
def test_a_burst_beyond_the_buffer_costs_its_cycle(session: Session, overflow: str) -> None:
    session.force_quantum(1024)
    script = [Event(0, 0, MIDI, b"\x90\x01\x01"), Event(5000, 0, MIDI, b"\x90\x02\x02")]
    script += [Event(2048 + n, 0, MIDI, b"\xf0" + bytes(1000) + b"\xf7") for n in range(100)]
    with (
        MidiSource(session, script, speed=0, hold=True, buffer_bytes=65536, overflow=overflow) as source,
        Witness(session, source.node_id, ["control"]) as witness,
    ):
        source.begin()
        witness.await_first()
        first = source.play()
        assert source.await_end() == 100
        source.hold()
        seen = seen_events(witness.see())
    assert [(event.frame - first, event.data) for event in seen] == [(0, b"\x90\x01\x01"), (5000, b"\x90\x02\x02")]


def test_a_burst_beyond_the_clients_buffer_is_seen_as_one(session: Session) -> None:
    session.force_quantum(1024)
    script = [Event(2048 + n, 0, MIDI, b"\xf0" + bytes(1000) + b"\xf7") for n in range(100)]
    script.append(Event(5000, 0, MIDI, b"\x90\x02\x02"))
    with (
        MidiSource(session, script, speed=0, hold=True, buffer_bytes=262144) as source,
        Witness(session, source.node_id, ["control"]) as witness,
    ):
        source.begin()
        witness.await_first()
        first = source.play()
        assert source.await_end() == 0
        source.hold()
        cycles = witness.see()
    burst = next(cycle for cycle in cycles if cycle.position == first + 2048)
    (port,) = burst.ports
    assert port.size > port.room or port.size == 0
    rest = seen_events(cycle for cycle in cycles if cycle is not burst)
    assert [(event.frame - first, event.data) for event in rest] == [(5000, b"\x90\x02\x02")]


def test_a_script_that_it_cannot_play_is_refused(session: Session) -> None:
    with pytest.raises(RigError, match="can't be played on these ports"):
        MidiSource(session, [Event(0, 3, MIDI, b"\x90\x01\x01")])
