"""What clients are answered, as PROTOCOL.md has it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from chaos.protocol.events import TakesTotal
from chaos.protocol.requests import Format, MidiFormat
from chaos.terms.latency import Latency

__all__ = [
    "RESULTS",
    "CallbackTimes",
    "ChannelSignal",
    "ChunkSwitched",
    "Device",
    "DeviceAudioFormat",
    "DeviceFound",
    "Devices",
    "EngineStatus",
    "KeptEvents",
    "Level",
    "Marked",
    "MidiActivity",
    "MidiCounts",
    "Nothing",
    "PipeWireStatus",
    "Pong",
    "SessionBegun",
    "SessionEnded",
    "SessionKept",
    "SessionLine",
    "SessionMember",
    "SessionStatus",
    "SessionsListed",
    "SignalStatus",
    "Slots",
    "StagingStatus",
    "StoreStatus",
    "StreamBegun",
    "StreamEnded",
    "StreamKept",
    "StreamStatus",
    "StreamsListed",
    "UploadStatus",
]


class DeviceAudioFormat(msgspec.Struct, frozen=True, tag_field="type", tag="audio"):
    """`sample_rate` is None where the device states none before it runs."""

    sample_rate: int | None
    channels: int
    positions: list[str]


class Device(msgspec.Struct, frozen=True):
    """One thing that can be captured from or played to. `volume` other than 1.0 changes samples."""

    identity: str
    name: str
    description: str
    node_id: int
    direction: Literal["input", "output"]
    format: DeviceAudioFormat | MidiFormat
    is_monitor: bool
    is_default: bool
    volume: float | None
    api: str | None
    identity_basis: Literal["serial", "port", "path", "name", "program"]
    object_serial: int
    rates: list[int]
    rate_range: list[int] | None
    native_formats: list[str]
    sample_gain: float
    muted: bool
    card: int | None
    pcm_device: int | None
    has_own_clock: bool = False


class Level(msgspec.Struct, frozen=True):
    """Of one channel since the last look; None is silence (minus infinity)."""

    peak_dbfs: float | None
    rms_dbfs: float | None


class ChannelSignal(msgspec.Struct, frozen=True):
    """Of one channel over the last full second, but for `n_clipped`, which counts the whole take. None is minus
    infinity; `dc` is the mean, 1.0 being full scale."""

    peak_dbfs: float | None
    rms_dbfs: float | None
    dc: float
    n_clipped: int


class SignalStatus(msgspec.Struct, frozen=True):
    """What a take's samples are like, up to `frame`. Samples from 32767/32768 of full scale on count as clipped; what
    is NaN or infinite is counted, and is in no level."""

    frame: int
    channels: list[ChannelSignal]
    silent_since_frame: int | None
    n_clipped: int
    first_clipped_frame: int | None
    n_not_finite: int
    first_not_finite_frame: int | None


class MidiActivity(msgspec.Struct, frozen=True):
    """What a MIDI stream heard lately: how many events a second, and the last message in words, with its frame."""

    events_per_s: float
    last: str | None
    last_frame: int | None


class Slots(msgspec.Struct, frozen=True):
    total: int
    free: int
    full: int


class CallbackTimes(msgspec.Struct, frozen=True):
    """Time that the process callback took, ns. `histogram[k]` counts those of 2^k to 2^(k+1) ns."""

    total: int
    longest: int
    histogram: list[int]


class MidiCounts(msgspec.Struct, frozen=True):
    """Of the events since the take's capture began, be it in standby: `n_at_zero` stand at the first frame of their
    cycle, where a bridge puts those that come too late for their own; `n_beyond` said a frame behind it, and stand at
    its last one. `latency` is what the device's port says, None until it does."""

    n_events: int
    n_at_zero: int
    n_beyond: int
    latency: Latency | None = None


class TriggerStatus(msgspec.Struct, frozen=True):
    """Of a stream that records by level: as it was asked for, how many takes have begun, and the one that runs, with
    how many frames it has so far."""

    above_dbfs: float
    pre_s: float
    hold_s: float
    n_takes: int
    take: str | None
    recording: str
    n_frames: int = 0


class StreamStatus(msgspec.Struct, frozen=True):
    """A stream as it stands. `device`: PROTOCOL's Device, None until it was there once; `drift_ppm`: the device's
    clock against the monotonic one, None until known. Before the first frame `started_wall_ns` is 0,
    `started_utc` None. `overruns`, `xruns`, `callbacks` and `callback_ns` count from where the take's capture began,
    also where it was in standby then.
    """

    uri: str
    state: Literal["waiting", "connecting", "paused", "streaming", "stalled", "error", "stopped"]
    device: dict[str, Any] | None
    format: Format
    chunk_frames: int
    head_frame: int
    n_chunks_sealed: int
    n_gaps: int
    lost_frames: int
    overruns: int
    xruns: int
    callbacks: int
    slots: Slots
    quantum: int
    started_wall_ns: int
    started_utc: str | None
    drift_ppm: float | None
    levels: list[Level]
    recording: str
    callback_ns: CallbackTimes
    reason: str = ""  # of the state
    activity: MidiActivity | None = None  # of a MIDI stream; audio has levels
    midi: MidiCounts | None = None  # None of audio
    signal: SignalStatus | None = None  # of audio, once it was measured
    standby_s: float | None = None  # of one in standby: how much of the past it holds, once that has gone by
    notes: list[str] = []  # what is done to the device's samples on their way, a sentence each
    take: str | None = None  # the URI of the take that runs
    continues: str | None = None  # that of the take that it went on from without a seam
    begins_utc: str | None = None  # when it is to begin, until then
    ends_utc: str | None = None  # when it is to end by itself, once that is known
    sealed_frame: int = 0  # up to which the take that runs is sealed
    uploaded_frame: int | None = None  # up to which it is in the object store; None: nothing of it, or no upload
    trigger: TriggerStatus | None = None
    latency: Latency | None = None  # how late the latest of the device's ports says it is; None: none has told



class Pong(msgspec.Struct, frozen=True):
    name: str
    version: str
    protocol: int
    run_id: str
    pid: int
    uptime_s: float
    events_endpoint: str = ""


class PipeWireStatus(msgspec.Struct, frozen=True):
    """`rt_policy` and `rt_priority` are those of the thread that runs the process callbacks, None where PipeWire is not
    connected."""

    connected: bool
    version: str
    remote: str | None
    rt_policy: str | None
    rt_priority: int | None
    session_manager: bool


class StagingStatus(msgspec.Struct, frozen=True):
    """`limit_bytes` is the size of the file system that staging files lie on, None where it can't be asked;
    `file_system` its kind, which should be tmpfs, "" where unknown."""

    used_bytes: int
    limit_bytes: int | None
    locked_bytes: int
    file_system: str = ""


class StoreStatus(msgspec.Struct, frozen=True):
    """`free_bytes` is None where the store can't be asked; `error` then says why, or that another folder has its name
    now, or why nothing of a stream can be written."""

    path: str
    free_bytes: int | None
    error: str | None = None


class UploadStatus(msgspec.Struct, frozen=True):
    """How the upload stands. `state`: "uploading", "idle" (all that is sealed is there, but for what
    `reason` names), "waiting" (the object store
    can't be reached; it is tried again) or "refused" (it can't go on without a person); `reason` says why. `n_takes`
    are not all there, `n_bytes` were sent since the uploader began."""

    target: str
    state: Literal["uploading", "idle", "waiting", "refused"]
    reason: str
    n_takes: int
    n_bytes: int


class EngineStatus(msgspec.Struct, frozen=True):
    """`notes`: what on this machine may cost frames, a sentence each with what mends it."""

    pipewire: PipeWireStatus
    streams: list[StreamStatus]
    staging: StagingStatus
    store: StoreStatus
    event_seq: int
    notes: list[str] = []
    upload: UploadStatus | None = None


class Devices(msgspec.Struct, frozen=True):
    """`devices`: PROTOCOL's Device, each."""

    devices: list[dict[str, Any]]


class DeviceFound(msgspec.Struct, frozen=True):
    """`device`: PROTOCOL's Device."""

    device: dict[str, Any]


class StreamBegun(msgspec.Struct, frozen=True):
    """`device` is None while it is away, `recording` empty until there are frames. `trace` has the moments
    (CLOCK_MONOTONIC, ns) of the start's steps, where they were asked for; `notes` are those of the stream's status."""

    uri: str
    recording: str
    device: dict[str, Any] | None
    format: Format
    chunk_frames: int
    state: str
    reason: str = ""
    trace: dict[str, int] | None = None
    notes: list[str] = []


class ChunkSwitched(msgspec.Struct, frozen=True):
    uri: str


class PortAccepted(msgspec.Struct, frozen=True):
    uri: str


class Marked(msgspec.Struct, frozen=True):
    """`frame` counts from the take's first; in standby, where `recording` is empty, from the begin of the capture.
    `note`, where it isn't empty, says on what it depends whether the mark is kept."""

    uri: str
    recording: str
    frame: int
    label: str
    note: str = ""


class StreamKept(msgspec.Struct, frozen=True):
    """`n_frames` were held when it was kept: the recording begins with them. `recording` is empty where none had
    come. `n_marks` that were set in standby are in it; `n_marks_gone` were of frames before the oldest held one. Of the
    held frames `lost_frames` are missing, in `n_gaps` gaps."""

    uri: str
    recording: str
    n_frames: int
    sample_rate: int
    n_marks: int = 0
    n_marks_gone: int = 0
    n_gaps: int = 0
    lost_frames: int = 0


class StreamEnded(msgspec.Struct, frozen=True):
    uri: str
    recording: str
    n_frames: int
    n_chunks: int
    n_gaps: int
    lost_frames: int
    clean: bool
    signal: SignalStatus | None = None
    sample_rate: int | None = None  # None where no frame ever came
    n_takes: int | None = None  # of a trigger; each is a recording of its own
    total: TakesTotal | None = None  # as in StreamStopped


class SessionBegun(msgspec.Struct, frozen=True):
    """`waiting` are the streams whose devices are not there; the others begin without them, together, within
    `begins_within_s` (None: all have begun, or none can)."""

    session: str
    streams: list[StreamBegun]
    waiting: list[str] = []
    begins_within_s: float | None = None


class SessionEnded(msgspec.Struct, frozen=True):
    session: str
    streams: list[StreamEnded]


class SessionKept(msgspec.Struct, frozen=True):
    """`streams` are those that were in standby; `refused` those of them that still are, since nothing could be kept:
    `error` says why."""

    session: str
    streams: list[StreamKept]
    refused: list[dict[str, Any]]


class SessionMember(msgspec.Struct, frozen=True):
    """A stream of a session, with all its takes; `recording` is the first one's folder, `state` how the newest stands.

    `standby_s` is of one that is in standby, and records nothing yet. `offset_frames` is which frame of it came at the
    first stream's frame 0, and `related_by` the clock that tells so; both None where nothing can tell yet.
    """

    uri: str
    state: str
    recording: str = ""
    device: str | None = None
    n_frames: int = 0
    lost_frames: int = 0
    sample_rate: int | None = None
    clock_id: int | None = None
    offset_frames: int | None = None
    related_by: Literal["graph_clock", "monotonic_clock", "wall_clock"] | None = None
    n_takes: int = 0
    standby_s: float | None = None
    reason: str = ""


class SessionStatus(msgspec.Struct, frozen=True):
    """`began_utc` is since when those of its streams record, or hold, that were linked then; None before, and of a
    session that doesn't run."""

    session: str
    running: bool
    streams: list[SessionMember]
    began_utc: str | None = None


class SessionLine(msgspec.Struct, frozen=True):
    """A line of `session_list`; `started_utc` is the first stream's, None before its first frame."""

    session: str
    running: bool
    uris: list[str]
    started_utc: str | None


class SessionsListed(msgspec.Struct, frozen=True):
    sessions: list[SessionLine]


class StreamsListed(msgspec.Struct, frozen=True):
    streams: list[StreamStatus]


class KeptEvents(msgspec.Struct, frozen=True):
    """`oldest_seq` is the oldest event that is kept."""

    events: list[msgspec.Raw]
    oldest_seq: int


class Nothing(msgspec.Struct, frozen=True):
    """It is done; there is nothing to add."""


RESULTS: dict[str, type[msgspec.Struct]] = {
    "ping": Pong,
    "status": EngineStatus,
    "device_list": Devices,
    "device_find": DeviceFound,
    "device_wait": DeviceFound,
    "stream_start": StreamBegun,
    "stream_switch_chunk": ChunkSwitched,
    "mark": Marked,
    "stream_stop": StreamEnded,
    "stream_accept_port": PortAccepted,
    "stream_keep": StreamKept,
    "session_start": SessionBegun,
    "session_stop": SessionEnded,
    "session_keep": SessionKept,
    "session_status": SessionStatus,
    "session_list": SessionsListed,
    "stream_list": StreamsListed,
    "stream_status": StreamStatus,
    "events_since": KeptEvents,
    "shutdown": Nothing,
}
"""The result of each op that concerns the running engine. Those of recordings are declared in store and export."""
