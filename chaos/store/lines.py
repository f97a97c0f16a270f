"""The lines of a journal: what a recording is of, and what has become of it, each a JSON object.

Each begins with `check`: CRC-32 (8 hex digits) over the same object without that field, in compact form. From version
2 on `after` follows: the first 8 bytes (hex) of BLAKE3 over the line before, so that a line that was taken out shows;
zeros in the first line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Self
from zlib import crc32

import msgspec
from blake3 import blake3

from chaos.terms.errors import InvalidRequest
from chaos.terms.form import AudioForm, MidiForm, form_of
from chaos.terms.formats import RecordedFormat
from chaos.terms.latency import Latency
from chaos.terms.ledger import Cause, ClockAnchor, ClockState, Confidence, Gap
from chaos.terms.marks import Mark

__all__ = [
    "JOURNAL_VERSION",
    "NOTHING",
    "AnchorLine",
    "ChunkLine",
    "Definition",
    "Finish",
    "GapLine",
    "Header",
    "LatencyLine",
    "Line",
    "MarkLine",
    "OpenGapLine",
    "Sealing",
    "decode",
    "decode_all",
    "encode",
    "link",
    "told_before",
]

JOURNAL_VERSION = 2
_MOST = (1 << 63) - 1
Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
Place = Annotated[int, msgspec.Meta(ge=-_MOST - 1, le=_MOST)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=_MOST)]


class Definition(msgspec.Struct, frozen=True):
    """What a recording is of. Frames count from the stream's first; `device` is PROTOCOL.md's Device.

    `staging` is the path of the live staging file, for readers that follow the head; `external` recordings
    have their chunks in files of a controller's and hold no audio themselves. `boot_id` says which run of the
    kernel `monotonic_ns` count from; `keep` what retention leaves of it ("7d", "200GB");
    `continues` the URI of the take whose last frame came right before this one's first. `follows` is the URI of the
    take of this device that a crash ended before this one, and `away_ns` how long nothing was captured between them:
    by CLOCK_MONOTONIC in one run of the kernel, else by the wall clock. `session` is the name under which streams were
    started together, `session_uris` are all of them. `chunk_bytes` is what a chunk of events
    holds. `clock_errors`: the clock table has columns for the wall clock's error, too. `after_change` is the URI of the
    stream's take before this one, which ended since the device had changed its channels or rate. `overview`: of audio
    there are levels to draw it from (`chaos.store.overview`).
    """

    uri: str
    channels: Positive
    sample_rate: Positive
    sample_format: RecordedFormat
    chunk_frames: Positive
    device: dict[str, Any]
    positions: list[str]
    started_wall_ns: Place
    started_monotonic_ns: Place
    software: str
    run_id: str
    staging: str | None = None
    external: bool = False
    boot_id: str = ""
    keep: str | None = None
    continues: str | None = None
    follows: str | None = None
    away_ns: int | None = None
    session: str | None = None
    session_uris: list[str] = []
    chunk_bytes: Positive | None = None
    clock_errors: bool = False
    after_change: str | None = None
    overview: bool = False

    @property
    def device_name(self) -> str | None:
        """The device as people call it."""
        return self.device.get("description") or self.device.get("name")

    @property
    def form(self) -> AudioForm | MidiForm:
        """How its frames lie in chunks."""
        return form_of(
            self.sample_format,
            channels=self.channels,
            chunk_frames=self.chunk_frames,
            chunk_bytes=self.chunk_bytes,
        )

    @property
    def audio(self) -> AudioForm:
        """How its samples lie in chunks. Raises InvalidRequest for a recording of events."""
        form = self.form
        if isinstance(form, MidiForm):
            raise InvalidRequest(f"{self.uri} holds MIDI, not audio", hint="choose a recording of audio")
        return form


class Header(msgspec.Struct, frozen=True, tag_field="type", tag="recording"):
    version: int
    definition: Definition


Digest = Annotated[str, msgspec.Meta(min_length=64, max_length=64)]
_is_digest = re.compile("[0-9a-f]{64}").fullmatch


class ChunkLine(msgspec.Struct, frozen=True, tag_field="type", tag="chunk", omit_defaults=True, gc=False):
    """A sealed chunk: `n_frames` of it belong to the timeline; `path` only where a controller chose it, and
    `n_events` and `n_event_bytes` only of MIDI."""

    chunk: Count
    first_frame: Count
    n_frames: Count
    hash: Digest
    path: str | None = None
    n_events: Count = 0
    n_event_bytes: Count = 0


class Sealing(msgspec.Struct, frozen=True, tag_field="type", tag="sealing", gc=False):
    """Goes before the sealing of a chunk that is not full: its part file will no longer tell its frames."""

    chunk: Count
    n_frames: Count


class _Told(msgspec.Struct, frozen=True):
    first_frame: Count
    n_frames: Count
    cause: str
    confidence: str

    @classmethod
    def of(cls, gap: Gap) -> Self:
        return cls(**gap.to_wire())

    def gap(self) -> Gap:
        cause, confidence = Cause.from_label(self.cause), Confidence.from_label(self.confidence)
        return Gap(self.first_frame, self.n_frames, cause, confidence)


class GapLine(_Told, frozen=True, tag_field="type", tag="gap", gc=False):
    """A gap that has ended."""


class OpenGapLine(_Told, frozen=True, tag_field="type", tag="open", gc=False):
    """A gap that has not ended, as far as it reaches. A later line with this first frame replaces it, and the
    `GapLine` ends it."""


class AnchorLine(msgspec.Struct, frozen=True, tag_field="type", tag="anchor", omit_defaults=True, gc=False):
    frame: Place
    position: Place
    monotonic_ns: Place
    wall_ns: Place
    clock_id: Count | None = None
    max_error_ns: Count | None = None
    est_error_ns: Count | None = None
    clock_state: Annotated[int, msgspec.Meta(ge=0, le=int(max(ClockState)))] = 0
    step_ns: Place = 0

    @classmethod
    def of(cls, anchor: ClockAnchor) -> Self:
        return cls(**msgspec.structs.asdict(anchor) | {"clock_state": int(anchor.clock_state)})

    def anchor(self) -> ClockAnchor:
        return ClockAnchor(**msgspec.structs.asdict(self) | {"clock_state": ClockState(self.clock_state)})


class MarkLine(msgspec.Struct, frozen=True, tag_field="type", tag="mark", gc=False):
    frame: Count
    label: str

    def mark(self) -> Mark:
        return Mark(self.frame, self.label)


class LatencyLine(msgspec.Struct, frozen=True, tag_field="type", tag="latency"):
    """From this frame on the device says that it is so late (`chaos.terms.latency`)."""

    frame: Count
    latency: Latency


class Finish(msgspec.Struct, frozen=True, tag_field="type", tag="finish", gc=False):
    """The end: the timeline has `n_frames`; `clean` if the stream was stopped and did not die."""

    n_frames: Count
    clean: bool


Line = Header | ChunkLine | Sealing | GapLine | OpenGapLine | AnchorLine | MarkLine | LatencyLine | Finish
_decoder = msgspec.json.Decoder(Line)
_list_decoder = msgspec.json.Decoder(list[Line])
_encoder = msgspec.json.Encoder()
_are_hex = re.compile("[0-9a-f]*").fullmatch
_CHECK = b'{"check":"'
_CHECK_END = len(_CHECK) + 8
_BODY = _CHECK_END + 2
_BEGUN = crc32(b"{")
_AFTER = b'"after":"'
_AFTER_AT = _BODY + len(_AFTER)
NOTHING = b"0" * 16


def link(raw: bytes) -> bytes:
    """What the line after this one says of it."""
    return blake3(raw).hexdigest(length=8).encode()


def encode(line: Line, after: bytes | None) -> bytes:
    """The line, without its end; chained to the one before unless `after` is None (version 1)."""
    body = _encoder.encode(line)
    if after is not None:
        body = b'{%b%b",%b' % (_AFTER, after, body[1:])
    return b'%b%08x",%b' % (_CHECK, crc32(body), body[1:])


def decode(raw: bytes) -> Line:
    """The line that stands there; ValueError if none does."""
    told = raw[len(_CHECK) : _CHECK_END]
    if raw[: len(_CHECK)] != _CHECK or told != b"%08x" % crc32(raw[_BODY:], _BEGUN):
        raise ValueError("the line is damaged")
    line: Line = _decoder.decode(raw)
    if isinstance(line, GapLine | OpenGapLine):
        line.gap()
    elif isinstance(line, ChunkLine) and not _is_digest(line.hash):
        raise ValueError("the hash is not one")
    return line


def decode_all(raws: Sequence[bytes]) -> list[Line]:
    """What `decode` makes of each; ValueError if one of them makes no sense. A day has 17,000: what each costs is what
    opening a recording costs, and in one go they cost half."""
    for raw in raws:
        if raw[: len(_CHECK)] != _CHECK or raw[len(_CHECK) : _CHECK_END] != b"%08x" % crc32(raw[_BODY:], _BEGUN):
            raise ValueError("a line is damaged")
    lines = _list_decoder.decode(b"[%b]" % b",".join(raws))
    if len(lines) != len(raws):
        raise ValueError("a line is not one object")
    hashes = []
    for line in lines:
        kind = type(line)
        if kind is ChunkLine:
            hashes.append(line.hash)  # type: ignore[union-attr]
        elif kind is GapLine or kind is OpenGapLine:
            line.gap()  # type: ignore[union-attr]
    if not _are_hex("".join(hashes)):
        raise ValueError("a hash is not one")
    return lines


def told_before(raw: bytes) -> bytes | None:
    """What the line says of the one before it; None of a line of version 1."""
    return raw[_AFTER_AT : _AFTER_AT + len(NOTHING)] if raw[_BODY:_AFTER_AT] == _AFTER else None
