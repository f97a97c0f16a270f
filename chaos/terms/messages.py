"""MIDI messages of the events that carry them: what each says, system exclusive ones put together. Pure.

Events are what one port sent, in order: bytes of MIDI 1, or words of the Universal MIDI Packet (UMP).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

__all__ = ["MIDI1", "UMP", "Message", "messages_by_frame", "messages_of"]

MIDI1: Final = 2
UMP: Final = 4
"""The kinds of events, as PipeWire numbers them."""

_CHANNEL = {
    0x8: ("note_off", 2), 0x9: ("note_on", 2), 0xA: ("poly_pressure", 2), 0xB: ("control_change", 2),
    0xC: ("program_change", 1), 0xD: ("channel_pressure", 1), 0xE: ("pitch_bend", 2),
}  # fmt: skip
_SYSTEM = {
    0xF1: ("quarter_frame", 1), 0xF2: ("song_position", 2), 0xF3: ("song_select", 1), 0xF6: ("tune_request", 0),
    0xF8: ("clock", 0), 0xFA: ("start", 0), 0xFB: ("continue", 0), 0xFC: ("stop", 0), 0xFE: ("active_sensing", 0),
    0xFF: ("reset", 0),
}  # fmt: skip
_WORDS = (1, 1, 1, 2, 2, 4, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4)
_MIDI2 = {
    0x0: "registered_per_note_controller", 0x1: "assignable_per_note_controller", 0x2: "registered_controller",
    0x3: "assignable_controller", 0x4: "relative_registered_controller", 0x5: "relative_assignable_controller",
    0x6: "per_note_pitch_bend", 0x8: "note_off", 0x9: "note_on", 0xA: "poly_pressure", 0xB: "control_change",
    0xC: "program_change", 0xD: "channel_pressure", 0xE: "pitch_bend", 0xF: "per_note_management",
}  # fmt: skip


class Message(NamedTuple):
    """One message. `frame` is that of its first byte, `kind` MIDI1 or UMP, `type` what it is.

    `data` are its bytes: of MIDI 1, and of a UMP that carries MIDI 1, as MIDI 1 has them (a sysex from F0 to F7);
    of any other UMP its words, big-endian, as the standard writes them. `group` is the UMP's (0 to 15), `channel`
    counts from 0; None where there is none. What makes no sense is of type "invalid"; "sysex_part" is a system
    exclusive message whose begin or end is missing.
    """

    frame: int
    kind: int
    type: str
    data: bytes
    channel: int | None = None
    group: int | None = None

    @property
    def is_valid(self) -> bool:
        return self.type not in ("invalid", "sysex_part")


def messages_of(events: Iterable[tuple[int, int, bytes]]) -> Iterator[Message]:
    """The messages of these events (frame, kind, bytes), in the order in which they end.

    Whatever bytes come, each is in one message: nothing is left out and nothing raises.
    """
    for ended, _ in _ended(events):
        yield from ended


def messages_by_frame(events: Iterable[tuple[int, int, bytes]]) -> Iterator[Message]:
    """The messages of these events, which are by frame, by frame too; those of one frame in the order in which they
    end. What comes while a sysex lasts waits for its end: that one began before."""
    held: list[Message] = []
    for ended, is_whole in _ended(events):
        held += ended
        if is_whole:
            yield from sorted(held, key=lambda message: message.frame)
            held.clear()


def _ended(events: Iterable[tuple[int, int, bytes]]) -> Iterator[tuple[list[Message], bool]]:
    """What has ended with each event, and whether nothing lasts then."""
    midi1, ump = _Bytes(), _Packets()
    for frame, kind, data in events:
        ended = list(ump.take(frame, data) if kind == UMP else midi1.take(frame, data))
        yield ended, not (midi1.lasts or ump.lasts)
    yield [*midi1.rest(), *ump.rest()], True


class _Bytes:
    """MIDI 1. A real-time byte may come between any two others; a message does not go over from one event to the next,
    but for sysex. No running status: PipeWire's bridges write each message whole."""

    def __init__(self) -> None:
        self._sysex = bytearray()
        self._began = 0

    @property
    def lasts(self) -> bool:
        """Whether a sysex has begun and not ended."""
        return bool(self._sysex)

    def take(self, frame: int, data: bytes) -> Iterator[Message]:
        if not data:
            yield Message(frame, MIDI1, "invalid", b"")
        at = 0
        while at < len(data):
            byte = data[at]
            if byte >= 0xF8:
                name = _SYSTEM[byte][0] if byte in _SYSTEM else "invalid"
                yield Message(frame, MIDI1, name, data[at : at + 1])
                at += 1
            elif byte < 0x80 or byte in (0xF0, 0xF7):
                if byte == 0xF0:
                    yield from self.rest()
                self._began = self._began if self._sysex else frame
                self._sysex.append(byte)
                at += 1
                if byte == 0xF7:
                    name = "sysex" if self._sysex[0] == 0xF0 else "sysex_part"
                    yield Message(self._began, MIDI1, name, bytes(self._sysex))
                    self._sysex.clear()
            else:
                yield from self.rest()
                message = _short(frame, data, at)
                yield message
                at += len(message.data)

    def rest(self) -> Iterator[Message]:
        if self._sysex:
            name = "sysex_part" if self._sysex[0] == 0xF0 else "invalid"
            yield Message(self._began, MIDI1, name, bytes(self._sysex))
            self._sysex.clear()


def _short(frame: int, data: bytes, at: int) -> Message:
    """The message that begins at this byte; what follows up to the next status byte, where none does."""
    status = data[at]
    name, n_data = _CHANNEL.get(status >> 4) or _SYSTEM.get(status) or ("invalid", 0)
    end = at + 1
    while end < len(data) and data[end] < 0x80 and (end - at <= n_data or name == "invalid"):
        end += 1
    if name == "invalid" or end - at != n_data + 1:
        return Message(frame, MIDI1, "invalid", data[at:end])
    return Message(frame, MIDI1, name, data[at:end], status & 15 if status < 0xF0 else None)


class _Packets:
    """UMP. Sysex comes six bytes at a time, each group's by itself."""

    def __init__(self) -> None:
        self._sysex: dict[int, tuple[int, bytearray]] = {}

    @property
    def lasts(self) -> bool:
        """Whether a sysex of any group has begun and not ended."""
        return bool(self._sysex)

    def take(self, frame: int, data: bytes) -> Iterator[Message]:
        whole = len(data) // 4 * 4
        words = [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, whole, 4)]
        at = 0
        while at < len(words):
            n_words = _WORDS[words[at] >> 28]
            packet = words[at : at + n_words]
            at += n_words
            if len(packet) < n_words:
                yield Message(frame, UMP, "invalid", _big_endian(packet))
            else:
                yield from self._packet(frame, packet)
        if whole < len(data) or not data:
            yield Message(frame, UMP, "invalid", data[whole:])

    def _packet(self, frame: int, packet: list[int]) -> Iterator[Message]:
        first = packet[0]
        what, group, status = first >> 28, first >> 24 & 15, first >> 16 & 0xFF
        raw = _big_endian(packet)
        if what == 0x3:
            yield from self._sysex_part(frame, group, raw)
        elif what in (0x1, 0x2):
            yield _of_midi1(frame, group, status, raw[1:4], is_system=what == 0x1)
        elif what == 0x4:
            yield Message(frame, UMP, _MIDI2.get(status >> 4, "invalid"), raw, status & 15, group)
        elif what == 0x0:
            yield Message(frame, UMP, "utility", raw)
        elif what in (0x5, 0xD):
            yield Message(frame, UMP, "data" if what == 0x5 else "flex_data", raw, None, group)
        elif what == 0xF:
            yield Message(frame, UMP, "stream", raw)
        else:
            yield Message(frame, UMP, "invalid", raw)

    def _sysex_part(self, frame: int, group: int, raw: bytes) -> Iterator[Message]:
        status, n_bytes = raw[1] >> 4, raw[1] & 15
        body = raw[2 : 2 + n_bytes]
        if status > 3 or n_bytes > 6:
            yield Message(frame, UMP, "invalid", raw, None, group)
            return
        if status in (0, 1):
            yield from self._broken_off(group)
            self._sysex[group] = frame, bytearray(b"\xf0")
        if group not in self._sysex:  # its begin came before these events
            self._sysex[group] = frame, bytearray()
        began, so_far = self._sysex[group]
        so_far += body
        if status in (0, 3):
            del self._sysex[group]
            name = "sysex" if so_far[:1] == b"\xf0" else "sysex_part"
            name = name if all(byte < 0x80 for byte in so_far[1:]) else "invalid"
            yield Message(began, UMP, name, bytes(so_far) + b"\xf7", None, group)

    def _broken_off(self, group: int) -> Iterator[Message]:
        if group in self._sysex:
            began, so_far = self._sysex.pop(group)
            yield Message(began, UMP, "sysex_part", bytes(so_far), None, group)

    def rest(self) -> Iterator[Message]:
        for group in sorted(self._sysex):
            yield from self._broken_off(group)


def _of_midi1(frame: int, group: int, status: int, raw: bytes, *, is_system: bool) -> Message:
    """A UMP that carries a message of MIDI 1."""
    name, n_data = (_SYSTEM.get(status) if is_system else _CHANNEL.get(status >> 4)) or ("invalid", 2)
    data = raw[: 1 + n_data]
    if any(byte > 0x7F for byte in data[1:]):
        name = "invalid"
    channel = None if is_system or name == "invalid" else status & 15
    return Message(frame, UMP, name, data, channel, group)


def _big_endian(words: list[int]) -> bytes:
    return b"".join(word.to_bytes(4, "big") for word in words)
