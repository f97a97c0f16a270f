"""What the tools answer. Lengths and places are given in seconds and in frames."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = [
    "ANSWERS",
    "Account",
    "Amount",
    "ClockSure",
    "Deleted",
    "DeviceLine",
    "DevicesFound",
    "GapLine",
    "Heard",
    "Kept",
    "MarkLine",
    "Marked",
    "RecordingLine",
    "RecordingsFound",
    "Saved",
    "SessionStarted",
    "SessionStopped",
    "StreamLine",
    "StreamStarted",
    "StreamStopped",
    "StreamsFound",
    "amount",
]


def _said(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class Amount(msgspec.Struct, frozen=True):
    """So many frames, and how long that is; of a place on the timeline, counted from the first frame."""

    frames: int
    seconds: float | None


def amount(frames: int, rate: int | None) -> Amount:
    return Amount(frames, round(frames / rate, 6) if rate else None)


class GapLine(msgspec.Struct, frozen=True):
    """Frames that are missing. `confidence`: how sure the length is (exact, clock, estimated)."""

    begin: Amount
    length: Amount
    cause: str
    confidence: str


class MarkLine(msgspec.Struct, frozen=True):
    at: Amount
    label: str


class ClockSure(msgspec.Struct, frozen=True):
    """How sure times of day are. Frames are those of the graph's clock, and are exact whatever the wall clock did."""

    state: Literal["synchronized", "timesyncd", "unsynchronized", "unknown"]
    max_error_s: Annotated[float | None, _said("How far from UTC at most; null where nobody knows")]
    likely_error_s: float | None
    was_set: Annotated[bool, _said("Whether somebody set the clock while it was recorded")]
    text: str


class Account(msgspec.Struct, frozen=True):
    """Of a recording. `root_hash` is the BLAKE3-256 over the hashes of the sealed chunks; `sealed` are the frames in
    those. `gaps` are the newest of `n_gaps`, `marks` of `n_marks`. Of a stream of several takes it is the newest one's,
    and `takes` names them all."""

    uri: str
    state: str
    clean: bool | None
    device: str
    sample_format: str
    channels: int
    sample_rate: int
    started_utc: str | None
    length: Amount
    lost: Amount
    retired: Amount
    n_gaps: int
    gaps: list[GapLine]
    n_marks: int
    marks: list[MarkLine]
    sealed: Amount
    root_hash: str
    clock: ClockSure
    takes: list[str] = []


class DeviceLine(msgspec.Struct, frozen=True):
    """`identity` stays the same through replugging and rebooting; `identity_basis` says what that rests on."""

    identity: str
    description: str
    name: str
    type: Literal["audio", "midi"]
    sample_rate: int | None
    channels: int | None
    direction: str
    is_default: bool
    is_monitor: bool
    identity_basis: str


class DevicesFound(msgspec.Struct, frozen=True):
    devices: list[DeviceLine]


class StreamStarted(msgspec.Struct, frozen=True):
    uri: str
    state: str
    reason: str
    device: str | None
    sample_rate: int | None
    chunk: Amount
    notes: list[str] = []


class StreamStopped(msgspec.Struct, frozen=True):
    """`length` and `lost` are of all takes, `recording` of the last one; null where no frame ever came."""

    uri: str
    clean: bool
    length: Amount
    lost: Amount
    recording: Account | None


class Heard(msgspec.Struct, frozen=True):
    """Of the last second; dBFS, null is silence. `n_clipped` counts the whole take."""

    peak_dbfs: list[float | None]
    rms_dbfs: list[float | None]
    silent_since: Amount | None
    n_clipped: int


class ByLevel(msgspec.Struct, frozen=True):
    """Of a stream that records by level: each take is a recording of its own. `take` is the one that runs, `length` so
    far; null and 0 between takes."""

    above_dbfs: float
    n_takes: int
    take: str | None
    length: Amount


class StreamLine(msgspec.Struct, frozen=True):
    """`state` is also `standby` of one that only holds what comes, and then `recording` while a take by level runs.
    `recording` is the full account, given where one stream was asked for: of a stream that records by level that of
    the take that runs, which is in `by_level`."""

    uri: str
    state: str
    reason: str
    device: str | None
    sample_rate: int | None
    length: Amount
    lost: Amount
    n_gaps: int
    started_utc: str | None
    drift_ppm: float | None
    standby_s: float | None
    heard: Heard | None
    notes: list[str]
    recording: Account | None = None
    by_level: ByLevel | None = None


class StreamsFound(msgspec.Struct, frozen=True):
    streams: list[StreamLine]
    notes: Annotated[list[str], _said("What on this machine may cost frames, and what mends it")] = []


class Kept(msgspec.Struct, frozen=True):
    """`held` is what was in memory: the recording begins with it, and has `n_marks` that were set meanwhile;
    `n_marks_gone` were of frames before its first. Of it `lost` is missing, in `n_gaps` gaps."""

    uri: str
    held: Amount
    n_marks: int = 0
    n_marks_gone: int = 0
    n_gaps: int = 0
    lost: Amount = Amount(0, None)


class Saved(msgspec.Struct, frozen=True):
    """`root_hash` is over the sealed chunks that were read, hashed again. `is_exact`: whether the file's samples are
    what was recorded. `notes` say what was moved or left out."""

    path: str
    uri: str
    container: str
    subtype: str
    begin: Amount
    length: Amount
    missing: Amount
    lost: Amount
    n_gaps: int
    gaps: list[GapLine]
    n_damaged: int
    is_exact: bool
    root_hash: str
    clock: ClockSure
    notes: list[str] = []


class Marked(msgspec.Struct, frozen=True):
    """`note`, where it isn't empty, says on what it depends whether the mark is kept."""

    uri: str
    at: Amount
    label: str
    note: str = ""


class RecordingLine(msgspec.Struct, frozen=True):
    """`missing` has the frames that are missing, by cause. Read the resource of this URI for the whole ledger."""

    uri: str
    state: str
    clean: bool | None
    device: str | None
    sample_format: str | None
    channels: int | None
    started_utc: str | None
    length: Amount
    lost: Amount
    n_gaps: int
    missing: dict[str, int]
    n_bytes: int
    n_marks: int
    account: Account | None = None


class RecordingsFound(msgspec.Struct, frozen=True):
    recordings: list[RecordingLine]
    there_are_more: bool


class SessionStarted(msgspec.Struct, frozen=True):
    session: str
    streams: list[StreamStarted]


class SessionStopped(msgspec.Struct, frozen=True):
    session: str
    streams: list[StreamStopped]


class Deleted(msgspec.Struct, frozen=True):
    uri: str
    recordings: list[str]
    n_bytes: int


ANSWERS: dict[str, type[msgspec.Struct]] = {
    "device_list": DevicesFound,
    "stream_create": StreamStarted,
    "stream_stop": StreamStopped,
    "stream_status": StreamsFound,
    "keep": Kept,
    "save": Saved,
    "mark": Marked,
    "recording_list": RecordingsFound,
    "session_start": SessionStarted,
    "session_stop": SessionStopped,
    "recording_delete": Deleted,
}
