"""What happens, told to whoever listens: a struct per event, as PROTOCOL.md has them.

An event declares only what is its own. What all events carry (number, time, run, stream) is added once, where it is
numbered; `Published` is the event with all of that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, Self

import msgspec

from chaos.terms.errors import ChaosError
from chaos.terms.ledger import Gap

__all__ = [
    "COMMON_FIELDS",
    "DEVICE_EVENTS",
    "EVENTS",
    "PROGRAM_EVENTS",
    "ClockStepped",
    "DaemonError",
    "DaemonStarted",
    "DaemonStopping",
    "DeviceAdded",
    "DeviceChanged",
    "DeviceRemoved",
    "Event",
    "ProgramAdded",
    "ProgramChanged",
    "ProgramRemoved",
    "Published",
    "Recovery",
    "RetentionHeld",
    "SessionBegan",
    "SessionStarted",
    "SessionStopped",
    "StorageFailed",
    "StorageFull",
    "StorageLow",
    "StorageRestored",
    "StreamActivity",
    "StreamChunkFull",
    "StreamChunkSealed",
    "StreamCommand",
    "StreamError",
    "StreamGap",
    "StreamHeadPosition",
    "StreamMark",
    "StreamNotice",
    "StreamRolled",
    "StreamStandby",
    "StreamStarted",
    "StreamState",
    "StreamStopped",
    "StreamTriggerEnded",
    "StreamTriggered",
    "StreamUploaded",
    "TakesTotal",
    "UploadState",
]

COMMON_FIELDS = ("type", "seq", "topic_seq", "run_id", "wall_ns", "utc", "monotonic_ns")
"""What every event carries; a stream's event also has `stream_uri`."""


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=_snake):
    """One thing that happened."""

    @property
    def type(self) -> str:
        """Its name on the wire, with which its topic begins."""
        return str(type(self).__struct_config__.tag)


class _DeviceEvent(Event, frozen=True, kw_only=True):
    """`device`: PROTOCOL's Device as it is now; of a removed one, as it last was."""

    device: dict[str, Any]


class _StorageRefusal(Event, frozen=True, kw_only=True):
    """`error`: PROTOCOL's error object."""

    error: dict[str, Any]


class DaemonStarted(Event, frozen=True, kw_only=True):
    version: str
    pid: int


class DaemonStopping(Event, frozen=True, kw_only=True):
    pass


class DaemonError(Event, frozen=True, kw_only=True):
    """A defect inside chaosd. `recoverable`: it goes on; otherwise it ends, as far as it can cleanly."""

    error: dict[str, Any]
    recoverable: bool

    @classmethod
    def of(cls, error: ChaosError, *, recoverable: bool) -> Self:
        return cls(error=error.to_wire(), recoverable=recoverable)


class DeviceAdded(_DeviceEvent, frozen=True, kw_only=True):
    pass


class DeviceRemoved(_DeviceEvent, frozen=True, kw_only=True):
    pass


class DeviceChanged(_DeviceEvent, frozen=True, kw_only=True):
    pass


class ProgramAdded(_DeviceEvent, frozen=True, kw_only=True):
    """What a program plays, as `device_list` has it with `all`; the next two as well."""


class ProgramRemoved(_DeviceEvent, frozen=True, kw_only=True):
    pass


class ProgramChanged(_DeviceEvent, frozen=True, kw_only=True):
    pass


class SessionStarted(Event, frozen=True, kw_only=True):
    """All streams of a session have begun, or wait for their devices."""

    session: str
    uris: list[str]


class SessionBegan(Event, frozen=True, kw_only=True):
    """From `begins_utc` on the streams in `uris` record, or hold. Those in `waiting` are not linked yet, and begin when
    their devices come."""

    session: str
    uris: list[str]
    waiting: list[str]
    begins_utc: str
    begins_monotonic_ns: int


class SessionStopped(Event, frozen=True, kw_only=True):
    """The last stream of a session has ended, whoever ended it. `uris` are all that it had."""

    session: str
    uris: list[str]


class StreamStarted(Event, frozen=True, kw_only=True):
    """The first frames of a take are there, and so is its recording."""

    recording: str
    device: dict[str, Any]
    sample_rate: int
    channels: int
    sample_format: str
    chunk_frames: int
    started_wall_ns: int
    started_utc: str


class StreamStandby(Event, frozen=True, kw_only=True):
    """The first frames are there and are held in memory: nothing is recorded yet.

    `standby_s` is how much is held; `above_dbfs` the level that begins a take (None: `stream_keep` does).
    """

    device: dict[str, Any]
    sample_rate: int
    channels: int
    sample_format: str
    standby_s: float
    above_dbfs: float | None


class StreamState(Event, frozen=True, kw_only=True):
    state: str
    reason: str


class StreamHeadPosition(Event, frozen=True, kw_only=True):
    """`byte_position`: `frame` times the bytes of one frame, all channels together."""

    frame: int
    byte_position: int


class StreamActivity(Event, frozen=True, kw_only=True):
    """What a MIDI stream heard since this was told last: `last` is a message in words, `n_events` are all so far."""

    n_events: int
    events_per_s: float
    last: str | None
    last_frame: int | None


class StreamChunkFull(Event, frozen=True, kw_only=True):
    chunk: int
    path: str
    first_frame: int
    frames_written: int
    bytes_written: int


class StreamChunkSealed(Event, frozen=True, kw_only=True):
    chunk: int
    path: str
    hash: str
    first_frame: int
    n_frames: int


class StreamUploaded(Event, frozen=True, kw_only=True):
    """All before frame `n_frames` of this recording is in the object store; `ended`: and that is all of it."""

    recording: str
    n_frames: int
    ended: bool


class UploadState(Event, frozen=True, kw_only=True):
    """How the upload stands has changed; as `upload` in the status."""

    target: str
    state: str
    reason: str


class StreamGap(Event, frozen=True, kw_only=True):
    """`n_frames` is None while the gap is open; it is told again when it closes."""

    first_frame: int
    n_frames: int | None
    cause: str
    confidence: str

    @classmethod
    def of(cls, gap: Gap, *, is_open: bool = False) -> Self:
        """The event of this gap; of an open one only the beginning counts."""
        return cls(
            first_frame=gap.first_frame,
            n_frames=None if is_open else gap.n_frames,
            cause=gap.cause.label,
            confidence=gap.confidence.label,
        )


class StreamSilent(Event, frozen=True, kw_only=True):
    """No sample has been above `below_dbfs` since that frame, for as long as was asked; or one is again."""

    silent: bool
    since_frame: int
    below_dbfs: float


class StreamClipping(Event, frozen=True, kw_only=True):
    """Samples are at full scale; or none has been for a second."""

    clipping: bool
    first_frame: int
    n_samples: int


class StreamNotFinite(Event, frozen=True, kw_only=True):
    """The device brings samples that are NaN or infinite; or none for a second."""

    not_finite: bool
    first_frame: int
    n_samples: int


class StreamMark(Event, frozen=True, kw_only=True):
    """Somebody marked a frame of the take that runs."""

    frame: int
    label: str


class StreamError(Event, frozen=True, kw_only=True):
    """`error`: PROTOCOL's error object. What is not `recoverable` ends the stream."""

    error: dict[str, Any]
    recoverable: bool

    @classmethod
    def of(cls, error: ChaosError, *, recoverable: bool) -> Self:
        return cls(error=error.to_wire(), recoverable=recoverable)


class StreamNotice(Event, frozen=True, kw_only=True):
    """What is done to the device's samples on their way has changed during a take."""

    notes: list[str]
    sample_gain: float
    muted: bool


class ClockStepped(Event, frozen=True, kw_only=True):
    """Somebody set the wall clock while the stream ran: by so much, at about this frame."""

    frame: int
    by_ns: int


class TakesTotal(msgspec.Struct, frozen=True):
    """All takes of a stream that has rolled or records by level, together; samples are counted over all channels."""

    n_takes: int
    n_frames: int
    n_gaps: int
    lost_frames: int
    n_clipped: int = 0
    n_not_finite: int = 0


class StreamStopped(Event, frozen=True, kw_only=True):
    """`total`: of a stream that has rolled or records by level; the other figures are the last take's, 0 by level."""

    recording: str
    n_frames: int
    n_chunks: int
    n_gaps: int
    lost_frames: int
    clean: bool
    total: TakesTotal | None = None


class StreamRolled(Event, frozen=True, kw_only=True):
    """A stream goes on in `take`. `continues` is the take whose last frame is the neighbour of this one's first; None
    where the device came back in another shape.
    """

    take: str
    continues: str | None


class StreamTriggered(Event, frozen=True, kw_only=True):
    """A take has begun: its frame 0 is the capture's `first_frame`, its `n_before`-th the first that is above.

    `is_short`: the ring did not reach back as far as was asked for.
    """

    take: str
    recording: str
    first_frame: int
    n_before: int
    is_short: bool


class StreamTriggerEnded(Event, frozen=True, kw_only=True):
    """It is stored."""

    take: str
    recording: str
    n_frames: int
    n_gaps: int
    lost_frames: int


class StreamCommand(Event, frozen=True, kw_only=True):
    """A command (`on_seal`, `on_roll`) did not come to a good end: `text` says why. `path` is what it was for."""

    on: Literal["seal", "roll"]
    path: str
    take: str
    outcome: Literal["failed", "timed_out", "skipped", "ended"]
    exit_code: int | None
    text: str


class Recovery(Event, frozen=True, kw_only=True):
    """What a dead daemon had left, and what became of it."""

    outcome: Literal["recovered", "removed", "left", "failed"]
    text: str
    recording: str | None
    staging: str | None
    n_frames: int
    n_recovered: int
    down_frames: int


class RetentionHeld(Event, frozen=True, kw_only=True):
    """Something that one clock calls old enough is not retired, since another contradicts it, or something that is not
    uploaded while the disk runs low; `text` says why."""

    recording: str
    text: str


class StorageLow(Event, frozen=True, kw_only=True):
    path: str
    free_bytes: int
    margin_bytes: int


class StorageFull(_StorageRefusal, frozen=True, kw_only=True):
    pass


class StorageFailed(_StorageRefusal, frozen=True, kw_only=True):
    pass


class StorageRestored(Event, frozen=True, kw_only=True):
    path: str


DEVICE_EVENTS: dict[str, type[_DeviceEvent]] = {
    "added": DeviceAdded,
    "removed": DeviceRemoved,
    "changed": DeviceChanged,
}
"""By what has become of the device."""

PROGRAM_EVENTS: dict[str, type[_DeviceEvent]] = {
    "added": ProgramAdded,
    "removed": ProgramRemoved,
    "changed": ProgramChanged,
}
"""The same of what a program plays."""


def _declared(kind: type[Event]) -> dict[str, type[Event]]:
    found = {} if kind.__name__.startswith("_") else {str(kind.__struct_config__.tag): kind}
    for below in kind.__subclasses__():
        found |= _declared(below)
    return found


EVENTS: dict[str, type[Event]] = {name: kind for name, kind in _declared(Event).items() if kind is not Event}
"""All of them by their type on the wire."""


@dataclass(frozen=True, slots=True)
class Published:
    """An event as it goes out. `seq` counts over all events of a run, `topic_seq` over those of its topic.

    `topic` and `payload` are its two frames on the wire.
    """

    event: Event
    stream_uri: str | None
    seq: int
    topic_seq: int
    run_id: str
    wall_ns: int
    monotonic_ns: int
    topic: bytes
    payload: bytes
