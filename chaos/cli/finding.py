"""chaosctl's commands for finding things again: list, mark."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chaos.cli.numbers import WholeNumber
from chaos.cli.out import say
from chaos.cli.recovering import left_in, left_lines
from chaos.cli.session import Session, json_option, only_stream, print_json, running_streams
from chaos.terms.buckets import is_remote_url
from chaos.terms.errors import InvalidRequest

if TYPE_CHECKING:
    from chaos.client import Client
    from chaos.store.store import Store
    from chaos.terms.places import Timeline

__all__ = ["COMMANDS"]

_NEWEST = 50


@click.command(name="list")
@click.argument("uri", required=False)
@click.option("--on", metavar="DATE", help="Only what was recorded on this day: 2026-11-24, today or yesterday.")
@click.option("--device", metavar="TEXT", help="Only devices with this in their name.")
@click.option("--limit", type=WholeNumber(min=1), metavar="N", help=f"The newest N. Default: {_NEWEST}.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--running", is_flag=True, help="List running streams instead, as chaosd sees them.")
@click.option("--recordings", is_flag=True, hidden=True)  # what `list` shows anyway
@json_option
@click.pass_obj
def list_(
    session: Session,
    uri: str | None,
    on: str | None,
    device: str | None,
    limit: int | None,
    everything: bool,
    running: bool,
    recordings: bool,
    as_json: bool,
) -> None:
    """List recordings, the newest last. This works without chaosd, too.

    With URI, only the takes of that stream; their marks are listed below. With s3://BUCKET/PREFIX and the like it lists
    what was uploaded there.
    """
    if session.hosts:
        if running or (uri is not None and is_remote_url(uri)):
            raise click.UsageError("--running and what is in an object store take one host; status shows what runs.")
        _list_on(session.hosts, uri, on, device, None if everything or on else limit or _NEWEST, as_json=as_json)
        return
    from chaos.cli.show import RECORDING_HEADERS, STREAM_HEADERS, mark_lines, recording_rows, stream_rows
    from chaos.cli.tables import table

    if running:
        with session.client() as chaosd:
            streams = chaosd.call("stream_list")
        if as_json:
            print_json(streams)
        elif streams["streams"]:
            table(STREAM_HEADERS, stream_rows(streams["streams"]))
        else:
            say("No stream is running; start one with: chaosctl start", err=True)
        return
    since_ns, until_ns = (None, None) if on is None else _day(on)
    most = None if everything or on else limit or _NEWEST
    if uri is not None and is_remote_url(uri):
        _list_remote(uri, device, since_ns, until_ns, most, as_json=as_json)
        return
    import msgspec

    from chaos.store.catalog import Catalog
    from chaos.store.members import is_take_of
    from chaos.store.store import Store
    from chaos.store.summary import summaries

    store = Store(session.store_folder())
    entries = []
    if store.root.is_dir():
        with Catalog(store) as catalog:
            entries = catalog.entries(
                uri=uri,
                device=device,
                since_ns=since_ns,
                until_ns=until_ns,
                limit=None if most is None else most + 1,
            )
    found = [msgspec.to_builtins(each) for each in summaries(store, entries[:most][::-1])]
    left = [] if session.is_elsewhere else [each for each in left_in(store) if uri is None or is_take_of(each.uri, uri)]
    if as_json:
        more = {"not_recovered": [{"uri": each.uri, "n_frames": each.n_frames} for each in left]} if left else {}
        print_json({"recordings": found, **more})
        return
    if left:
        say(*left_lines(left), err=True)
    if not found:
        where = f" in {store.root}." if store.root.is_dir() else f": there is no folder {store.root}."
        say(f"No recordings{where}", err=True)
        return
    table(RECORDING_HEADERS, recording_rows(found))
    if uri is not None and (lines := mark_lines(found)):
        say(*lines)
    if most is not None and len(entries) > most:
        say(f"These are the newest {most}; --all lists all of them, --on DATE those of a day.", err=True)


def _list_remote(
    url: str, device: str | None, since_ns: int | None, until_ns: int | None, most: int | None, *, as_json: bool
) -> None:
    """What lies in an object store, below a recorder's prefix or that of all; filters look at all of it."""
    import msgspec

    from chaos.cli.show import REMOTE_HEADERS, remote_rows
    from chaos.cli.tables import table
    from chaos.read.remote import takes_in

    is_chosen = device is not None or since_ns is not None
    entries, has_more, unreadable = takes_in(url, None if is_chosen else most)
    found = [
        {"recording": where, "lost_frames": entry.lost_frames, **msgspec.to_builtins(entry)}
        for where, entry in entries
        if (device is None or device.lower() in f"{entry.device}\n{entry.identity}".lower())
        and (since_ns is None or entry.ended_wall_ns > since_ns)
        and (until_ns is None or entry.started_wall_ns < until_ns)
    ]
    if as_json:
        print_json({"recordings": found, **({"unreadable": unreadable} if unreadable else {})})
        return
    for where in unreadable:
        say(f"{where} can't be read, and is left out", err=True)
    if not found:
        say("No recordings.", err=True)
    else:
        table(REMOTE_HEADERS, remote_rows(found))
        if has_more:
            say(f"These are the newest {most}; --all lists all of them, --on DATE those of a day.", err=True)


def _list_on(
    hosts: tuple[str, ...], uri: str | None, on: str | None, device: str | None, most: int | None, *, as_json: bool
) -> None:
    from chaos.cli.hosts import list_on
    from chaos.terms.moments import utc_text

    since, until = (None, None) if on is None else map(utc_text, _day(on))
    asked = {"uri": uri, "device": device, "since": since, "until": until, "limit": most}
    list_on(hosts, as_json=as_json, **{name: value for name, value in asked.items() if value is not None})


def _day(text: str) -> tuple[int, int]:
    """The day's beginning and end in local time, ns since 1970. Raises InvalidRequest."""
    today = dt.datetime.now().astimezone().date()
    named = {"today": today, "yesterday": today - dt.timedelta(days=1)}
    try:
        day = named.get(text) or dt.date.fromisoformat(text)
        begin, end = (dt.datetime.combine(each, dt.time()).astimezone() for each in (day, day + dt.timedelta(days=1)))
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{text!r} is not a date", hint="write it like 2026-11-24, today or yesterday") from None
    return int(begin.timestamp()) * 1_000_000_000, int(end.timestamp()) * 1_000_000_000


@click.command()
@click.argument("label")
@click.option("--uri", help="The stream or recording. Default: the only stream that runs.")
@click.option("--at", metavar="PLACE", help="A frame, 30s (from the start), -30s or a time. Default: now.")
@json_option
@click.pass_obj
def mark(session: Session, label: str, uri: str | None, at: str | None, as_json: bool) -> None:
    """Mark a place in a recording, so that you find it again: chaosctl mark "verse 2".

    Marks are shown by `chaosctl list URI` and saved as cue points.
    """
    import msgspec

    from chaos.cli.session import chosen_range
    from chaos.store.marking import mark_in
    from chaos.store.store import Store
    from chaos.terms.marks import check_label
    from chaos.terms.places import Timeline

    check_label(label)
    if session.hosts:
        from chaos.cli.hosts import mark_on

        if at is not None:
            raise click.UsageError("--at takes one host: frames are each recording's own.")
        mark_on(session.hosts, uri, label, as_json=as_json)
        return
    with session.client_if_running() as chaosd:
        if uri is None and chaosd is None:
            raise InvalidRequest("no stream is running", hint="name a recording with --uri")
        if uri is None and chaosd is not None:
            uri = only_stream(chaosd, "--uri")
        store = Store(session.store_of(chaosd))
        frame = held = None
        if at is not None and (held := _held(chaosd, str(uri))) is not None:
            frame = chosen_range(None, at, None, held).first
        elif at is not None:
            from chaos.read.recording import open as open_recording

            with open_recording(str(uri), store.root) as one:
                timeline = Timeline(one.n_frames, one.frame_of, one.moment_of)
                frame = chosen_range(None, at, None, timeline).first
        running = [] if chaosd is None else running_streams(chaosd)
        if chaosd is not None and (session.store is None or uri in running):
            if frame is not None and uri in running and held is None:  # chaosd counts in the take that runs
                uri, frame = _in_take(store, str(uri), frame)
            asked = {"uri": uri, "label": label} | ({} if frame is None else {"frame": frame})
            marked = chaosd.call("mark", **asked)
        else:
            path, made = mark_in(store, str(uri), frame, label)
            marked = {"uri": uri, "recording": str(path), "frame": made.frame, "label": label}
    if as_json:
        print_json(msgspec.to_builtins(marked))
    else:
        take = _take_marked(marked["uri"], marked["recording"])
        say(f"{take}: frame {marked['frame']} is marked {marked['label']!r}")
        if not marked["recording"]:
            later = "nothing is recorded yet: the mark goes into the recording that its frame is kept in"
            say(f"  {marked.get('note') or later}")


def _held(chaosd: Client | None, uri: str) -> Timeline | None:
    """The timeline of a stream in standby, of which nothing is recorded yet: from the begin of its capture."""
    from chaos.terms.places import Timeline

    if chaosd is None or uri not in running_streams(chaosd):
        return None
    status = chaosd.call("stream_status", uri=uri)
    rate, begun_ns = int(status["format"].get("sample_rate") or 0), status["started_wall_ns"]
    if status.get("standby_s") is None or not rate or not begun_ns:
        return None
    begun = dt.datetime.fromtimestamp(begun_ns / 1e9, dt.UTC)

    def frame_of(place: float | dt.datetime) -> int:
        return round((place if isinstance(place, int | float) else (place - begun).total_seconds()) * rate)

    return Timeline(status["head_frame"], frame_of, lambda frame: begun + dt.timedelta(seconds=frame / rate))


def _take_marked(uri: str, recording: str) -> str:
    """The URI of the take that was marked, in which the frame is counted."""
    take, marked = uri.rpartition("/")[2], Path(recording).stem
    return uri.removesuffix(take) + marked if re.fullmatch(re.escape(take) + r"\.\d{4,}", marked) else uri


def _in_take(store: Store, uri: str, frame: int) -> tuple[str, int]:
    """The URI to mark a frame of a running stream by, and the frame there: of the take that runs the stream's own."""
    from chaos.store.marking import take_at
    from chaos.store.takes import takes_of

    takes = takes_of(store, uri)
    take, frame = take_at(takes, frame)
    of_take = take.digest.definition.uri
    return (uri if take is takes[-1] else f"{uri}.0001" if of_take == uri else of_take), frame


COMMANDS = (list_, mark)
