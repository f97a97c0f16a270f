"""Channel messages of MIDI 2 as MIDI 1 has them, after the translation that the UMP specification gives. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from chaos.terms.messages import Message

__all__ = ["Translation", "as_midi1", "scaled_up"]


class Translation(NamedTuple):
    """`messages` of MIDI 1 that mean the same, in order. `is_exact` is False where they say less: finer steps of a
    value that MIDI 1 has not, or an attribute of a note."""

    messages: tuple[bytes, ...]
    is_exact: bool


def as_midi1(message: Message) -> Translation | None:
    """Of a MIDI 2 channel message; None where MIDI 1 has nothing like it (per-note and relative controllers)."""
    translate = _TRANSLATIONS.get(message.type)
    return translate(message.channel or 0, message.data) if translate is not None else None


def scaled_up(value: int, n_bits: int, to_bits: int) -> int:
    """A value of few bits as MIDI 2 writes it in many: least, middle and greatest stay what they are."""
    shift = to_bits - n_bits
    result = value << shift
    if value <= 1 << (n_bits - 1):
        return result
    n_repeated = n_bits - 1
    repeated = value & ((1 << n_repeated) - 1)
    repeated = repeated << (shift - n_repeated) if shift > n_repeated else repeated >> (n_repeated - shift)
    while repeated:
        result |= repeated
        repeated >>= n_repeated
    return result


def _less(value: int, n_bits: int, to_bits: int) -> tuple[int, bool]:
    """The value in fewer bits, and whether all of it is there."""
    small = value >> (n_bits - to_bits)
    return small, scaled_up(small, to_bits, n_bits) == value


def _number(raw: bytes) -> int:
    return int.from_bytes(raw[4:8], "big")


def _note(status: int) -> Callable[[int, bytes], Translation]:
    def translate(channel: int, raw: bytes) -> Translation:
        velocity, is_exact = _less(_number(raw) >> 16, 16, 7)
        if status == 0x90 and velocity == 0:  # a velocity of 0 is a note's end in MIDI 1
            velocity, is_exact = 1, False
        has_attribute = raw[3] != 0
        return Translation((bytes((status | channel, raw[2] & 0x7F, velocity)),), is_exact and not has_attribute)

    return translate


def _indexed(status: int) -> Callable[[int, bytes], Translation]:
    def translate(channel: int, raw: bytes) -> Translation:
        value, is_exact = _less(_number(raw), 32, 7)
        return Translation((bytes((status | channel, raw[2] & 0x7F, value)),), is_exact)

    return translate


def _pressure(channel: int, raw: bytes) -> Translation:
    value, is_exact = _less(_number(raw), 32, 7)
    return Translation((bytes((0xD0 | channel, value)),), is_exact)


def _bend(channel: int, raw: bytes) -> Translation:
    value, is_exact = _less(_number(raw), 32, 14)
    return Translation((bytes((0xE0 | channel, value & 0x7F, value >> 7)),), is_exact)


def _program(channel: int, raw: bytes) -> Translation:
    program = bytes((0xC0 | channel, raw[4] & 0x7F))
    if not raw[3] & 1:
        return Translation((program,), is_exact=True)
    control = 0xB0 | channel
    bank = bytes((control, 0, raw[6] & 0x7F)), bytes((control, 32, raw[7] & 0x7F))
    return Translation((*bank, program), is_exact=True)


def _numbered(coarse: int) -> Callable[[int, bytes], Translation]:
    """A registered (101) or assignable (99) controller: its number by two controllers, its value by two more."""

    def translate(channel: int, raw: bytes) -> Translation:
        value, is_exact = _less(_number(raw), 32, 14)
        pairs = (coarse, raw[2] & 0x7F), (coarse - 1, raw[3] & 0x7F), (6, value >> 7), (38, value & 0x7F)
        return Translation(tuple(bytes((0xB0 | channel, *pair)) for pair in pairs), is_exact)

    return translate


_TRANSLATIONS: dict[str, Callable[[int, bytes], Translation]] = {
    "note_off": _note(0x80),
    "note_on": _note(0x90),
    "poly_pressure": _indexed(0xA0),
    "control_change": _indexed(0xB0),
    "program_change": _program,
    "channel_pressure": _pressure,
    "pitch_bend": _bend,
    "registered_controller": _numbered(101),
    "assignable_controller": _numbered(99),
}
