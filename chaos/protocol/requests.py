"""What clients ask: a struct per op, as PROTOCOL.md has them.

Whatever can be judged without the daemon is judged here, so that an op's code sees only sound values. Frames count
from the stream's first.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from chaos.terms.chunking import SAMPLE_BYTES, check_chunk_size
from chaos.terms.errors import InvalidFormat, InvalidRange, InvalidRequest, PathNotAllowed
from chaos.terms.units import parse_duration_s, parse_keep
from chaos.terms.uri import check_uri

__all__ = [
    "REQUESTS",
    "STAGING_SECONDS",
    "TIME_HINT",
    "AudioFormat",
    "DeviceFind",
    "DeviceList",
    "DeviceWait",
    "EventsSince",
    "Format",
    "MidiFormat",
    "Moment",
    "Ping",
    "RecordingList",
    "Request",
    "Retire",
    "Shutdown",
    "Slice",
    "Status",
    "StreamList",
    "StreamStart",
    "StreamStatusOf",
    "StreamStop",
    "StreamSwitchChunk",
    "Time",
    "Verify",
    "shown",
]

MAX_CHANNELS = 64
LAYOUTS = ("planar", "interleaved")
_OWN = "leave it out to use the device's own, or give"
STAGING_SECONDS = (0.1, 3600.0)  # of the engine's setting and of a stream's own

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
                f"sample_format {self.sample_format!r} can't be recorded",
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
            raise InvalidRange(f"a time with {' and '.join(given) or 'nothing in it'}", hint=TIME_HINT)
        if self.frame is not None and not 0 <= self.frame < 2**63:
            raise InvalidRange(f"frame {self.frame} is not in any stream", hint="frames count from 0 to 2^63 - 1")
        if self.seconds_ago is not None and not 0 <= self.seconds_ago < math.inf:
            raise InvalidRange(f"seconds_ago is {self.seconds_ago}", hint="it is 0 (the head) or more")


Time: TypeAlias = Literal["start", "head"] | Moment
TIME_HINT = 'a time is "start", "head", {"frame": N}, {"seconds_ago": s} or {"utc": "2026-01-31T12:00:00Z"}'


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
    staging_seconds: Annotated[float, msgspec.Meta(ge=STAGING_SECONDS[0], le=STAGING_SECONDS[1])] | None = None
    wait: bool = False
    chunk_path: FilePath | None = None
    keep: str | None = None
    roll: str | None = None

    def __post_init__(self) -> None:
        check_uri(self.uri)
        if self.roll is not None:
            _check_roll(self.roll, self.uri)
            if self.chunk_path is not None:
                raise InvalidRequest("roll and chunk_path can't be used together", hint="leave one of them out")
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


def _check_roll(roll: str, uri: str) -> None:
    if parse_duration_s(roll) < 1:
        raise InvalidRequest(f"a new take every {shown(roll)}", hint="roll takes at least a second: 30m, 1h")
    check_uri(f"{uri}.0002")


def _check_path(path: str | None) -> None:
    if path is not None and (not path.startswith("/") or "\0" in path):
        raise PathNotAllowed(
            f"{shown(path)} is not an absolute path", hint="give one that begins with a slash"
        )


def shown(value: Any) -> str:
    """A value of a request as its sender wrote it, cut where it is long."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 120 else f"{text[:120]}..."
