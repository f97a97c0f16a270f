"""What the tools do: each asks the daemon, or reads the store, and answers in seconds and in frames.

No SDK in here. Each call makes its own connection, so a daemon that was away is found again by the next one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from chaos.agents import answers as told
from chaos.agents import arguments as asked
from chaos.agents.account import SHOWN_GAPS, account_of, clock_of, gap_lines
from chaos.agents.answers import amount
from chaos.agents.once import Once
from chaos.client import Client, DaemonUnreachable
from chaos.protocol.answers import StreamBegun, StreamEnded, StreamStatus
from chaos.protocol.config import Config, is_remote
from chaos.protocol.requests import SessionStream
from chaos.store.places import check_not_of_store
from chaos.store.store import Store
from chaos.terms.devicenames import check_once
from chaos.terms.errors import (
    ChaosError,
    InvalidRequest,
    PathNotAllowed,
    RecordingNotFound,
    StreamNotFound,
    Unauthorized,
    UnknownOp,
)
from chaos.terms.formats import AudioFormat, Format, MidiFormat
from chaos.terms.moments import wall_ns_of
from chaos.terms.states import shown_state
from chaos.terms.uri import check_session, check_uri, make_uri, slug
from chaos.terms.visible import visible

if TYPE_CHECKING:
    from chaos.agents.answers import Account
    from chaos.store.catalog import Entry

__all__ = ["DELETING", "Progress", "Settings", "Tools"]

Progress = Callable[[int, int], None]
"""Called with frames done and frames in all; what it raises ends the work."""

DELETING = frozenset({"recording_delete"})
_FORMS: dict[str, Format] = {"audio": AudioFormat(), "midi": MidiFormat()}


@dataclass(frozen=True)
class Settings:
    """`folder` is where files may be saved; endpoints and store left out are the usual ones."""

    endpoint: str | None = None
    events: str | None = None
    store: Path | None = None
    folder: Path = Path()
    allow_delete: bool = False


class Tools:
    """The tools of one server; for any thread. Raises InvalidRequest for a chaosd on another machine."""

    def __init__(self, settings: Settings) -> None:
        if is_remote(settings.endpoint or ""):
            raise InvalidRequest(
                "agents' recordings are read here, so chaosd must be on this machine",
                hint="run chaosctl mcp where chaosd runs",
            )
        self._settings = settings
        self._folder = settings.folder.absolute()
        self._once = Once()

    @property
    def names(self) -> list[str]:
        """Those that may be called."""
        return [name for name in asked.TOOLS if self._settings.allow_delete or name not in DELETING]

    def call(self, name: str, given: dict[str, Any], progress: Progress | None = None) -> msgspec.Struct:
        """The answer of a tool. Raises ChaosError."""
        if name not in self.names:
            raise self._no_tool(name)
        arguments = asked.decoded(name, given)
        work = getattr(self, f"_{name}")

        def done() -> msgspec.Struct:
            answer: msgspec.Struct = work(arguments, progress) if name == "save" else work(arguments)
            return answer

        request_id = getattr(arguments, "request_id", None)
        if request_id is None:
            return done()
        answer: msgspec.Struct = self._once.do(name, request_id, msgspec.json.encode(arguments), done)
        return answer

    def account(self, uri: str) -> Account:
        """A recording with its whole ledger. Raises RecordingNotFound, InvalidURI."""
        return account_of(self.store, uri, whole=True)

    def newest(self, first: int, n: int) -> list[Entry]:
        """Recordings, newest first, from the `first` one on."""
        return self._entries(limit=first + n)[first:]

    @property
    def store(self) -> Store:
        """That of --store, else the running daemon's, else the usual one. Raises StorageFailed where it was named and
        is not there."""
        if self._settings.store is not None:
            named = Store(self._settings.store.absolute())
            named.check()
            return named
        with self._client() as chaosd:
            if chaosd.reachable():
                return Store(Path(chaosd.status().store.path))
        return Store(Config().store)

    def _client(self) -> Client:
        return Client(self._settings.endpoint, self._settings.events)

    def _no_tool(self, name: str) -> ChaosError:
        if name in DELETING:
            return Unauthorized(
                f"{name} is off: this server deletes nothing",
                hint="only a person can turn it on, by starting it with: chaosctl mcp --allow-delete",
            )
        return UnknownOp(f"there is no tool {visible(name[:100])!r}", hint=f"the tools are {', '.join(self.names)}")

    # -- devices and streams

    def _device_list(self, given: asked.DeviceList) -> told.DevicesFound:
        with self._client() as chaosd:
            found = chaosd.device_list(direction=None if given.all else "input", format=given.format, all=given.all)
        return told.DevicesFound(
            [
                told.DeviceLine(
                    identity=each.identity,
                    description=each.description,
                    name=each.name,
                    type="midi" if isinstance(each.format, MidiFormat) else "audio",
                    sample_rate=None if isinstance(each.format, MidiFormat) else each.format.sample_rate,
                    channels=None if isinstance(each.format, MidiFormat) else each.format.channels,
                    direction=each.direction,
                    is_default=each.is_default,
                    is_monitor=each.is_monitor,
                    identity_basis=each.identity_basis,
                )
                for each in found
            ]
        )

    def _stream_create(self, given: asked.StreamCreate) -> told.StreamStarted:
        with self._client() as chaosd:
            options: dict[str, Any] = {
                "chunk_size_bytes": given.chunk_size_bytes,
                "keep": given.keep,
                "standby_s": given.standby_s,
                "wait": given.wait or None,
            }
            begun = chaosd.start(
                uri=given.uri,
                device_identity=_meant(chaosd, given.device_identity),
                format=_form(given.format),
                **{name: value for name, value in options.items() if value is not None},
            )
        started = _started(msgspec.convert(begun, StreamBegun))
        return msgspec.structs.replace(started, state=shown_state(started.state, is_held=given.standby_s is not None))

    def _stream_stop(self, given: asked.StreamStop) -> told.StreamStopped:
        with self._client() as chaosd:
            return self._stopped(chaosd.stream_stop(given.uri))

    def _stream_status(self, given: asked.StreamStatus) -> told.StreamsFound:
        with self._client() as chaosd:
            if given.uri is None:
                status = chaosd.status()
                return told.StreamsFound([_line(each) for each in status.streams], status.notes)
            one = chaosd.stream_status(given.uri)
        line = _line(one)
        take = one.trigger.take if one.trigger is not None else (one.take or one.uri) if one.recording else None
        if take is not None:
            line = msgspec.structs.replace(line, recording=account_of(self.store, take))
        return told.StreamsFound([line])

    def _keep(self, given: asked.Keep) -> told.Kept:
        with self._client() as chaosd:
            kept = chaosd.stream_keep(given.uri)
        held = amount(kept.n_frames, kept.sample_rate)
        lost = amount(kept.lost_frames, kept.sample_rate)
        return told.Kept(kept.uri, held, kept.n_marks, kept.n_marks_gone, kept.n_gaps, lost)

    def _stopped(self, ended: StreamEnded) -> told.StreamStopped:
        store = self.store
        account = account_of(store, _take_of(store, ended)) if ended.recording else None
        return told.StreamStopped(
            uri=ended.uri,
            clean=ended.clean,
            length=amount((ended.total or ended).n_frames, ended.sample_rate),
            lost=amount((ended.total or ended).lost_frames, ended.sample_rate),
            recording=account,
        )

    # -- sessions

    def _session_start(self, given: asked.SessionStart) -> told.SessionStarted:
        check_session(given.session)
        with self._client() as chaosd:
            streams: list[SessionStream] = []
            named: list[tuple[str, tuple[Any, ...]]] = []
            for each in given.devices:
                form = _form(each.format)
                identity = _meant(chaosd, each.device_identity)
                kind: Literal["audio", "midi"] = "midi" if isinstance(form, MidiFormat) else "audio"
                device = chaosd.device_find(identity, format=kind)
                key = kind, device.object_serial, device.direction, device.is_monitor
                named.append((visible(each.device_identity), key))
                if each.uri is None:
                    uri = _free_uri(device.description or device.name, given.session, [one.uri for one in streams])
                else:
                    uri = each.uri
                streams.append(SessionStream(uri=uri, device_identity=identity, format=form))
            check_once(named)
            begun = chaosd.session_start(given.session, streams)
        return told.SessionStarted(begun.session, [_started(each) for each in begun.streams])

    def _session_stop(self, given: asked.SessionStop) -> told.SessionStopped:
        check_session(given.session)
        with self._client() as chaosd:
            ended = chaosd.session_stop(given.session)
        return told.SessionStopped(ended.session, [self._stopped(each) for each in ended.streams])

    # -- recordings

    def _mark(self, given: asked.Mark) -> told.Marked:
        with self._client() as chaosd:
            if chaosd.reachable():
                marked = chaosd.mark(given.uri, given.label, frame=given.frame)
                path, frame = Path(marked.recording), marked.frame
                if not marked.recording:  # in standby
                    rate = _rate_of(chaosd.stream_status(given.uri))
                    return told.Marked(given.uri, amount(frame, rate), given.label, marked.note)
            else:
                from chaos.store.marking import mark_in

                path, mark = mark_in(self.store, given.uri, given.frame, given.label)
                frame = mark.frame
        from chaos.store.info import load

        shape = load(path).definition
        return told.Marked(shape.uri, amount(frame, shape.sample_rate), given.label)

    def _save(self, given: asked.Save, progress: Progress | None) -> told.Saved:
        from chaos.export.save import save
        from chaos.export.source import first_kept
        from chaos.read.recording import open as open_recording
        from chaos.read.recovered import check_recovered
        from chaos.terms.places import Timeline, parse_range

        check_uri(given.uri)  # a path would be opened, too
        out = self._permitted(given.path)
        store = self.store
        check_not_of_store(store, out)
        try:
            opened = open_recording(given.uri, store.root)
        except RecordingNotFound:
            self._refuse_held(given.uri)
            raise
        with opened as recording:
            timeline = Timeline(recording.n_frames, recording.frame_of, recording.moment_of)
            if given.end is None or given.end.startswith("-"):
                check_recovered(store, [given.uri], [recording])
            begin, stop, notes = parse_range(given.last, given.first, given.end, timeline)
            if begin is None:
                begin = min(first_kept(recording.gaps), recording.n_frames)
            n_frames = (recording.n_frames if stop is None else stop) - begin
            report = save(recording, out, begin, n_frames, given.gaps, None, progress)
            clock = clock_of(recording.anchors)
        rate = report.sample_rate
        return told.Saved(
            path=report.path,
            uri=report.uri,
            container=report.container,
            subtype=report.subtype,
            begin=amount(report.first_frame, rate),
            length=amount(report.n_frames, rate),
            missing=amount(report.missing_frames, rate),
            lost=amount(report.lost_frames, rate),
            n_gaps=len(report.gaps),
            gaps=gap_lines(report.gaps, rate, SHOWN_GAPS),
            n_damaged=len(report.damaged),
            is_exact=report.is_exact,
            root_hash=report.root_hash,
            clock=clock,
            notes=list(notes),
        )

    def _refuse_held(self, uri: str) -> None:
        """Raises InvalidRequest for a stream in standby, of which nothing is recorded yet."""
        with self._client() as chaosd:
            try:
                stream = chaosd.stream_status(uri)
            except (DaemonUnreachable, StreamNotFound):
                return
        if stream.standby_s is None:
            return
        if stream.trigger is not None:
            hint = "chaosctl list shows its takes; save one of those"
            raise InvalidRequest(f"{uri} records by level: each take is a recording with a name of its own", hint=hint)
        hint = "chaosctl keep makes a recording of what it holds; then save can be called"
        raise InvalidRequest(f"{uri} is in standby: nothing of it is recorded yet", hint=hint)

    def _permitted(self, path: str) -> Path:
        """Where that file would be. Raises PathNotAllowed for one outside of the folder, through links or not."""
        folder = self._folder.resolve()
        hint = f"give a name alone, such as take-1.wav: it is saved in {visible(str(folder))}"
        if "\0" in path or not path.strip() or Path(path).name == "-":
            raise PathNotAllowed(f"{visible(path[:100])!r} is not the name of a file", hint=hint)
        try:
            out = (folder / path).resolve()
        except (OSError, RuntimeError, ValueError):
            raise PathNotAllowed(f"{visible(path[:100])!r} is not the name of a file", hint=hint) from None
        if out == folder or not out.is_relative_to(folder):
            raise PathNotAllowed(f"{visible(path[:100])} is outside of the folder for saved files", hint=hint)
        if not out.parent.is_dir():
            raise PathNotAllowed(f"there is no folder {visible(str(out.parent))}", hint=hint)
        return out

    def _recording_list(self, given: asked.RecordingList) -> told.RecordingsFound:
        from chaos.store.summary import RecordingSummary

        entries = self._entries(
            uri=given.uri,
            device=given.device,
            since_ns=_wall_ns("since", given.since),
            until_ns=_wall_ns("until", given.until),
            limit=given.limit + 1,
        )
        lines = []
        for entry in entries[: given.limit]:
            one = RecordingSummary.of(entry)
            account = None
            if given.uri is not None and one.state != "damaged":
                account = account_of(self.store, one.uri)
            lines.append(
                told.RecordingLine(
                    uri=one.uri,
                    state=one.state,
                    clean=one.clean,
                    device=one.device,
                    sample_format=one.sample_format,
                    channels=one.channels,
                    started_utc=one.started_utc,
                    length=amount(one.n_frames, one.sample_rate),
                    lost=amount(one.lost_frames, one.sample_rate),
                    n_gaps=one.n_gaps,
                    missing=one.gaps,
                    n_bytes=one.n_bytes,
                    n_marks=len(one.marks),
                    account=account,
                )
            )
        return told.RecordingsFound(lines, len(entries) > given.limit)

    def _recording_delete(self, given: asked.RecordingDelete) -> told.Deleted:
        from chaos.store.removal import removable, remove
        from chaos.store.takes import take_uris

        store = self.store
        takes = take_uris(store, given.uri)
        for take in takes:
            removable(store, take)
        gone = [remove(store, take) for take in reversed(takes)]  # what is left when it is interrupted is the beginning
        return told.Deleted(given.uri, [each.uri for each in gone], sum(each.n_bytes for each in gone))

    def _entries(self, **wanted: Any) -> list[Entry]:
        from chaos.store.catalog import Catalog

        store = self.store
        if not store.root.is_dir():
            return []
        with Catalog(store) as catalog:
            return catalog.entries(**wanted)


def _form(given: Format | str) -> Format:
    return _FORMS[given] if isinstance(given, str) else given


def _meant(chaosd: Client, name: str) -> str:
    """The device's own identity where `name` is one as it was shown, with control characters as escapes."""
    if "\\" not in name:
        return name
    shown = {visible(text): text for each in chaosd.device_list(all=True) for text in (each.identity, each.name)}
    return shown.get(name, name)


def _free_uri(device: str, session: str, taken: list[str]) -> str:
    """`stream://DEVICE/SESSION`, with a number where one of the session has that already."""
    stem = slug(device)
    names = (stem, *(f"{stem[:60]}-{number}" for number in range(2, len(taken) + 3)))
    return next(uri for uri in (make_uri(name, session) for name in names) if uri not in taken)


def _take_of(store: Store, ended: StreamEnded) -> str:
    """The URI of the take that a stream ended in."""
    path = Path(ended.recording)
    return f"stream://{path.parent.name}/{path.stem}" if store.path(ended.uri) != path else ended.uri


def _device(device: dict[str, Any] | None) -> str | None:
    return None if device is None else str(device.get("description") or device.get("name"))


def _rate_of(stream: StreamStatus | StreamBegun) -> int | None:
    """Frames a second: of MIDI those of the graph, which its recording tells."""
    if isinstance(stream.format, AudioFormat):
        return stream.format.sample_rate
    if not stream.recording:
        return None
    from chaos.store.info import load

    return load(Path(stream.recording)).definition.sample_rate


def _started(begun: StreamBegun) -> told.StreamStarted:
    rate = _rate_of(begun)
    return told.StreamStarted(
        uri=begun.uri,
        state=begun.state,
        reason=begun.reason,
        device=_device(begun.device),
        sample_rate=rate,
        chunk=amount(begun.chunk_frames, rate),
        notes=begun.notes,
    )


def _line(status: StreamStatus) -> told.StreamLine:
    rate = _rate_of(status)
    signal = status.signal
    by_level, has_take = None, False
    if (trigger := status.trigger) is not None:
        has_take = bool(trigger.take)
        so_far = amount(trigger.n_frames, rate)
        by_level = told.ByLevel(trigger.above_dbfs, trigger.n_takes, trigger.take, so_far)
    heard = None
    if signal is not None:
        since = signal.silent_since_frame
        heard = told.Heard(
            peak_dbfs=[each.peak_dbfs for each in signal.channels],
            rms_dbfs=[each.rms_dbfs for each in signal.channels],
            silent_since=None if since is None else amount(since, rate),
            n_clipped=signal.n_clipped,
        )
    return told.StreamLine(
        uri=status.uri,
        state=shown_state(status.state, is_held=status.standby_s is not None, has_take=has_take),
        reason=status.reason,
        device=_device(status.device),
        sample_rate=rate,
        length=amount(status.head_frame, rate),
        lost=amount(status.lost_frames, rate),
        n_gaps=status.n_gaps,
        started_utc=status.started_utc,
        drift_ppm=status.drift_ppm,
        standby_s=status.standby_s,
        heard=heard,
        notes=status.notes,
        by_level=by_level,
    )


def _wall_ns(which: str, text: str | None) -> int | None:
    if text is None:
        return None
    hint = "write it with its zone: 2026-01-31T14:05:00Z"
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"`{which}` is {visible(text)!r}, which is not a time", hint=hint) from None
    if moment.tzinfo is None:
        raise InvalidRequest(f"`{which}` has no zone", hint=hint)
    try:
        return wall_ns_of(moment)
    except (ValueError, OverflowError, OSError):
        raise InvalidRequest(f"`{which}` is {visible(text)!r}, which is out of range", hint=hint) from None
