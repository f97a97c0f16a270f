"""A device that plays events at frames that are known, the scripts that it plays, and what a client saw of them."""

from __future__ import annotations

import itertools
import random
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rig.child import Child
from rig.programs import program
from rig.session import RigError, Session
from rig.witness import Cycle

__all__ = ["CLICK", "MIDI", "UMP", "Event", "MidiSource", "as_ump", "long_sysex", "random_tune", "seen_events"]

CLICK, MIDI, UMP = 0, 2, 4
"""The kinds of events: a click in an audio port; bytes of MIDI 1; words of the Universal MIDI Packet."""

_SENSING = {MIDI: b"\xfe", UMP: (0x10FE0000).to_bytes(4, sys.byteorder)}
_RECORD = struct.Struct("<QIII")
_POD = struct.Struct("<II")
_SEQUENCE = 16
_numbers = itertools.count(1)


@dataclass(frozen=True, order=True)
class Event:
    """`data` at `frame` of a script (0: its first), or at that position of the graph's clock; `port` counts from 0."""

    frame: int
    port: int
    kind: int
    data: bytes

    def moved(self, n_frames: int) -> Event:
        return Event(self.frame + n_frames, self.port, self.kind, self.data)


class MidiSource(Child):
    """A MIDI device that runs in a session; ready to be linked once made.

    `ports` are the kinds of its event ports ("midi", "control", "ump"), after `channels` of audio that clicks play
    in. It plays `script` when told to (`play`); before that each event port brings one active sensing a cycle. What
    `buffer_bytes` and `overflow` ("larger" or "zero") mean stands in midi-source.c; the rest is as for a
    `FaultyDriver`. Raises `RigError`, also for a script that its ports can't play.
    """

    def __init__(
        self,
        session: Session,
        script: Iterable[Event],
        *,
        name: str = "midi-source",
        ports: Sequence[str] = ("midi",),
        channels: int = 0,
        rate: int = 48000,
        start: int = 480_000,
        speed: float = 1,
        patience_ms: int = 1000,
        buffer_bytes: int = 65536,
        overflow: str = "larger",
        hold: bool = False,
        properties: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self.kinds = ["audio"] * channels + list(ports)
        path = session.root / f"script-{next(_numbers)}"
        path.write_bytes(b"".join(map(_record, sorted(script))))
        command = [str(program("midi-source")), "--name", name, "--channels", str(channels), "--rate", str(rate)]
        command += ["--start", str(start), "--speed", str(speed), "--patience-ms", str(patience_ms)]
        command += ["--buffer-bytes", str(buffer_bytes), "--overflow", overflow, *(["--hold"] if hold else [])]
        for kind in ports:
            command += ["--port", kind]
        for key, value in (properties or {}).items():
            command += ["--property", f"{key}={value}"]
        super().__init__(session, name, *command, str(path))
        self.node_id = int(self.wait_for("ready", timeout_s)["node_id"])

    def begin(self) -> None:
        """Lets it begin, if it is held."""
        self.say("begin")

    def hold(self) -> None:
        """Lets it finish its cycle and begin no other before `begin`."""
        self.say("hold")
        self.wait_for("held")

    def play(self) -> int:
        """Plays the script from its beginning: the position of its frame 0."""
        self.say("play")
        return int(self.wait_for("done", command="play")["position"])

    def await_end(self, timeout_s: float = 60.0) -> int:
        """Waits until the script is at its end: how many of its events were lost for want of room."""
        return int(self.wait_for("played", timeout_s)["overflowed"])


def seen_events(cycles: Iterable[Cycle], *, sensing: bool = False) -> list[Event]:
    """The events, and clicks, that a witness saw, at positions of the clock, in the order in which ports had them.

    Active sensing is left out, unless asked for. Raises `RigError` for a buffer that holds no sequence.
    """
    found: list[Event] = []
    for cycle in cycles:
        for port, seen in enumerate(cycle.ports):
            if seen.room and _is_sequence(seen.data):
                events = [Event(cycle.position + at, port, kind, data) for at, kind, data in _controls(seen.data)]
            elif len(seen.data) == 4 * cycle.duration:
                clicks = [at for at, sample in enumerate(seen.samples) if sample]
                events = [Event(cycle.position + at, port, CLICK, b"") for at in clicks]
            elif seen.is_empty or not seen.data:
                continue
            else:
                raise RigError(f"port {port} had no sequence at {cycle.position}: {seen.data[:16].hex()}")
            found += [event for event in events if sensing or event.data != _SENSING.get(event.kind)]
    return found


def random_tune(seed: int, n_events: int, n_frames: int, port: int = 0) -> list[Event]:
    """So many valid MIDI 1 messages of all kinds at any of so many frames, several at one frame among them."""
    rng = random.Random(seed)
    frames = sorted(rng.randrange(n_frames) for _ in range(n_events))
    return [Event(frame, port, MIDI, _any_message(rng)) for frame in frames]


def long_sysex(n_bytes: int, *, part: int, step: int, port: int = 0, first: int = 0) -> list[Event]:
    """A system exclusive message of so many data bytes in parts, `step` frames apart, a clock byte between each two."""
    whole = b"\xf0" + bytes(i * 7 % 128 for i in range(n_bytes)) + b"\xf7"
    events: list[Event] = []
    for number, at in enumerate(range(0, len(whole), part)):
        events.append(Event(first + number * step, port, MIDI, whole[at : at + part]))
        if at + part < len(whole):
            events.append(Event(first + number * step + step // 2, port, MIDI, b"\xf8"))
    return events


def as_ump(event: Event, group: int = 0) -> list[Event]:
    """The same message of MIDI 1 as Universal MIDI Packets: one for channel and system messages, sysex 6 bytes each."""
    data = event.data
    if data[0] == 0xF0:
        body = data[1:-1]
        parts = [body[at : at + 6] for at in range(0, len(body), 6)] or [b""]
        packets: list[tuple[int, ...]] = []
        for number, part in enumerate(parts):
            status = 0 if len(parts) == 1 else 1 if number == 0 else 3 if number == len(parts) - 1 else 2
            padded = part.ljust(6, b"\0")
            words = (
                0x3 << 28 | group << 24 | status << 20 | len(part) << 16 | padded[0] << 8 | padded[1],
                int.from_bytes(padded[2:], "big"),
            )
            packets.append(words)
    else:
        message_type = 0x1 if data[0] >= 0xF0 else 0x2
        padded = data.ljust(3, b"\0")
        packets = [(message_type << 28 | group << 24 | int.from_bytes(padded, "big"),)]
    return [
        Event(event.frame, event.port, UMP, b"".join(word.to_bytes(4, sys.byteorder) for word in words))
        for words in packets
    ]


def _any_message(rng: random.Random) -> bytes:
    status = rng.choice(
        [0x80, 0x90, 0xA0, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0, 0xF1, 0xF2, 0xF3, 0xF6, 0xF8, 0xFA, 0xFB, 0xFC]
    )
    if status == 0xF0:
        return bytes([0xF0, *(rng.randrange(128) for _ in range(rng.randrange(1, 40))), 0xF7])
    if status > 0xF0:
        return bytes([status, *(rng.randrange(128) for _ in range({0xF1: 1, 0xF2: 2, 0xF3: 1}.get(status, 0)))])
    n_data = 1 if status in (0xC0, 0xD0) else 2
    return bytes([status | rng.randrange(16), *(rng.randrange(128) for _ in range(n_data))])


def _record(event: Event) -> bytes:
    whole = _RECORD.pack(event.frame, event.port, event.kind, len(event.data)) + event.data
    return whole + bytes(-len(whole) % 8)


def _is_sequence(data: bytes) -> bool:
    if len(data) < 16:
        return False
    size, kind = _POD.unpack_from(data)
    return bool(kind == _SEQUENCE and 8 + size <= len(data))


def _controls(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Of a sequence's pod: offset, kind and bytes of each control."""
    end, at = 8 + _POD.unpack_from(data)[0], 16
    while at + 16 <= end:
        offset, kind = _POD.unpack_from(data, at)
        size, _ = _POD.unpack_from(data, at + 8)
        yield offset, kind, data[at + 16 : at + 16 + size]
        at += 16 + -(-size // 8) * 8
