"""The wire's vocabulary: requests, answers and events, as PROTOCOL.md has them.

Requests are decoded into one struct per op; whatever can be judged without the daemon is judged here, so
that an op's code sees only sound values. Frames count from the stream's first.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import time
import typing
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from chaos.chunking import SAMPLE_BYTES, check_chunk_size
from chaos.errors import (
    ChaosError,
    InvalidFormat,
    InvalidRange,
    InvalidRequest,
    PathNotAllowed,
    UnknownOp,
)
from chaos.units import parse_duration_s, parse_keep
from chaos.uri import check_uri

__all__ = [
    "EVENTS",
    "MAX_MESSAGE_BYTES",
    "MAX_REQUEST_BYTES",
    "PROTOCOL_VERSION",
    "REQUESTS",
    "RESULTS",
    "AudioFormat",
    "CallbackTimes",
    "Device",
    "DeviceAudioFormat",
    "DeviceFind",
    "DeviceList",
    "DeviceWait",
    "EventsSince",
    "Format",
    "Level",
    "MidiFormat",
    "Moment",
    "Ping",
    "RecordingList",
    "Request",
    "Retire",
    "Shutdown",
    "Slice",
    "Slots",
    "Status",
    "StreamList",
    "StreamStart",
    "StreamStatus",
    "StreamStatusOf",
    "StreamStop",
    "StreamSwitchChunk",
    "Time",
    "Verify",
    "decode_request",
    "encode_error",
    "encode_ok",
    "make_event",
    "request_id",
]

PROTOCOL_VERSION = 1
MAX_REQUEST_BYTES = 1 << 20
MAX_MESSAGE_BYTES = 16 << 20
MAX_CHANNELS = 64
LAYOUTS = ("planar", "interleaved")
_OWN = "leave it out for the device's own, or give"

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
FilePath: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=366 * 86400)]


class _Part(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A request or a part of one."""


class AudioFormat(_Part, tag_field="type", tag="audio", omit_defaults=False):
    """What a stream captures. `sample_rate` and `channels` left out are the device's own.

    `layout` is how the samples are asked of PipeWire, "planar" or "interleaved"; left out, the engine
    chooses. What is recorded is always planar. Raises InvalidFormat.
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
                f"sample_format {self.sample_format!r} is not one that is recorded",
                hint=f"use one of {', '.join(SAMPLE_BYTES)} (24-bit devices go into s32)",
            )
        if self.layout is not None and self.layout not in LAYOUTS:
            raise InvalidFormat(f"layout {self.layout!r} is unknown", hint=f"use one of {', '.join(LAYOUTS)}")

    @property
    def sample_bytes(self) -> int:
        return SAMPLE_BYTES[self.sample_format]


class MidiFormat(_Part, tag_field="type", tag="midi"):
    """MIDI. Nothing about it can be chosen."""


Format: TypeAlias = AudioFormat | MidiFormat


class Moment(_Part):
    """Exactly one of the three. `seconds_ago` counts back from the head. Raises InvalidRange."""

    frame: int | None = None
    seconds_ago: float | None = None
    utc: Annotated[dt.datetime, msgspec.Meta(tz=True)] | None = None

    def __post_init__(self) -> None:
        given = [name for name in self.__struct_fields__ if getattr(self, name) is not None]
        if len(given) != 1:
            raise InvalidRange(f"a time with {' and '.join(given) or 'nothing in it'}", hint=_TIME_HINT)
        if self.frame is not None and not 0 <= self.frame < 2**63:
            raise InvalidRange(f"frame {self.frame} is not in any stream", hint="frames count from 0")
        if self.seconds_ago is not None and not 0 <= self.seconds_ago < math.inf:
            raise InvalidRange(f"seconds_ago is {self.seconds_ago}", hint="it is 0 (the head) or more")


Time: TypeAlias = Literal["start", "head"] | Moment
_TIME_HINT = 'a time is "start", "head", {"frame": N}, {"seconds_ago": s} or {"utc": "2026-01-31T12:00:00Z"}'


class Request(_Part, kw_only=True, tag_field="op"):
    """Base of all requests. `id` comes back in the answer."""

    id: str | None = None


class Ping(Request, tag="ping"):
    pass


class Status(Request, tag="status"):
    pass


class DeviceList(Request, tag="device_list"):
    direction: Literal["input", "output"] | None = None
    format: Literal["audio", "midi"] | None = None


class DeviceFind(Request, tag="device_find"):
    name: Text


class DeviceWait(Request, tag="device_wait"):
    name: Text
    timeout_s: Seconds


class StreamStart(Request, tag="stream_start"):
    """Begin a take. `chunk_size_bytes` counts all channels; `wait` begins without the device, in *waiting*.

    With `chunk_path` (absolute) the audio goes to the controller's files; `keep` is what retention leaves of the
    recording ("7d", "200GB"), `roll` how long a take lasts before the next one goes on ("1h").

    Raises InvalidURI, InvalidFormat, InvalidChunkSize (as far as the request alone tells; `chunking` judges the
    rest), PathNotAllowed, InvalidRequest.
    """

    uri: str
    device_identity: Text
    format: Format
    chunk_size_bytes: int | None = None
    latency_frames: Annotated[int, msgspec.Meta(ge=1, le=65536)] | None = None
    staging_seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] | None = None
    wait: bool = False
    chunk_path: FilePath | None = None
    keep: str | None = None
    roll: str | None = None

    def __post_init__(self) -> None:
        check_uri(self.uri)
        if self.roll is not None:
            _check_roll(self.roll, self.uri)
            if self.chunk_path is not None:
                raise InvalidRequest("roll and chunk_path exclude each other", hint="leave one of them out")
        _check_path(self.chunk_path)
        if self.keep is not None:
            parse_keep(self.keep)
        if self.chunk_size_bytes is not None:
            known = self.format if isinstance(self.format, AudioFormat) else AudioFormat()
            check_chunk_size(self.chunk_size_bytes, known.channels or 1, known.sample_bytes)


class StreamSwitchChunk(Request, tag="stream_switch_chunk"):
    uri: str
    new_chunk_path: FilePath

    def __post_init__(self) -> None:
        check_uri(self.uri)
        _check_path(self.new_chunk_path)


class _OfStream(Request):
    uri: str

    def __post_init__(self) -> None:
        check_uri(self.uri)


class StreamStop(_OfStream, tag="stream_stop"):
    pass


class StreamList(Request, tag="stream_list"):
    pass


class StreamStatusOf(_OfStream, tag="stream_status"):
    """The request; what it is answered with is `StreamStatus`."""


class RecordingList(Request, tag="recording_list"):
    pass


class Slice(Request, tag="slice"):
    """A range of a recording, from `from` up to, not including, `to`.

    Raises InvalidURI, InvalidRange, PathNotAllowed.
    """

    uri: str
    from_: Time = msgspec.field(name="from")
    to: Time
    output: Literal["virtual", "materialize"]
    path: FilePath | None = None
    container: Literal["wav", "rf64", "flac", "raw"] | None = None
    gaps: Literal["zeros", "cut", "nan"] = "zeros"

    def __post_init__(self) -> None:
        check_uri(self.uri)
        _check_path(self.path)
        first, last = (t.frame if isinstance(t, Moment) else None for t in (self.from_, self.to))
        if first is not None and last is not None and first > last:
            raise InvalidRange(f"from frame {first} lies after to frame {last}", hint="from comes first")


class Verify(_OfStream, tag="verify"):
    pass


class EventsSince(Request, tag="events_since"):
    """Events with a greater `seq` than this, oldest first."""

    seq: Count
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000


class Retire(Request, tag="retire"):
    """Remove the oldest sealed chunks beyond `keep` ("7d", "200GB"), or beyond what is configured without it."""

    keep: str | None = None

    def __post_init__(self) -> None:
        if self.keep is not None:
            parse_keep(self.keep)


class Shutdown(Request, tag="shutdown"):
    pass


def _ops(kind: type[Request]) -> dict[str, type[Request]]:
    special = kind.__subclasses__()
    if not special:
        return {str(kind.__struct_config__.tag): kind}
    return {op: leaf for each in special for op, leaf in _ops(each).items()}


REQUESTS = _ops(Request)
"""The struct of each op."""


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


class Level(msgspec.Struct, frozen=True):
    """Of one channel since the last look; None is silence (minus infinity)."""

    peak_dbfs: float | None
    rms_dbfs: float | None


class Slots(msgspec.Struct, frozen=True):
    total: int
    free: int
    full: int


class CallbackTimes(msgspec.Struct, frozen=True):
    """Time that the process callback took, ns. `histogram[k]` counts those of 2^k to 2^(k+1) ns."""

    total: int
    longest: int
    histogram: list[int]


class StreamStatus(msgspec.Struct, frozen=True):
    """A stream as it stands. `device`: PROTOCOL's Device, None until it was there once; `drift_ppm`: the device's
    clock against the monotonic one, None until known.
    """

    uri: str
    state: Literal["waiting", "connecting", "paused", "streaming", "error", "stopped"]
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
    drift_ppm: float | None
    levels: list[Level]
    recording: str
    callback_ns: CallbackTimes
    reason: str = ""  # of the state
    notes: list[str] = []  # what is done to the device's samples on their way, a sentence each


RESULTS: dict[str, tuple[str, ...]] = {
    "ping": ("name", "version", "protocol", "run_id", "pid", "uptime_s"),
    "status": ("pipewire", "streams", "staging", "store", "event_seq"),
    "device_list": ("devices",),
    "device_find": ("device",),
    "device_wait": ("device",),
    "stream_start": ("uri", "recording", "device", "format", "chunk_frames", "state"),
    "stream_switch_chunk": ("uri",),
    "stream_stop": ("uri", "recording", "n_frames", "n_chunks", "n_gaps", "lost_frames", "clean"),
    "stream_list": ("streams",),
    "stream_status": StreamStatus.__struct_fields__,
    "recording_list": ("recordings",),
    "slice": ("first_frame", "n_frames", "chunks", "gaps"),
    "verify": ("ok", "n_chunks", "n_frames", "bad", "gaps"),
    "events_since": ("events", "oldest_seq"),
    "shutdown": (),
    "retire": ("retired",),
}
"""The fields that an op's result always has; more may come."""

EVENTS: dict[str, tuple[str, ...]] = {
    "daemon_started": (),
    "daemon_stopping": (),
    "device_added": ("device",),
    "device_removed": ("device",),
    "device_changed": ("device",),
    "stream_started": (),
    "stream_state": ("state", "reason"),
    "stream_head_position": ("frame", "byte_position"),
    "stream_chunk_full": ("chunk", "path", "first_frame", "frames_written", "bytes_written"),
    "stream_chunk_sealed": ("chunk", "path", "hash", "first_frame", "n_frames"),
    "stream_gap": ("first_frame", "n_frames", "cause", "confidence"),
    "stream_error": ("error", "recoverable"),
    "stream_notice": ("notes", "sample_gain", "muted"),
    "stream_stopped": RESULTS["stream_stop"][1:],
    "stream_rolled": ("take", "continues"),
    "recovery": ("outcome", "text"),
    "storage_low": ("path", "free_bytes", "margin_bytes"),
    "storage_full": ("error",),
    "storage_failed": ("error",),
    "storage_restored": (),
}
"""The fields that an event of a type has beside the common ones; more may come."""


class _Head(msgspec.Struct):
    op: Any = None
    id: Any = None


_decode_head = msgspec.json.Decoder(_Head).decode
_decoders = {op: msgspec.json.Decoder(kind) for op, kind in REQUESTS.items()}
_encoder = msgspec.json.Encoder()


def decode_request(raw: bytes) -> Request:
    """The request that the last frame of a command holds.

    Raises InvalidRequest (too large, not JSON, a wrong type, an unknown or a missing field: which, what was
    expected and what came), UnknownOp with the nearest op, or what the op's struct raises.
    """
    if len(raw) > MAX_REQUEST_BYTES:
        raise InvalidRequest(
            f"the request is {len(raw)} bytes, more than {MAX_REQUEST_BYTES}",
            hint="a command is one JSON object",
        )
    try:
        op = _decode_head(raw).op
    except msgspec.ValidationError as e:
        raise InvalidRequest(f"the request is no JSON object: {e}", hint=_FORM_HINT) from None
    except (ValueError, RecursionError) as e:
        raise InvalidRequest(f"the request is not JSON in UTF-8: {e}", hint=_FORM_HINT) from None
    if op is None:
        raise InvalidRequest("the request has no `op`", hint=_FORM_HINT)
    if not isinstance(op, str):
        raise InvalidRequest(f"field `op`: expected a string, got {_shown(op)}", hint=_FORM_HINT)
    decoder = _decoders.get(op)
    if decoder is None:
        raise UnknownOp(
            f"there is no op {_shown(op)}",
            hint=_nearest(op, list(REQUESTS), f"the ops are {', '.join(REQUESTS)}"),
        )
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as e:
        raise _explained(str(e), raw, op) from None
    except (ValueError, RecursionError) as e:
        raise InvalidRequest(f"the request is not JSON in UTF-8: {e}", hint=_FORM_HINT) from None


def request_id(raw: bytes) -> str | None:
    """The `id` of a request that may be wrong in every other way; None where none can be read."""
    try:
        found = _decode_head(raw).id
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def encode_ok(request_id: str | None, result: Any) -> bytes:
    """The answer to a request that was done; `result` is a mapping or a struct."""
    return _encoder.encode({"ok": True, "id": request_id, "result": result})


def encode_error(request_id: str | None, error: ChaosError) -> bytes:
    """The answer to a request that was not."""
    wire = error.to_wire()
    try:
        return _encoder.encode({"ok": False, "id": request_id, "error": wire})
    except (TypeError, ValueError, RecursionError):
        plain = {
            "code": error.code,
            "message": ascii(error.message),
            "hint": ascii(error.hint),
            "details": {},
        }
        return _encoder.encode({"ok": False, "id": request_id, "error": plain})


def make_event(
    type: str,  # noqa: A002
    *,
    seq: int,
    run_id: str,
    stream_uri: str | None = None,
    **fields: Any,
) -> tuple[bytes, bytes]:
    """Topic and payload of an event. It happens now, unless `wall_ns` and `monotonic_ns` are given.

    Raises ValueError for a type that is not in `EVENTS` or one of its fields left out.
    """
    if type not in EVENTS or not fields.keys() >= set(EVENTS[type]):
        raise ValueError(f"event {type!r} with {sorted(fields)}, not with {EVENTS.get(type)}")
    now = {"wall_ns": time.time_ns(), "monotonic_ns": time.monotonic_ns()}
    event = {"type": type, "seq": seq, "run_id": run_id, **now}
    topic = type
    if stream_uri is not None:
        event["stream_uri"] = stream_uri
        topic = f"{type} {stream_uri}"
    return topic.encode(), _encoder.encode(event | fields)


def _check_roll(roll: str, uri: str) -> None:
    if parse_duration_s(roll) < 1:
        raise InvalidRequest(f"a new take every {_shown(roll)}", hint="roll takes at least a second: 30m, 1h")
    check_uri(f"{uri}.0002")


def _check_path(path: str | None) -> None:
    if path is not None and (not path.startswith("/") or "\0" in path):
        raise PathNotAllowed(
            f"{_shown(path)} is not an absolute path", hint="give one that begins with a slash"
        )


_FORM_HINT = 'a request looks like {"op": "ping", "id": "1"}'
_COMPLAINT = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_PARTS: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "format": (AudioFormat, MidiFormat),
    "from": (Moment,),
    "to": (Moment,),
}


def _explained(complaint: str, raw: bytes, op: str) -> ChaosError:
    """msgspec's complaint as an error that names the field, what was expected and what came."""
    match = _COMPLAINT.fullmatch(complaint)
    what, path = (match["what"], match["path"] or "") if match else (complaint, "")
    owner = path.partition(".")[0]
    kinds = _PARTS.get(owner, (REQUESTS[op],))
    names = [name for kind in kinds for name in kind.__struct_encode_fields__]
    takes = f"{owner if owner in _PARTS else op} takes {', '.join(names)}"
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        place = f"field `{path}` of {op}" if path else op
        return InvalidRequest(f"{place} has no {_shown(unknown[1])}", hint=_nearest(unknown[1], names, takes))
    if path == "format.type" or (path == "format" and "`type`" in what):
        return InvalidFormat("the format's type is unknown or missing", hint='use "audio" or "midi"')
    if missing := re.fullmatch(r"Object missing required field `(.*)`", what):
        return InvalidRequest(f"{op} needs the field `{missing[1]}`", hint=takes)
    hint = _TIME_HINT if owner in ("from", "to") else takes
    if choices := _choices(typing.get_type_hints(REQUESTS[op]).get(path)):
        hint = f"use one of {', '.join(choices)}"
    came = "" if "got" in what or "'" in what else f", got {_value_at(raw, path)}"
    return InvalidRequest(f"field `{path}`: {what[:1].lower()}{what[1:]}{came}", hint=hint)


def _value_at(raw: bytes, path: str) -> str:
    try:
        value: Any = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return "a number beyond all bounds"
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return _shown(value)


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is Literal:
        return list(typing.get_args(annotation))
    return [choice for part in typing.get_args(annotation) for choice in _choices(part)]


def _nearest(word: str, known: list[str], otherwise: str) -> str:
    near = get_close_matches(word[:100], known, n=1)
    return f"did you mean {near[0]}?" if near else otherwise


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 120 else f"{text[:120]}..."
