"""`chaosctl record`: from a device to a file in one line, by the chaosd that runs or by an engine of its own."""

from __future__ import annotations

import datetime as dt
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chaos.cli.out import say
from chaos.cli.session import EXIT_LOST, Session, json_option, leave, print_json, strict_option
from chaos.cli.streams import target_device, uri_for
from chaos.terms.containers import CONTAINERS, MIDI_CONTAINERS
from chaos.terms.errors import (
    ChaosError,
    FormatUnsupported,
    InvalidRequest,
    PathNotAllowed,
    StreamNotFound,
    TimedOut,
    error_from_code,
)

if TYPE_CHECKING:
    from chaos.cli.meter import Meter
    from chaos.client import Asking, Told

__all__ = ["COMMANDS", "chosen_device", "device_and_file", "until_when"]

_LOOK_S = 0.1
_LATE_S = 1.0  # how much longer than asked it waits for frames that do not come
_NO_ROLL = "3650d"  # a pipe has one take


@click.command()
@click.argument("arguments", metavar="[DEVICE] [FILE]", nargs=-1)
@click.option("--for", "for_", metavar="TIME", help="Record for so long: 10s, 5m, 2h. Default: until Ctrl-C.")
@click.option("--until", metavar="HH:MM", help="Record until this local time: 18:00, or 2026-01-31T18:00.")
@click.option("--midi", is_flag=True, help="Record MIDI.")
@click.option("--format", "sample_format", default="f32", show_default=True, help="Sample format: f32, s16 or s32.")
@click.option("--channel-map", metavar="LIST", help="Record only these channels, by name or number: FL,FR or 1,2,7.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@strict_option
@json_option
@click.pass_obj
def record(
    session: Session,
    arguments: tuple[str, ...],
    for_: str | None,
    until: str | None,
    midi: bool,
    sample_format: str,
    channel_map: str | None,
    force: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Record a device into a file: chaosctl record "USB Mic" take.wav --for 10s

    DEVICE is an identity, a name or a part of the description. Without it you can choose, or where nobody can be asked
    it is the default device. FILE's ending says what it becomes (.wav, .flac, .mid ...); without it the file is named
    by the device and the time; - writes samples to standard output as they come.

    It uses the chaosd that runs, or else records by itself. Either way there is a recording with its gap ledger; the
    file is saved from it, and if that fails the recording is still there.
    """
    from chaos.terms.units import parse_duration_s

    name, out = device_and_file(arguments)
    if for_ is not None and until is not None:
        raise click.UsageError("Use either --for or --until.")
    if (session.endpoint or "").startswith("tcp://"):
        raise click.UsageError("record writes a file here, so chaosd must be on this machine: see chaosctl start")
    seconds = None if for_ is None else parse_duration_s(for_)
    end_at = None if until is None else until_when(until, dt.datetime.now().astimezone())
    if str(out) == "-" and sys.stdout.isatty():
        raise click.UsageError("audio samples are not printed on a terminal: redirect the output, or name a file")
    if out is not None and str(out) != "-":
        _check_file(out, midi, force)
    kind = "midi" if midi else "audio"
    form = {"type": kind} if midi else {"type": kind, "sample_format": sample_format}
    with _asked(session) as (chaosd, store):
        device = chosen_device(chaosd, name, kind)
        is_exact = name is not None and name.startswith(("node:", "object:"))
        request: dict[str, Any] = {
            "uri": uri_for(device["description"] or device["name"]),
            "device_identity": name if is_exact else device["identity"],
            "format": form,
        }
        if channel_map is not None:
            request["channel_map"] = [each.strip() for each in channel_map.split(",")]
        with _until_asked() as stop:
            take = _Take(chaosd, store, request["uri"], stop, seconds, end_at)
            stopped = take.run(request, pipes=str(out) == "-" and not midi)
            _finish(take, stopped, out, force=force, strict=strict, as_json=as_json)


def device_and_file(arguments: Sequence[str]) -> tuple[str | None, Path | None]:
    """What `record` was given; a single word is a file if it is - or has the ending of one."""
    if len(arguments) > 2:
        raise click.UsageError("Give a device and a file. A name with spaces needs quotes.")
    if len(arguments) == 2:
        return arguments[0], Path(arguments[1])
    if not arguments:
        return None, None
    [one] = arguments
    is_file = one == "-" or Path(one).suffix.lower().lstrip(".") in CONTAINERS
    return (None, Path(one)) if is_file else (one, None)


def until_when(text: str, now: dt.datetime) -> dt.datetime:
    """The next moment of that local time, or that moment. Raises InvalidRequest for what is neither, or over."""
    hint = "write it like 18:00, 18:00:30 or 2026-01-31T18:00"
    try:
        if "T" not in text and "-" not in text:
            then = dt.datetime.combine(now.date(), dt.time.fromisoformat(text)).astimezone()
            return then if then > now else dt.datetime.combine(
                now.date() + dt.timedelta(days=1), dt.time.fromisoformat(text)
            ).astimezone()
        then = dt.datetime.fromisoformat(text)
        then = then if then.tzinfo is not None else then.astimezone()
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{text[:40]!r} is not a time", hint=hint) from None
    if then <= now:
        raise InvalidRequest(f"{text} is over", hint=hint)
    return then


def _check_file(out: Path, midi: bool, force: bool) -> None:
    """Refuses before the recording what could not be saved after it."""
    from chaos.export.file import checked_container

    container = checked_container(out, None, "mid" if midi else "wav")
    if (container in MIDI_CONTAINERS) != midi:
        hint = f"use one of .{', .'.join(MIDI_CONTAINERS)}" if midi else "add --midi to record MIDI"
        raise FormatUnsupported(f"{'MIDI' if midi else 'audio'} can't be saved as {container}", hint=hint)
    if not out.absolute().parent.is_dir():
        raise PathNotAllowed(f"there is no folder {out.absolute().parent}", hint="make it first")
    if out.exists() and not force:
        raise PathNotAllowed(f"{out} exists already", hint="use another name, or --force to replace it")


@contextmanager
def _asked(session: Session) -> Iterator[tuple[Asking, Path]]:
    """The chaosd that runs, else an engine of our own; and its store."""
    with session.client_if_running() as chaosd:
        if chaosd is not None:
            yield chaosd, Path(chaosd.call("status")["store"]["path"])
            return
    from chaos.local import Local
    from chaos.protocol.config import Config

    config = Config() if session.store is None else Config(store=session.store.absolute())
    with Local(config) as own:
        yield own, config.store


@contextmanager
def _until_asked() -> Iterator[threading.Event]:
    """Set by Ctrl-C, SIGTERM or SIGHUP; a second one ends the command."""
    asked = threading.Event()

    def ask(number: int, _: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def chosen_device(chaosd: Asking, name: str | None, kind: str) -> dict[str, Any]:
    """The device of that name; without one, which one the person chooses."""
    if name is not None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        device = target_device(chaosd, name, False, kind)
        assert device is not None
        return device
    from chaos.cli.show import device_format

    found = list(chaosd.call("device_list", direction="input", format=kind)["devices"])
    if not found:
        return dict(target_device(chaosd, None, False, kind) or {})  # says that there is none
    for number, each in enumerate(found, 1):
        say(f"{number:3}  {each['description']}  ({device_format(each['format'])})", err=True)
    defaults = [number for number, each in enumerate(found, 1) if each["is_default"] and not each["is_monitor"]]
    number = click.prompt(
        "Record which one", type=click.IntRange(1, len(found)), default=defaults[0] if defaults else 1, err=True
    )
    return dict(found[number - 1])


class _Take:
    """One recording from its start to its end. `sample_rate` is 0 before the first frame."""

    def __init__(
        self,
        chaosd: Asking,
        store: Path,
        uri: str,
        stop: threading.Event,
        seconds: float | None,
        end_at: dt.datetime | None,
    ) -> None:
        self.uri = uri
        self.store = store
        self.sample_rate = 0
        self.pipe: _Pipe | None = None
        self.error: ChaosError | None = None  # why it ended by itself
        self._chaosd = chaosd
        self._stop = stop
        self._seconds = seconds
        self._end_at = end_at
        self._end_ns: int | None = None

    @property
    def n_wanted(self) -> int | None:
        """How many frames were asked for; None where it is no number of them."""
        return None if self._seconds is None or not self.sample_rate else round(self._seconds * self.sample_rate)

    def run(self, request: dict[str, Any], *, pipes: bool) -> dict[str, Any]:
        """Records until it is to end; what `stream_stop` answers."""
        from chaos.cli.meter import Meter

        kinds = ("started", "gap", "error", "silent", "clipping", "not_finite")
        topics = [f"stream_{kind} {self.uri}" for kind in kinds]
        with self._chaosd.events(*topics, timeout_s=_LOOK_S) as told:
            started = self._chaosd.start(**request | ({"roll": _NO_ROLL} if pipes else {}))
            what = started["device"]["description"] if started["device"] else request["device_identity"]
            say(f"{started['state']}: {what}, Ctrl-C ends it", err=True)
            with Meter() as meter:
                try:
                    self._watch(told, meter, pipes)
                finally:
                    stopped = self._end()
        if self.pipe is not None:
            self.pipe.join()
        return stopped

    def _watch(self, told: Told, meter: Meter, pipes: bool) -> None:
        looked = 0.0
        while not self._stop.is_set() and self.error is None:
            try:
                self._hear(next(told), meter, pipes)
            except TimedOut:
                looked = 0.0
            if time.monotonic() - looked < _LOOK_S:
                continue
            looked = time.monotonic()
            try:
                status = self._chaosd.call("stream_status", uri=self.uri)
            except StreamNotFound:
                return
            meter.show(status, self.sample_rate)
            if self._is_over(status["head_frame"]):
                return

    def _is_over(self, head: int) -> bool:
        if self._end_at is not None and dt.datetime.now().astimezone() >= self._end_at:
            return True
        if self.n_wanted is None or self._end_ns is None:
            return False
        return head >= self.n_wanted or time.monotonic_ns() >= self._end_ns

    def _hear(self, event: dict[str, Any], meter: Meter, pipes: bool) -> None:
        if event["stream_uri"] != self.uri:
            return
        if event["type"] == "stream_started" and not self.sample_rate:
            self.sample_rate = event["sample_rate"]
            if self._seconds is not None:
                self._end_ns = time.monotonic_ns() + int((self._seconds + _LATE_S) * 1e9)
            if pipes:
                self.pipe = _Pipe(self.uri, self.store, self.n_wanted, self._stop)
                self.pipe.start()
        elif event["type"] == "stream_error" and not event["recoverable"]:
            self.error = error_from_code(event["error"]["code"], event["error"]["message"], event["error"]["hint"])
        elif event["type"] != "stream_started":
            meter.tell(event, self.sample_rate)

    def _end(self) -> dict[str, Any]:
        try:
            return self._chaosd.call("stream_stop", uri=self.uri)
        except StreamNotFound:  # it ended by itself
            nothing = {"uri": self.uri, "recording": "", "n_frames": 0, "n_chunks": 0, "n_gaps": 0, "lost_frames": 0}
            found = self._chaosd.call("recording_list", uri=self.uri, limit=1)["recordings"]
            return {name: (found[0] if found else nothing)[name] for name in nothing} | {"clean": False}


class _Pipe(threading.Thread):
    """Writes frames to standard output as they come, interleaved; sets `stop` when nobody reads any more."""

    def __init__(self, uri: str, store: Path, n_frames: int | None, stop: threading.Event) -> None:
        super().__init__(name="chaosctl-pipe", daemon=True)
        self.n_written = 0
        self.error: Exception | None = None
        self._uri, self._store, self._left, self._stop_asked = uri, store, n_frames, stop

    def run(self) -> None:
        from chaos.read.recording import open as open_recording

        try:
            with open_recording(self._uri, self._store) as recording:
                for block in recording.follow(max(1, recording.sample_rate // 20), 0, lapped="catch_up"):
                    part = block if self._left is None else block[:, : self._left]
                    sys.stdout.buffer.write(part.T.tobytes())
                    sys.stdout.buffer.flush()
                    self.n_written += part.shape[1]
                    self._left = None if self._left is None else self._left - part.shape[1]
                    if self._left == 0:
                        return
        except Exception as error:
            self.error = error
        finally:
            self._stop_asked.set()


def _finish(
    take: _Take, stopped: dict[str, Any], out: Path | None, *, force: bool, strict: bool, as_json: bool
) -> None:
    """Saves the file and says what has become of it."""
    if not stopped["recording"]:
        if take.error is not None:
            raise take.error
        say("not one frame came, so there is no recording", err=True)
        leave(EXIT_LOST)
    saved: dict[str, Any] | None = None
    try:
        if take.pipe is None:
            saved = _saved(take, out, force)
        elif take.pipe.error is not None:
            raise take.pipe.error
    except (ChaosError, OSError) as error:
        say(f"the recording is there: {take.uri}", f"  save it with: chaosctl save {take.uri} FILE", err=True)
        if isinstance(error, BrokenPipeError | ChaosError):
            raise
        raise InvalidRequest(f"standard output refused: {error}", hint="save it as above") from error
    n_frames = stopped["n_frames"] if take.pipe is None else take.pipe.n_written
    account = saved or {**stopped, "n_frames": n_frames, "gaps": [None] * stopped["n_gaps"]}
    from chaos.cli.show import signal_lines

    for line in signal_lines(stopped.get("signal"), take.sample_rate):
        say(line, err=True)
    if as_json:
        told = {**stopped, "file": saved}
        print_json(told) if str(out) != "-" else say(_line(take, account), err=True)
    else:
        say(_line(take, account), err=str(out) == "-")
    if take.error is not None:
        raise take.error
    if strict and (account["lost_frames"] or account.get("damaged")):
        leave(EXIT_LOST)


def _saved(take: _Take, out: Path | None, force: bool) -> dict[str, Any]:
    import msgspec

    from chaos.cli.show import progress
    from chaos.cli.standby import named_by_itself
    from chaos.export.save import save as save_file
    from chaos.export.save import save_to
    from chaos.read.recording import open as open_recording

    with open_recording(take.uri, take.store) as recording:
        n_frames = recording.n_frames if take.n_wanted is None else min(take.n_wanted, recording.n_frames)
        if str(out) == "-":
            report = save_to(recording, sys.stdout.buffer, 0, n_frames, "zeros", "mid", None)
        else:
            out = out or named_by_itself([recording], None)
            with progress(f"saving {out.name}") as advance:
                report = save_file(recording, out, 0, n_frames, "zeros", None, advance, force=force)
    return dict(msgspec.to_builtins(report))


def _line(take: _Take, account: dict[str, Any]) -> str:
    from chaos.cli.show import duration

    n_gaps, lost = len(account["gaps"]), account["lost_frames"]
    length = f"{duration(account['n_frames'], take.sample_rate)} ({account['n_frames']} frames)"
    what = f"{length}, {n_gaps} gap{'' if n_gaps == 1 else 's'}, {lost} frames lost"
    proof = f", hash {account['root_hash']}" if "root_hash" in account else ""
    path = Path(account.get("path", "-"))
    return f"{path.name if path.parent == Path.cwd() else path}: {what}{proof}, recording {take.uri}"


COMMANDS = (record,)
