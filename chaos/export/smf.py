"""A Standard MIDI File in which one tick is one frame. Pure: from messages to bytes, and what there is to say of them.

mido is the well-kept library for these files and reads them back in the tests. It does not write them: it refuses
real-time messages, has no place for what is not MIDI 1, and makes an object of every event.

What a file of this kind has no place for is kept in it all the same, where every program passes over it: as a
"sequencer specific" event (FF 7F) of the form 7D "chaosd" KIND BYTES. KIND is 02 for bytes of MIDI 1, 04 for words of
the Universal MIDI Packet, big-endian. So are real-time bytes (a clock, active sensing): the standard's own way, an
escape, is read as a broken system exclusive message by some, and played back by others.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import gcd
from typing import NamedTuple

import msgspec

from chaos.export.midi1 import as_midi1
from chaos.terms.errors import FormatUnsupported
from chaos.terms.messages import MIDI1, UMP, Message

__all__ = ["MARK", "NOTE", "Label", "Loss", "Names", "Ticks", "exact_ticks", "musical_ticks", "smf"]

TAG = b"\x7dchaosd"
NOTE, MARK = 0x01, 0x06
"""The kinds of labels: a text, and a marker, which programs show above the bars."""

_TRACK_NAME, _DEVICE_NAME, _END, _TEMPO, _OWN = 0x03, 0x09, 0x2F, 0x51, 0x7F
_MAX_DELTA, _MAX_DIVISION, _MAX_TEMPO = (1 << 28) - 1, (1 << 15) - 1, (1 << 24) - 1
_MICRO = 1_000_000
_TEMPO_US = 500_000
_MAX_TRACK = (1 << 32) - 1
_MUSICAL_DIVISION = 15_360


class Ticks(NamedTuple):
    """How a file counts: `division` ticks a quarter note of `tempo_us` microseconds. `per_frame` is a fraction: how
    many ticks a frame is. `drift_ppm` is by how much the file's seconds differ from the recording's."""

    division: int
    tempo_us: int
    per_frame: tuple[int, int]
    drift_ppm: float

    @property
    def are_frames(self) -> bool:
        return self.per_frame[0] == self.per_frame[1]

    def at(self, frame: int) -> int:
        """The tick that is nearest to the frame."""
        ticks, frames = self.per_frame
        return (2 * frame * ticks + frames) // (2 * frames)

    def shift(self, frame: int) -> float:
        """By how many frames that tick is beside it."""
        ticks, frames = self.per_frame
        return 0.0 if self.are_frames else abs(self.at(frame) * frames - frame * ticks) / ticks


def exact_ticks(sample_rate: int) -> Ticks:
    """One tick is one frame. The seconds are right too, but for rates that have too little in common with a million."""
    common = gcd(sample_rate, _MICRO)
    division, tempo = sample_rate // common, _MICRO // common
    if division > _MAX_DIVISION:
        division = min(range(_MAX_DIVISION // 2, _MAX_DIVISION + 1), key=lambda d: abs(_drift(sample_rate, d)))
        return Ticks(division, round(division * _MICRO / sample_rate), (1, 1), _drift(sample_rate, division))
    tempos = [_TEMPO_US >> halved for halved in range(6)]  # 120 beats a minute, else 240 and so on
    fitting = (us for us in tempos if us % tempo == 0 and us // tempo * division <= _MAX_DIVISION)
    most = max(1, min(_MAX_DIVISION // division, _TEMPO_US // tempo))
    chosen = next(fitting, most * tempo)
    return Ticks(chosen // tempo * division, chosen, (1, 1), 0.0)


def musical_ticks(sample_rate: int, beats_per_minute: float) -> Ticks:
    """Bars of that tempo from the first frame on; events go to the nearest tick."""
    tempo = min(max(round(60_000_000 / beats_per_minute), 1), _MAX_TEMPO)
    per_frame = _MUSICAL_DIVISION * 1_000_000, sample_rate * tempo
    return Ticks(_MUSICAL_DIVISION, tempo, per_frame, 0.0)


def _drift(sample_rate: int, division: int) -> float:
    """By how many parts in a million seconds are off, where the tempo is the nearest there is."""
    exact = division * _MICRO / sample_rate
    return (round(exact) / exact - 1) * 1e6


class Names(NamedTuple):
    """What the file says of itself: the take, the device as a person knows it, its port, and further lines of text."""

    title: str
    device: str
    port: str
    texts: Sequence[str] = ()


class Label(NamedTuple):
    """A text at a frame; `kind` is NOTE or MARK."""

    frame: int
    kind: int
    text: str


class Loss(msgspec.Struct, frozen=True):
    """What became of the messages: `n_events` are in the file as MIDI 1.

    `translated` counts those of MIDI 2 by type, of which `rounded` say less than they did; `set_aside` counts those by
    type that only stand in sequencer specific events; `invalid` of them made no sense when they came. The packets of
    what was rounded stand beside it. `max_shift_frames` is by how much an event was moved to a tick at most.
    """

    n_events: int
    translated: Mapping[str, int]
    rounded: Mapping[str, int]
    set_aside: Mapping[str, int]
    invalid: int
    max_shift_frames: float
    drift_ppm: float

    @property
    def is_exact(self) -> bool:
        """Whether what programs play is what was recorded, at its frames."""
        return not (self.rounded or self.set_aside or self.max_shift_frames or self.drift_ppm)


def smf(
    messages: Iterable[Message], n_frames: int, ticks: Ticks, names: Names, labels: Sequence[Label] = ()
) -> tuple[bytes, Loss]:
    """The file's bytes. Frames of messages and labels count from the file's begin, from 0 to `n_frames`.

    The first track has tempo, names and labels; then there is one for the messages, or one for each UMP group. A
    system exclusive message stands whole at the frame at which it began. Raises FormatUnsupported beyond 4 GiB a track.
    """
    count = _Count(ticks)
    tracks: dict[int | None, _Track] = {}
    for message in sorted(messages, key=lambda each: each.frame):
        group = message.group
        if group not in tracks:
            tracks[group] = _Track(ticks.at)
            tracks[group].meta(0, _TRACK_NAME, _text(names.device + ("" if group is None else f", group {group + 1}")))
            tracks[group].meta(0, _DEVICE_NAME, _text(names.port))
        count.take(message, tracks[group])
    if not tracks:
        tracks[None] = _Track(ticks.at)
        tracks[None].meta(0, _TRACK_NAME, _text(names.device))
        tracks[None].meta(0, _DEVICE_NAME, _text(names.port))
    first = _Track(ticks.at)
    first.meta(0, _TRACK_NAME, _text(names.title))
    first.meta(0, _TEMPO, ticks.tempo_us.to_bytes(3, "big"))
    for text in names.texts:
        first.meta(0, NOTE, _text(text))
    for label in sorted(labels, key=lambda each: each.frame):
        first.meta(label.frame, label.kind, _text(label.text))
    ordered = [first, *(tracks[group] for group in sorted(tracks, key=lambda each: -1 if each is None else each))]
    header = struct.pack(">4sIHHH", b"MThd", 6, 1, len(ordered), ticks.division)
    return header + b"".join(track.whole(n_frames) for track in ordered), count.loss()


class _Track:
    def __init__(self, tick_of: Callable[[int], int]) -> None:
        self._tick_of = tick_of
        self._data = bytearray()
        self._tick = 0

    def put(self, frame: int, event: bytes) -> None:
        """A delta of more than 28 bits leaves the standard: empty texts stand between."""
        tick = max(self._tick_of(frame), self._tick)
        while tick - self._tick > _MAX_DELTA:
            self._data += _variable(_MAX_DELTA) + bytes((0xFF, NOTE, 0))
            self._tick += _MAX_DELTA
        self._data += _variable(tick - self._tick) + event
        self._tick = tick

    def meta(self, frame: int, kind: int, data: bytes) -> None:
        self.put(frame, bytes((0xFF, kind)) + _variable(len(data)) + data)

    def whole(self, n_frames: int) -> bytes:
        self.meta(n_frames, _END, b"")
        if len(self._data) > _MAX_TRACK:
            hint = "save a shorter range with --from and --to"
            raise FormatUnsupported("a MIDI file can't hold 4 GiB of events", hint=hint)
        return struct.pack(">4sI", b"MTrk", len(self._data)) + self._data


class _Count:
    """Puts messages into tracks, and keeps account of them."""

    def __init__(self, ticks: Ticks) -> None:
        self._ticks = ticks
        self._n_events = 0
        self._translated: Counter[str] = Counter()
        self._rounded: Counter[str] = Counter()
        self._set_aside: Counter[str] = Counter()
        self._invalid = 0
        self._max_shift = 0.0

    def take(self, message: Message, track: _Track) -> None:
        self._invalid += not message.is_valid
        self._max_shift = max(self._max_shift, self._ticks.shift(message.frame))
        if is_midi2(message):
            self._translate(message, track)
        elif message.type == "sysex":
            body = message.data[1:]
            track.put(message.frame, b"\xf0" + _variable(len(body)) + body)
            self._n_events += 1
        elif message.is_valid and message.channel is not None:
            track.put(message.frame, message.data)
            self._n_events += 1
        else:
            track.meta(message.frame, _OWN, own_event(message))
            self._set_aside[message.type] += 1

    def _translate(self, message: Message, track: _Track) -> None:
        translation = as_midi1(message)
        if translation is None or not translation.is_exact:
            track.meta(message.frame, _OWN, own_event(message))
        if translation is None:
            self._set_aside[message.type] += 1
            return
        for data in translation.messages:
            track.put(message.frame, data)
        self._n_events += len(translation.messages)
        self._translated[message.type] += 1
        self._rounded[message.type] += not translation.is_exact

    def loss(self) -> Loss:
        return Loss(
            n_events=self._n_events,
            translated=dict(self._translated),
            rounded={name: n for name, n in self._rounded.items() if n},
            set_aside=dict(self._set_aside),
            invalid=self._invalid,
            max_shift_frames=self._max_shift,
            drift_ppm=self._ticks.drift_ppm,
        )


def is_midi2(message: Message) -> bool:
    """A channel message of MIDI 2, of which MIDI 1 may have another form: its first four bits are a 4."""
    return message.kind == UMP and message.channel is not None and len(message.data) == 8 and message.data[0] >> 4 == 4


def own_event(message: Message) -> bytes:
    """What a sequencer specific event holds of a message that MIDI files have no place for."""
    is_words = message.kind == UMP and message.data and len(message.data) % 4 == 0 and message.type != "sysex_part"
    return TAG + bytes((UMP if is_words else MIDI1,)) + message.data


def _variable(number: int) -> bytes:
    """A variable-length quantity: 7 bits a byte, all but the last with the eighth set."""
    found = bytearray((number & 0x7F,))
    while number := number >> 7:
        found.insert(0, number & 0x7F | 0x80)
    return bytes(found)


def _text(text: str) -> bytes:
    return text.encode("utf-8", "replace")
