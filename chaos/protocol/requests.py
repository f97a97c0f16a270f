"""What clients ask: a struct per op, as PROTOCOL.md has them.

Whatever can be judged without the daemon is judged here, so that an op's code sees only sound values. Frames count
from the stream's first.
"""

from __future__ import annotations

import datetime as dt
import os
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from chaos.terms.chunking import check_chunk_size, check_midi_chunk_size
from chaos.terms.commands import parse_command
from chaos.terms.containers import Container, GapFill, Subtype
from chaos.terms.errors import InvalidRange, InvalidRequest, PathNotAllowed
from chaos.terms.formats import MAX_CHANNELS, AudioFormat, Format, MidiFormat
from chaos.terms.marks import Label, check_label
from chaos.terms.moments import TIME_HINT, Moment, Time
from chaos.terms.units import parse_keep, parse_roll_s
from chaos.terms.uri import check_session, check_uri

__all__ = [
    "MAX_REQUEST_BYTES",
    "REQUESTS",
    "STAGING_SECONDS",
    "STANDBY_SECONDS",
    "TIME_HINT",
    "AudioFormat",
    "DeviceFind",
    "DeviceList",
    "DeviceWait",
    "EventsSince",
    "Format",
    "Levels",
    "MidiFormat",
    "Moment",
    "Ping",
    "RecordingList",
    "Request",
    "Retire",
    "SessionKeep",
    "SessionList",
    "SessionStart",
    "SessionStatusOf",
    "SessionStop",
    "SessionStream",
    "SetMark",
    "Shutdown",
    "Slice",
    "Status",
    "StreamAcceptPort",
    "StreamKeep",
    "StreamList",
    "StreamStart",
    "StreamStatusOf",
    "StreamStop",
    "StreamSwitchChunk",
    "Time",
    "Verify",
    "checked_size",
    "shown",
]

MAX_REQUEST_BYTES = 1 << 20
MAX_ID_CHARACTERS = 256
MAX_NAME_BYTES = 240  # of a file: 255, less what is put around it while it is being written
_LAST = dt.datetime.max - dt.timedelta(days=2)  # whose date in any other zone is in the calendar, too
RING_SLACK_S = 2.0  # what comes until the next look at it
STANDBY_SECONDS = (1.0, 3600.0)
STAGING_SECONDS = (0.1, 3600.0)  # of the engine's setting and of a stream's own

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
FilePath: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
ChannelMap: TypeAlias = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=32)]], msgspec.Meta(min_length=1, max_length=MAX_CHANNELS)
]
Instant: TypeAlias = Annotated[dt.datetime, msgspec.Meta(tz=True)]
Length: TypeAlias = Annotated[float, msgspec.Meta(ge=0.1, le=366 * 86400)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=366 * 86400)]


class _Part(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A request or a part of one."""


class Request(_Part, kw_only=True, tag_field="op"):
    """Base of all requests. `id` comes back in the answer."""

    id: Annotated[str, msgspec.Meta(max_length=MAX_ID_CHARACTERS)] | None = None


class Ping(Request, tag="ping"):
    pass


class Status(Request, tag="status"):
    pass


class DeviceList(Request, tag="device_list"):
    """`all`: what programs play, too."""

    direction: Literal["input", "output"] | None = None
    format: Literal["audio", "midi"] | None = None
    all: bool = False


class DeviceFind(Request, tag="device_find"):
    name: Text
    format: Literal["audio", "midi"] | None = None


class DeviceWait(Request, tag="device_wait"):
    name: Text
    timeout_s: Seconds
    format: Literal["audio", "midi"] | None = None


class Levels(_Part):
    """A take is due where a sample is above `above_dbfs`: from `pre_s` before the first to `hold_s` after the last."""

    above_dbfs: Annotated[float, msgspec.Meta(ge=-200, lt=0)]
    pre_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 2.0
    hold_s: Annotated[float, msgspec.Meta(ge=0.01, le=3600)] = 5.0


class StreamStart(Request, tag="stream_start"):
    """Begin a take. `chunk_size_bytes` counts all channels; `wait` begins without the device, in *waiting*.

    With `chunk_path` (absolute) the audio goes to the controller's files; `keep` is what retention leaves of the
    recording ("7d", "200GB"), `roll` how long a take lasts before the next one goes on ("1h"; left out, a day), with
    `align` "clock" on the hour (the multiples of `roll` from local midnight on). `channel_map` are the
    channels to record, by name or number ("FL", "3"), in that order; left out, all. With `accept_port_change` a device
    that comes back at another port is taken for the same where its serial number says so; with `require_own_clock`
    nothing is kept while another clock than the device's own drives it; with `roll_on_format_change` one that comes
    back with other channels or another rate is recorded on in a new take. With `trace` the answer tells when the start
    came to each of its steps. With `standby_s` the last seconds are held in memory, and nothing is recorded until
    `StreamKeep`. A stream is silent where no sample has been above `silent_below_dbfs` for `silent_after_s`.
    Before `start_at` nothing is recorded; the stream ends at `stop_at`, or `stop_after_s` after its first frame. With
    `take_names` "time" takes after the first are named by the moment of their beginning, in UTC. `on_seal` and
    `on_roll` are commands to run for each sealed chunk and each take that has ended, where the engine allows them.
    With `trigger` nothing is recorded but takes of their own where the signal is above a level.

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
    align: Literal["clock"] | None = None
    channel_map: ChannelMap | None = None
    accept_port_change: bool = False
    require_own_clock: bool = False
    roll_on_format_change: bool = False
    trace: bool = False
    standby_s: Annotated[float, msgspec.Meta(ge=STANDBY_SECONDS[0], le=STANDBY_SECONDS[1])] | None = None
    silent_below_dbfs: Annotated[float, msgspec.Meta(ge=-200, le=0)] = -60.0
    silent_after_s: Annotated[float, msgspec.Meta(ge=1, le=86400)] = 30.0
    start_at: Instant | None = None
    stop_at: Instant | None = None
    stop_after_s: Length | None = None
    take_names: Literal["number", "time"] = "number"
    on_seal: Text | None = None
    on_roll: Text | None = None
    trigger: Levels | None = None

    @property
    def ring_s(self) -> float | None:
        """How much is held in memory before there is a recording; None where there is one from the start."""
        return self.standby_s if self.trigger is None else self.trigger.pre_s + RING_SLACK_S

    def __post_init__(self) -> None:
        check_uri(self.uri)
        self._check_when()
        self._check_trigger()
        for command in (self.on_seal, self.on_roll):
            if command is not None:
                parse_command(command)
        if self.standby_s is not None and (self.chunk_path is not None or self.roll_on_format_change):
            other = "chunk_path" if self.chunk_path is not None else "roll_on_format_change"
            raise InvalidRequest(f"standby_s and {other} can't be used together", hint="leave one of them out")
        if self.roll is not None:
            _check_roll(self.roll, self.uri)
        if self.chunk_path is not None and (self.roll is not None or self.roll_on_format_change):
            rolls = "roll" if self.roll is not None else "roll_on_format_change"
            raise InvalidRequest(f"{rolls} and chunk_path can't be used together", hint="leave one of them out")
        _check_path(self.chunk_path)
        if self.keep is not None:
            parse_keep(self.keep)
        if isinstance(self.format, MidiFormat):
            if self.chunk_size_bytes is not None:
                check_midi_chunk_size(self.chunk_size_bytes)
        elif self.chunk_size_bytes is not None:
            check_chunk_size(self.chunk_size_bytes, self.format.channels or 1, self.format.sample_bytes)


    def _check_trigger(self) -> None:
        if self.trigger is None:
            return
        others = ("standby_s", "chunk_path", "roll", "roll_on_format_change")
        if given := [name for name in others if getattr(self, name)]:
            raise InvalidRequest(f"trigger and {given[0]} can't be used together", hint="leave one of them out")
        if isinstance(self.format, MidiFormat):
            raise InvalidRequest("MIDI has no level to be triggered by", hint="leave --trigger out")
        check_uri(f"{self.uri}-20260131T120000Z-100")

    def _check_when(self) -> None:
        _check_times(self)
        if self.take_names == "time":
            check_uri(f"{self.uri}.20260131120000")


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


class SetMark(Request, tag="mark"):
    """Name a frame (left out: the head) of a running stream's take, or of a recording that has ended (its end)."""

    uri: str
    label: Label
    frame: Count | None = None

    def __post_init__(self) -> None:
        check_uri(self.uri)
        check_label(self.label)


class StreamStop(_OfStream, tag="stream_stop"):
    pass


class StreamKeep(_OfStream, tag="stream_keep"):
    """What a stream in standby holds becomes its recording, from the oldest frame on, and it goes on."""


class StreamAcceptPort(_OfStream, tag="stream_accept_port"):
    """From now on the stream's device is the same at any port, where its serial number says so."""


class SessionStream(_Part):
    """One of a session's streams; its fields are those of `StreamStart`."""

    uri: str
    device_identity: Text
    format: Format
    channel_map: ChannelMap | None = None
    keep: str | None = None
    roll: str | None = None
    align: Literal["clock"] | None = None
    standby_s: Annotated[float, msgspec.Meta(ge=STANDBY_SECONDS[0], le=STANDBY_SECONDS[1])] | None = None

    def __post_init__(self) -> None:
        check_uri(self.uri)
        if self.keep is not None:
            parse_keep(self.keep)
        if self.roll is not None:
            _check_roll(self.roll, self.uri)


class SessionStart(Request, tag="session_start"):
    """Start these streams together, or none of them. `wait` begins without devices that are not there yet. The moments
    are those of `StreamStart`, and of all streams.

    Raises InvalidURI, InvalidFormat, InvalidRequest.
    """

    session: str
    streams: Annotated[list[SessionStream], msgspec.Meta(min_length=1, max_length=256)]
    wait: bool = False
    start_at: Instant | None = None
    stop_at: Instant | None = None
    stop_after_s: Length | None = None

    def __post_init__(self) -> None:
        check_session(self.session)
        _check_times(self)
        if len({stream.uri for stream in self.streams}) != len(self.streams):
            raise InvalidRequest("two streams of the session have one URI", hint="give each a URI of its own")


def _check_times(request: StreamStart | SessionStart) -> None:
    for name in ("start_at", "stop_at"):
        moment = getattr(request, name)
        if isinstance(moment, dt.datetime) and moment.replace(tzinfo=None) > _LAST:
            raise InvalidRequest(f"{name} is at the end of the calendar", hint="use one before the year 9999 ends")
    if request.stop_at is not None and request.stop_after_s is not None:
        raise InvalidRequest("stop_at and stop_after_s can't be used together", hint="leave one of them out")
    if request.start_at is not None and request.stop_at is not None and request.stop_at <= request.start_at:
        raise InvalidRequest("stop_at is not after start_at", hint="end it later: --until")


class _OfSession(Request):
    session: str

    def __post_init__(self) -> None:
        check_session(self.session)


class SessionStop(_OfSession, tag="session_stop"):
    pass


class SessionKeep(_OfSession, tag="session_keep"):
    """What the session's streams in standby hold becomes their recordings, and they go on."""


class SessionStatusOf(_OfSession, tag="session_status"):
    """The request; what it is answered with is `SessionStatus`."""


class SessionList(Request, tag="session_list"):
    pass


class StreamList(Request, tag="stream_list"):
    pass


class StreamStatusOf(_OfStream, tag="stream_status"):
    """The request; what it is answered with is `StreamStatus`."""


class RecordingList(Request, tag="recording_list"):
    """Recordings, newest first: all, or the newest `limit` of those that match all that is given.

    `uri` is a stream's or a take's, `device` a part of the device's name or identity; `since` and `until` find what has
    something in that time. Raises InvalidURI.
    """

    uri: str | None = None
    device: Text | None = None
    since: Annotated[dt.datetime, msgspec.Meta(tz=True)] | None = None
    until: Annotated[dt.datetime, msgspec.Meta(tz=True)] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None

    def __post_init__(self) -> None:
        if self.uri is not None:
            check_uri(self.uri)


class Slice(Request, tag="slice"):
    """A range of a recording, from `from` up to, not including, `to`.

    Raises InvalidURI, InvalidRange, InvalidRequest, PathNotAllowed.
    """

    uri: str
    from_: Time = msgspec.field(name="from")
    to: Time
    output: Literal["virtual", "materialize"]
    path: FilePath | None = None
    container: Container | None = None
    subtype: Subtype | None = None
    gaps: GapFill = "zeros"

    def __post_init__(self) -> None:
        check_uri(self.uri)
        _check_path(self.path)
        if self.output == "virtual" and (self.path or self.container or self.subtype):
            raise InvalidRequest(
                "a virtual slice writes no file",
                hint='leave out path, container and subtype, or use output "materialize"',
            )
        first, last = (t.frame if isinstance(t, Moment) else None for t in (self.from_, self.to))
        if first is not None and last is not None and first > last:
            raise InvalidRange(
                f"the range begins at frame {first} and ends before it, at {last}", hint="`from` must not be after `to`"
            )


class Verify(_OfStream, tag="verify"):
    pass


class EventsSince(Request, tag="events_since"):
    """Events with a greater `seq` than this, oldest first."""

    seq: Count
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000


class Retire(Request, tag="retire"):
    """Remove the oldest sealed chunks beyond `keep` ("7d", "200GB"), or beyond what is configured without it.

    With `dry_run` nothing goes, and the answer says what would.
    """

    keep: str | None = None
    dry_run: bool = False

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
    parse_roll_s(roll)
    check_uri(f"{uri}.0002")


def _check_path(path: str | None) -> None:
    if path is not None and (not path.startswith("/") or "\0" in path):
        raise PathNotAllowed(
            f"{shown(path)} is not an absolute path", hint="use a path that begins with a slash"
        )
    if path is not None and not _is_spelled(path):
        raise PathNotAllowed(
            f"{shown(path)} can't be spelled in chaosd's locale",
            hint="start chaosd in a UTF-8 locale (LC_ALL=C.UTF-8), or use ASCII for the file and its folders",
        )
    if path is not None and any(len(part.encode(errors="surrogatepass")) > MAX_NAME_BYTES for part in path.split("/")):
        raise PathNotAllowed(
            f"{shown(path)} has a name of more than {MAX_NAME_BYTES} bytes in it",
            hint="use shorter names for the file and its folders",
        )


def _is_spelled(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


def checked_size(raw: bytes) -> bytes:
    """These bytes, which are not too many for a request. Raises InvalidRequest."""
    if len(raw) > MAX_REQUEST_BYTES:
        raise InvalidRequest(
            f"the request is {len(raw)} bytes, more than {MAX_REQUEST_BYTES}",
            hint="a command is one JSON object",
        )
    return raw


def shown(value: Any) -> str:
    """A value of a request as its sender wrote it, cut where it is long."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 120 else f"{text[:120]}..."
