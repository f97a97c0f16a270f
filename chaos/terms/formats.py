"""What a stream captures: sample formats, and the formats of audio and of MIDI as requests and recordings name them."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import msgspec

from chaos.terms.errors import InvalidFormat

__all__ = [
    "LAYOUTS",
    "MAX_CHANNELS",
    "MIDI",
    "SAMPLES",
    "SAMPLE_BYTES",
    "AudioFormat",
    "Format",
    "MidiFormat",
    "RecordedFormat",
    "SampleFormat",
    "SampleType",
]

SampleFormat: TypeAlias = Literal["f32", "s16", "s32"]
RecordedFormat: TypeAlias = Literal["f32", "s16", "s32", "midi"]
"""What a recording holds: samples of such a format, or events."""

MIDI: Final = "midi"


class SampleType(NamedTuple):
    """How samples of a format are stored (little-endian). `code` stands for it in staging files."""

    code: int
    n_bytes: int
    data_type: str
    full_scale: str


SAMPLES: dict[SampleFormat, SampleType] = {
    "f32": SampleType(1, 4, "float32", "1"),
    "s16": SampleType(2, 2, "int16", "32768"),
    "s32": SampleType(3, 4, "int32", "2147483648"),
}
SAMPLE_BYTES: dict[str, int] = {name: sample.n_bytes for name, sample in SAMPLES.items()}
MAX_CHANNELS = 256
LAYOUTS = ("planar", "interleaved")
_OWN = "leave it out to take the device's own, or use"

assert tuple(SAMPLE_BYTES) == get_args(SampleFormat)


class AudioFormat(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="audio"):
    """Audio. `sample_rate` and `channels` left out are the device's own.

    `layout` is how the samples are asked of PipeWire, "planar" or "interleaved"; left out, planar. What is recorded is
    always planar. Raises InvalidFormat.
    """

    sample_rate: int | None = None
    channels: int | None = None
    sample_format: str = "f32"
    layout: str | None = None

    def __post_init__(self) -> None:
        if self.sample_rate is not None and not 1000 <= self.sample_rate <= 1_536_000:
            raise InvalidFormat(f"sample_rate is {self.sample_rate}", hint=f"{_OWN} 1000 to 1536000")
        if self.channels is not None and not 1 <= self.channels <= MAX_CHANNELS:
            raise InvalidFormat(f"channels is {self.channels}", hint=f"{_OWN} 1 to {MAX_CHANNELS}")
        if self.sample_format not in SAMPLE_BYTES:
            raise InvalidFormat(
                f"sample_format {self.sample_format!r} can't be recorded",
                hint=f"use one of {', '.join(SAMPLE_BYTES)} (24-bit devices are recorded as s32)",
            )
        if self.layout is not None and self.layout not in LAYOUTS:
            raise InvalidFormat(f"layout {self.layout!r} is unknown", hint=f"use one of {', '.join(LAYOUTS)}")

    @property
    def sample_bytes(self) -> int:
        return SAMPLE_BYTES[self.sample_format]


class MidiFormat(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, tag_field="type", tag="midi"):
    """MIDI. Nothing about it can be chosen."""


Format: TypeAlias = AudioFormat | MidiFormat
