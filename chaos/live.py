"""A device as numpy arrays, while it is recorded.

    with chaos.capture("Scarlett") as stream:
        stream.wait(5)
        x = stream.last(5.0)        # (channels, frames); frames in gaps are NaN, and are listed in stream.gaps

The chaosd that runs does it, or else an engine in this process. There is a recording with its ledger either way.
"""

from __future__ import annotations

import numbers
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from chaos.client import Asking, Client
from chaos.protocol.answers import Marked, StreamEnded, StreamStatus
from chaos.protocol.config import is_remote
from chaos.terms.errors import (
    ChaosError,
    InvalidFormat,
    InvalidRange,
    InvalidRequest,
    StreamNotFound,
    TimedOut,
    error_from_code,
)
from chaos.terms.formats import MIDI, SAMPLES, AudioFormat, Format, MidiFormat
from chaos.terms.ledger import Gap, lost_frames
from chaos.terms.uri import of_free, uri_by_time
from chaos.terms.visible import visible

if TYPE_CHECKING:
    from chaos.read.follow import Follower
    from chaos.read.missing import Missing
    from chaos.read.recording import Recording
    from chaos.read.samples import Samples

__all__ = ["Capture", "capture"]

_MOST_SECONDS = 1_000_000_000  # thirty years
_NO_ROLL = "3650d"  # one take, so that its frames count from its own first
_AUDIO = AudioFormat()


def capture(
    device: str | None = None,
    *,
    uri: str | None = None,
    format: Format | str = _AUDIO,  # noqa: A002
    channel_map: list[str] | None = None,
    keep: str | None = None,
    store: Path | None = None,
    endpoint: str | None = None,
    events_endpoint: str | None = None,
    settle_s: float = 15.0,
) -> Capture:
    """A capture of a device, to be entered: `with chaos.capture("Scarlett") as stream`.

    `device` is an identity, a name or a part of the description; left out, the default one. `format` is a sample
    format ("f32", "s16", "s32"), "audio", "midi", an AudioFormat or a MidiFormat. `uri` is the recording's; left out,
    it is named by the device and the time. `keep` ("1h", "2GB") is what stays of it while it goes on.
    A chaosd that runs, at `endpoint` or the default one, does the capture; where none does it is an engine in this
    process, with its recordings in `store` (left out, the user's). Entering it waits, for at most `settle_s`, until
    there are frames.

    Raises InvalidFormat for another format, and InvalidRequest for a chaosd on another machine, whose memory can't be
    read from here; entering it raises what
    `stream_start` does (DeviceNotFound, DeviceAmbiguous, FormatUnsupported ...), PipeWireUnavailable, and TimedOut.
    """
    return Capture(device, uri, _form(format), channel_map, keep, store, endpoint, events_endpoint, settle_s)


class Capture:
    """A capture that runs from `__enter__` to `__exit__`; for one thread at a time. Made by `capture`.

    Attributes:
        uri: the recording's.
        ended: after the end, what the stream's stop told; None where the stream had ended by itself.
    """

    def __init__(
        self,
        device: str | None,
        uri: str | None,
        format: Format,  # noqa: A002
        channel_map: list[str] | None,
        keep: str | None,
        store: Path | None,
        endpoint: str | None,
        events_endpoint: str | None,
        settle_s: float,
    ) -> None:
        if is_remote(endpoint or ""):
            raise InvalidRequest(
                "a capture is read from this machine's memory, so chaosd must be on it",
                hint="use chaos.Client(endpoint) for one that is elsewhere",
            )
        self.uri = uri or ""
        self.ended: StreamEnded | None = None
        self._name = device
        self._format = format
        self._options = {"channel_map": channel_map, "keep": keep}
        self._store = store
        self._endpoints = endpoint, events_endpoint
        self._settle_s = settle_s
        self._stack = ExitStack()
        self._chaosd: Asking | None = None
        self._recording: Recording | None = None

    def __enter__(self) -> Self:
        if self._recording is not None:
            raise InvalidRequest("a capture runs once", hint="make another one with chaos.capture")
        try:
            return self._entered()
        except ChaosError as error:
            error.hint = _in_python(error.hint)
            raise

    def _entered(self) -> Self:
        with ExitStack() as stack:
            chaosd, store = self._asked(stack)
            device = self._device(chaosd)
            is_exact = self._name is not None and self._name.startswith(("node:", "object:"))
            asked = {
                "device_identity": self._name if is_exact else device["identity"],
                "format": self._format,
                **{name: value for name, value in self._options.items() if value is not None},
            }
            self._chaosd = chaosd

            def begin(uri: str) -> None:
                self.uri = uri
                self._begin(chaosd, stack, {"uri": uri, **asked})

            if self.uri:
                begin(self.uri)
            else:
                of_free(uri_by_time(device["description"] or device["name"]), begin)
            self._recording = stack.enter_context(_open(self.uri, store))
            self._stack = stack.pop_all()
        return self

    def _asked(self, stack: ExitStack) -> tuple[Asking, Path]:
        client = stack.enter_context(Client(*self._endpoints))
        if client.reachable():
            return client, Path(client.status().store.path)
        from chaos.local import Local
        from chaos.protocol.config import Config

        config = Config() if self._store is None else Config(store=Path(self._store).absolute())
        return stack.enter_context(Local(config)), config.store

    def _device(self, chaosd: Asking) -> dict[str, Any]:
        if self._name is None:
            return chaosd.default_device()
        kind = "audio" if isinstance(self._format, AudioFormat) else "midi"
        return dict(chaosd.call("device_find", name=self._name, format=kind)["device"])

    def _begin(self, chaosd: Asking, stack: ExitStack, asked: dict[str, Any]) -> None:
        """Returns when there is a recording with frames in it."""
        topics = [f"stream_{kind} {self.uri}" for kind in ("started", "error")]
        with chaosd.events(*topics, timeout_s=self._settle_s) as told:
            started = chaosd.call("stream_start", roll=_NO_ROLL, **asked)
            stack.callback(self._end)  # not before: another's stream may have this URI
            if started["recording"]:
                return
            try:
                while not self._has_begun(next(told)):
                    pass
            except TimedOut:
                reason = chaosd.stream_status(self.uri).reason or "its device brings nothing"
                raise TimedOut(
                    f"no frame of {self.uri} came within {self._settle_s:g} s: {reason}",
                    hint="see what there is with: chaosctl devices",
                ) from None

    def _has_begun(self, event: dict[str, Any]) -> bool:
        """Raises the stream's own error."""
        if event["stream_uri"] != self.uri:
            return False
        if event["type"] == "stream_error" and not event["recoverable"]:
            error = event["error"]
            raise error_from_code(error["code"], error["message"], error["hint"])
        return bool(event["type"] == "stream_started")

    def _end(self) -> None:
        try:
            self.ended = self._asking.stream_stop(self.uri)
        except StreamNotFound:
            return
        if self._recording is not None:
            self._recording.refresh()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._chaosd = None

    @property
    def recording(self) -> Recording:
        """The recording, as `chaos.open` gives it. Raises InvalidRequest before the capture runs."""
        if self._recording is None:
            raise InvalidRequest("this capture doesn't run", hint="enter it: with chaos.capture(...) as stream")
        return self._recording

    @property
    def device(self) -> dict[str, Any]:
        """The device as it was at the start: `name`, `description`, `identity` and so on (PROTOCOL.md's Device)."""
        return self.recording.device

    @property
    def sample_rate(self) -> int:
        return self.recording.sample_rate

    @property
    def channels(self) -> int:
        return self.recording.channels

    @property
    def n_frames(self) -> int:
        """The timeline's length so far, gaps included."""
        return self.recording.n_frames

    @property
    def gaps(self) -> list[Gap]:
        """What is missing so far, by first frame; a gap that has not ended reaches up to the head."""
        return self.recording.gaps

    @property
    def lost_frames(self) -> int:
        return lost_frames(self.gaps)

    def status(self) -> StreamStatus:
        """The stream as it stands: state, levels, silence, clipping. Raises StreamNotFound where it ended by itself."""
        return self._asking.stream_status(self.uri)

    @property
    def _asking(self) -> Asking:
        if self._chaosd is None:
            raise InvalidRequest("this capture doesn't run", hint="enter it: with chaos.capture(...) as stream")
        return self._chaosd

    def wait(self, seconds: float, timeout_s: float | None = 10.0) -> None:
        """Waits until `seconds` more have come, counted in frames.

        Raises TimedOut where no frame comes for `timeout_s` (the device is away: its frames come as a gap when it is
        back), StreamNotFound where the stream ends, InvalidRange for less than 0 seconds, too many, and no number.
        """
        from chaos.read.follow import await_frames

        wanted = self.n_frames + self._frames(seconds)
        if await_frames(self.recording, wanted, timeout_s) < wanted:
            raise StreamNotFound(
                f"{self.uri} ended while somebody waited for it", hint=f"chaosctl list {self.uri} tells how it stands"
            )

    def last(self, seconds: float, missing: Missing | None = None) -> Samples:
        """The last `seconds` up to now as an array (channels, frames); fewer where not so many have come yet.

        Frames in gaps are never zeros unless you ask for that: they are NaN, or raise InvalidRange where the recording
        holds no floats. `missing` ("nan", "zeros", "error") chooses. Of MIDI it is the events in that time.
        """
        n_frames = self.n_frames
        first = max(0, n_frames - self._frames(seconds))
        return self.recording.read(first, n_frames, self._missing(missing))

    def blocks(self, seconds: float, missing: Missing | None = None, timeout_s: float | None = None) -> Follower:
        """Blocks of that length from now on, as they come; see `chaos.read.follow`. `missing` as in `last`."""
        n_frames = self._frames(seconds)
        if not n_frames:
            raise InvalidRange(f"blocks of {seconds:g} s have no frame", hint=f"use 1/{self.sample_rate} s or more")
        return self.recording.follow(n_frames, missing=self._missing(missing), lapped="catch_up", timeout_s=timeout_s)

    def mark(self, label: str, frame: int | None = None) -> Marked:
        """Names a frame; left out, the newest one."""
        return self._asking.mark(self.uri, label, frame=frame)

    def _frames(self, seconds: Any) -> int:
        is_number = isinstance(seconds, numbers.Real)
        if not is_number:
            raise InvalidRange(f"{visible(repr(seconds)[:40])} is not a number of seconds", hint="write it like 2.5")
        if not 0 <= seconds <= _MOST_SECONDS:
            raise InvalidRange(f"{str(seconds)[:40]} seconds can't be had", hint=f"use 0 to {_MOST_SECONDS:_} seconds")
        return round(float(seconds) * self.sample_rate)

    def _missing(self, missing: Missing | None) -> Missing:
        if missing is not None:
            return missing
        return "nan" if self.recording.definition.sample_format == "f32" else "error"


def _form(given: Any) -> Format:
    """What a capture was asked for, also by a name. Raises InvalidFormat."""
    if isinstance(given, AudioFormat | MidiFormat):
        return given
    if given == "audio":
        return _AUDIO
    if given == MIDI:
        return MidiFormat()
    if isinstance(given, str) and given in SAMPLES:
        return AudioFormat(sample_format=given)
    names = ", ".join(f'"{name}"' for name in (*SAMPLES, "audio", MIDI))
    hint = f"use one of {names}, or chaos.AudioFormat(...)"
    raise InvalidFormat(f"{visible(repr(given)[:40])} is not a format", hint=hint)


_IN_PYTHON = (
    ("leave out --midi, or in a session use --audio", 'leave out format="midi"'),
    ("use --midi", 'use format="midi"'),
    ("leave --channel-map out", "leave out channel_map"),
)
"""What people type, and what a caller writes in its place."""


def _in_python(hint: str) -> str:
    for typed, written in _IN_PYTHON:
        hint = hint.replace(typed, written)
    return hint


def _open(uri: str, store: Path) -> Recording:
    from chaos.read.recording import open as open_recording

    return open_recording(uri, store)
