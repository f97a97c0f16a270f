"""What a MIDI stream has heard lately, in words: so that people see that it is the right keyboard. Pure."""

from __future__ import annotations

from chaos.protocol.answers import MidiActivity
from chaos.terms.form import records
from chaos.terms.messages import Message, messages_of
from chaos.terms.midiwords import in_words

__all__ = ["activity_of"]

_IDLE = ("clock", "active_sensing")  # what devices send by themselves


def activity_of(
    raw: bytes, chunk: int, filled: int, chunk_frames: int, sample_rate: int, before: MidiActivity | None
) -> MidiActivity:
    """`raw`: the records of the chunk that is being filled, up to its frame `filled`; `before`: what was told last.

    Events per second are those of the last second, as far as it lies in the chunk. The last message is not one that
    devices send by themselves (a clock, active sensing), unless nothing else has come.
    """
    events = [(record.frame, record.kind, bytes(raw[record.data])) for record in records(raw)]
    n_frames = min(filled, sample_rate)
    lately = sum(frame >= filled - n_frames for frame, _, _ in events)
    told: Message | None = None
    for message in messages_of(events):
        if told is None or message.type not in _IDLE or told.type in _IDLE:
            told = message
    last, last_frame = (before.last, before.last_frame) if before is not None else (None, None)
    if told is not None and (told.type not in _IDLE or last is None):
        last, last_frame = in_words(told), chunk * chunk_frames + told.frame
    per_s = round(lately * sample_rate / n_frames, 1) if n_frames else 0.0
    return MidiActivity(per_s, last, last_frame)
