"""A MIDI message in words, so that people see that it is their keyboard: "note on C4 97, channel 1". Pure."""

from __future__ import annotations

from collections.abc import Callable

from chaos.terms.counting import counted
from chaos.terms.messages import Message

__all__ = ["in_words", "note_name"]

_NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_CONTROLLERS = {
    0: "bank", 1: "modulation", 2: "breath", 4: "foot", 5: "portamento time", 6: "data entry", 7: "volume",
    8: "balance", 10: "pan", 11: "expression", 64: "sustain pedal", 65: "portamento", 66: "sostenuto pedal",
    67: "soft pedal", 68: "legato", 71: "resonance", 72: "release time", 73: "attack time", 74: "brightness",
    91: "reverb", 93: "chorus", 98: "NRPN fine", 99: "NRPN coarse", 100: "RPN fine", 101: "RPN coarse",
    120: "all sound off", 121: "reset all controllers", 122: "local control", 123: "all notes off",
}  # fmt: skip

_REGISTERED = {
    (0, 0): "pitch bend range", (0, 1): "fine tuning", (0, 2): "coarse tuning", (0, 3): "tuning program",
    (0, 4): "tuning bank", (0, 5): "modulation range", (0, 6): "MPE zone",
}  # fmt: skip
_PER_NOTE = {
    1: "modulation", 2: "breath", 3: "pitch", 7: "volume", 8: "balance", 10: "pan", 11: "expression",
}  # fmt: skip


def note_name(number: int) -> str:
    """60 is C4: middle C, as most programs call it (some call it C3)."""
    return f"{_NOTES[number % 12]}{number // 12 - 1}"


def in_words(message: Message) -> str:
    """The message as a person would say it. Channels count from 1, UMP groups too; programs as they are sent, from 0.

    Values of MIDI 2 are on MIDI 1's scale, to two places. A message that makes no sense is given as its bytes.
    """
    words = _say(message)
    if message.channel is not None and message.is_valid:
        words += f", channel {message.channel + 1}"
    if message.group:
        words += f", group {message.group + 1}"
    return words


def _say(message: Message) -> str:
    data, name = message.data, message.type.replace("_", " ")
    if not message.is_valid:
        return f"not MIDI: {_hex(data)}" if message.type == "invalid" else f"part of a system exclusive, {_size(data)}"
    if message.type == "sysex":
        return f"system exclusive, {_size(data)}"
    is_midi2 = len(data) == 8 and data[0] >> 4 == 4
    if is_midi2 and message.type in _SAY_MIDI2:
        return _SAY_MIDI2[message.type](name, data[2], data[3], int.from_bytes(data[4:], "big"))
    say = _SAY.get(message.type)
    if message.channel is None or say is None:
        return f"{name} {_hex(data)}" if len(data) > 3 else name
    return say(name, *(_of_midi2(message) if is_midi2 else _of_midi1(data)))


def _of_midi1(data: bytes) -> tuple[int, float, float]:
    """What it is about, its value from 0 to 127, and that of a pitch bend from -1 to 1."""
    bend = (data[1] | data[-1] << 7) / 8192 - 1
    return data[1], data[-1], bend


def _of_midi2(message: Message) -> tuple[int, float, float]:
    raw = message.data
    n_bytes = 2 if message.type in ("note_on", "note_off") else 4
    value = int.from_bytes(raw[4 : 4 + n_bytes], "big")
    if message.type == "program_change":
        return raw[4], 0, 0
    return raw[2], min(127, value / (1 << (8 * n_bytes - 7))), value / (1 << 31) - 1


def _note(name: str, index: int, value: float, _: float) -> str:
    return f"{name} {note_name(index)} {_plain(value)}"


def _controller(name: str, index: int, value: float, _: float) -> str:
    called = f" ({_CONTROLLERS[index]})" if index in _CONTROLLERS else ""
    return f"controller {index}{called} {_plain(value)}"


def _program(name: str, index: int, value: float, _: float) -> str:
    return f"program {index}"


def _whole_channel(name: str, index: int, value: float, _: float) -> str:
    return f"{name} {_plain(value)}"


def _bend(name: str, index: int, _: float, bend: float) -> str:
    return f"{name} {bend:+.0%}"


_SAY: dict[str, Callable[[str, int, float, float], str]] = {
    "note_on": _note,
    "note_off": _note,
    "poly_pressure": _note,
    "control_change": _controller,
    "program_change": _program,
    "channel_pressure": _whole_channel,
    "pitch_bend": _bend,
}


def _numbered(name: str, bank: int, index: int, value: int) -> str:
    """A controller by bank and index, which MIDI 1 calls RPN or NRPN."""
    called = _REGISTERED.get((bank, index)) if name.startswith("registered") else None
    return f"{name} {bank}/{index}{f' ({called})' if called else ''} {_plain(min(127, value / (1 << 25)))}"


def _relative(name: str, bank: int, index: int, value: int) -> str:
    change = (value - (1 << 32) if value >> 31 else value) / (1 << 25)
    return f"{name} {bank}/{index} {'-' if change < 0 else '+'}{_plain(abs(change))}"


def _of_note(name: str, note: int, index: int, value: int) -> str:
    called = f" ({_PER_NOTE[index]})" if name.startswith("registered") and index in _PER_NOTE else ""
    kind = name.removesuffix(" per note controller")
    return f"{kind} controller {index}{called} of note {note_name(note)} {_plain(min(127, value / (1 << 25)))}"


def _bend_of_note(_: str, note: int, __: int, value: int) -> str:
    return f"pitch bend of note {note_name(note)} {value / (1 << 31) - 1:+.0%}"


def _managed(_: str, note: int, flags: int, __: int) -> str:
    does = [word for bit, word in ((2, "detach"), (1, "reset")) if flags & bit]
    return f"controllers of note {note_name(note)}: {' and '.join(does) or 'nothing to do'}"


_SAY_MIDI2: dict[str, Callable[[str, int, int, int], str]] = {
    "registered_controller": _numbered,
    "assignable_controller": _numbered,
    "relative_registered_controller": _relative,
    "relative_assignable_controller": _relative,
    "registered_per_note_controller": _of_note,
    "assignable_per_note_controller": _of_note,
    "per_note_pitch_bend": _bend_of_note,
    "per_note_management": _managed,
}


def _plain(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _size(data: bytes) -> str:
    return counted(len(data), "byte")


def _hex(data: bytes, most: int = 12) -> str:
    return data[:most].hex(" ") + (" ..." if len(data) > most else "") if data else "no bytes"
