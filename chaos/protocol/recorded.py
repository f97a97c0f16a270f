"""What clients are answered about recordings, as PROTOCOL.md has it.

The daemon answers with what `store` and `export` make; this is the same as a client reads it, who needs neither. A test
compares them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from chaos.terms.latency import Latency
from chaos.terms.marks import Mark

__all__ = [
    "ChunkHash",
    "ChunkPart",
    "DefectFound",
    "GapTold",
    "KeptTold",
    "MidiLoss",
    "RecordingLine",
    "RetiredTold",
    "RetiredWhat",
    "SavedDamage",
    "SignatureTold",
    "Sliced",
    "TakeVerified",
    "Verified",
]


class GapTold(msgspec.Struct, frozen=True):
    """`n_frames` frames from `first_frame` on are missing. `utc` is when the first was, where that is told."""

    first_frame: int
    n_frames: int
    cause: str
    confidence: str
    utc: str | None = None


class RecordingLine(msgspec.Struct, frozen=True):
    """A line of `recording_list`. `gaps` has the frames that are missing, by cause."""

    uri: str
    recording: str
    state: str
    n_frames: int = 0
    n_chunks: int = 0
    n_gaps: int = 0
    lost_frames: int = 0
    sample_rate: int | None = None
    channels: int | None = None
    sample_format: str | None = None
    started_wall_ns: int | None = None
    started_utc: str | None = None
    clean: bool | None = None
    ended_wall_ns: int | None = None
    ended_utc: str | None = None
    device: str | None = None
    gaps: dict[str, int] = {}
    n_bytes: int = 0
    retired_frames: int = 0
    continues: str | None = None
    marks: list[Mark] = []
    follows: str | None = None
    after_change: str | None = None
    uploaded_frame: int | None = None
    is_uploaded: bool = False
    upload_damaged: list[int] = []


class ChunkPart(msgspec.Struct, frozen=True):
    """`n_frames` from `first_frame` of the recording on, which lie in this chunk."""

    chunk: int
    path: str
    hash: str
    first_frame: int
    n_frames: int


class SavedDamage(msgspec.Struct, frozen=True):
    """A sealed chunk that is not what was recorded, and the frames of it that were saved all the same."""

    reason: str
    chunk: int
    first_frame: int
    n_frames: int
    take: str = ""
    expected: str | None = None
    found: str | None = None


class MidiLoss(msgspec.Struct, frozen=True):
    """What became of the messages in a MIDI file; how many, by type."""

    n_events: int
    translated: dict[str, int]
    rounded: dict[str, int]
    set_aside: dict[str, int]
    invalid: int
    max_shift_frames: float
    drift_ppm: float


class Sliced(msgspec.Struct, frozen=True):
    """The answer to `slice`. What follows `gaps` is there where a file was written (`output` "materialize")."""

    first_frame: int
    n_frames: int
    chunks: list[ChunkPart]
    gaps: list[GapTold]
    path: str | None = None
    uri: str | None = None
    container: str | None = None
    subtype: str | None = None
    sample_rate: int | None = None
    channels: int | None = None
    positions: list[str] | None = None
    n_written: int | None = None
    started_utc: str | None = None
    missing_frames: int | None = None
    lost_frames: int | None = None
    retired_frames: int | None = None
    damaged: list[SavedDamage] | None = None
    is_exact: bool | None = None
    max_error: float | None = None
    clipped: int | None = None
    n_chunks: int | None = None
    root_hash: str | None = None
    channel: int | None = None
    aligned_by: str | None = None
    latency: Latency | None = None
    midi: MidiLoss | None = None
    labels: str | None = None
    frames_before: int = 0
    frames_after: int = 0


class DefectFound(msgspec.Struct, frozen=True):
    """Something that `verify` found not to be as it must be."""

    reason: str
    chunk: int | None = None
    first_frame: int | None = None
    n_frames: int | None = None
    expected: str | None = None
    found: str | None = None
    take: str | None = None


class ChunkHash(msgspec.Struct, frozen=True):
    chunk: int
    first_frame: int
    n_frames: int
    hash: str
    take: str | None = None


class TakeVerified(msgspec.Struct, frozen=True):
    """One take of a stream of several, as `verify` found it."""

    uri: str
    recording: str
    first_frame: int
    n_frames: int
    state: str
    clean: bool | None
    ok: bool
    root_hash: str
    recording_hash: str
    proof: str
    all_checked: bool
    recording_hash_v3: str = ""
    sample_rate: int = 0
    channels: int = 0


class SignatureTold(msgspec.Struct, frozen=True):
    state: Literal["good", "bad", "unchecked"]
    public_key: str | None
    signed_utc: str | None
    reason: str | None = None
    take: str | None = None
    hash_version: int | None = None
    unsigned_marks: int = 0


class AbsentTold(msgspec.Struct, frozen=True):
    take: str
    before: str


class Verified(msgspec.Struct, frozen=True):
    """The answer to `verify`: `ok` says that what was checked has no defect, `all_checked` whether that was all."""

    ok: bool
    uri: str
    recording: str
    state: str
    clean: bool | None
    n_chunks: int
    n_frames: int
    sample_rate: int
    channels: int
    bad: list[DefectFound]
    gaps: list[GapTold]
    lost_frames: int
    root_hash: str
    recording_hash: str
    chunks: list[ChunkHash]
    device: str | None
    sample_format: str
    started_utc: str
    verified_utc: str
    software: str
    all_checked: bool
    takes: list[TakeVerified] = []
    proof: str = "nothing"
    signatures: list[SignatureTold] = []
    recording_hash_v3: str = ""
    absent: list[AbsentTold] = []
    sample: list[int] | None = None


class RetiredWhat(msgspec.Struct, frozen=True):
    """What retention took of one recording, or would take. `chunks` is how many."""

    uri: str
    recording: str
    live: bool
    chunks: int
    gaps: list[GapTold]
    n_frames: int
    n_bytes: int


class KeptTold(msgspec.Struct, frozen=True):
    """A recording of which something stays that was to go, and why."""

    uri: str
    recording: str
    reason: str
    text: str
    hint: str


class RetiredTold(msgspec.Struct, frozen=True):
    """The answer to `retire`. `keep` is the limit that was applied to all, `stream_keeps` are recordings' own."""

    retired: list[RetiredWhat]
    kept: list[KeptTold]
    keep: str | None
    stream_keeps: list[str]
