"""`chaosctl session`: what is recorded at once, under one name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chaos.cli.numbers import Number
from chaos.cli.out import say
from chaos.cli.session import (
    EXIT_BAD,
    EXIT_LOST,
    PickOne,
    Session,
    json_option,
    leave,
    midi_instruments,
    print_json,
    range_options,
    strict_option,
    whole,
)
from chaos.cli.sessionfolder import recorded, said_of_running, uris_running, write_session
from chaos.cli.standby import keep_held, mark_lines, missing_lines
from chaos.cli.streams import target_device
from chaos.terms.containers import CONTAINERS, GAP_FILLS, SUBTYPES, Container, GapFill, Subtype
from chaos.terms.counting import counted
from chaos.terms.devicenames import check_once
from chaos.terms.errors import DeviceNotFound, SessionNotFound
from chaos.terms.states import shown_state

if TYPE_CHECKING:
    from chaos.client import Client

__all__ = ["COMMANDS"]


@click.group("session")
def session_group() -> None:
    """Record several devices at once, under one name: start, keep, stop, status, list, save, verify."""


@session_group.command("start")
@click.argument("name")
@click.option("--audio", multiple=True, metavar="DEVICE", help="An audio device to record; may be repeated.")
@click.option("--midi", multiple=True, metavar="DEVICE", help="A MIDI device to record; may be repeated.")
@click.option("--all-midi", is_flag=True, help="Record all MIDI devices that are present.")
@click.option("--keep", metavar="TIME|BYTES", help="Delete its oldest part beyond this age or size: 7d, 200GB.")
@click.option("--roll", metavar="TIME", help="Go on in a new take after this long, without a seam: 1h. Default: a day.")
@click.option("--standby", metavar="TIME", help="Hold the last TIME (60s) in memory until: chaosctl session keep.")
@click.option("--wait", is_flag=True, help="Begin without devices that are not there yet, and wait for them.")
@click.option("--at", metavar="HH:MM", help="Begin at this local time: 18:00, or 2026-01-31T18:00. Default: now.")
@click.option("--for", "for_", metavar="TIME", help="Stop by itself after so long: 90m, 2h. Default: never.")
@click.option("--until", metavar="HH:MM", help="Stop by itself at this local time, in the same forms as --at.")
@json_option
@click.pass_obj
def start(
    session: Session,
    name: str,
    audio: tuple[str, ...],
    midi: tuple[str, ...],
    all_midi: bool,
    keep: str | None,
    roll: str | None,
    standby: str | None,
    wait: bool,
    at: str | None,
    for_: str | None,
    until: str | None,
    as_json: bool,
) -> None:
    """Start recording several devices together. Without any, the default audio device.

    Each becomes a stream of its own, stream://DEVICE/NAME. Streams with the same clock begin at the same frame.

    With --at it returns at once, and chaosd waits; if chaosd ends before that time, start the session again.
    """
    import datetime as dt

    from chaos.cli.limits import check_options
    from chaos.cli.when import chosen_times, told, wire
    from chaos.terms.units import parse_duration_s, parse_keep, parse_roll_s
    from chaos.terms.uri import check_session, make_uri, slug

    check_session(name)
    if keep is not None:
        parse_keep(keep)
    if roll is not None:
        parse_roll_s(roll)
    standby_s = None if standby is None else parse_duration_s(standby)
    now = dt.datetime.now().astimezone()
    times = chosen_times(at, for_, until, now)
    moments = {name: None if moment is None else wire(moment)
               for name, moment in (("start_at", times.begin), ("stop_at", times.end))}  # fmt: skip
    when = {**moments, "stop_after_s": times.seconds}
    check_options({"standby_s": standby_s, **when})
    with session.client() as chaosd:
        named = [*((each, "audio") for each in audio), *((each, "midi") for each in midi)]
        devices = [(each, kind, target_device(chaosd, each, wait, kind)) for each, kind in named]
        check_once((each, _key(each, kind, device)) for each, kind, device in devices)
        if all_midi:
            known = {device["identity"] for _, _, device in devices if device is not None}
            there = midi_instruments(chaosd)
            devices += [(each["identity"], "midi", each) for each in there if each["identity"] not in known]
        if not devices:
            if all_midi:
                raise DeviceNotFound("there is no MIDI device", hint="see what there is with: chaosctl devices")
            default = chaosd.default_device()
            say(f"recording the default device, {default['description']} (choose others with --audio)", err=True)
            devices = [(default["identity"], "audio", default)]
        asked = {"keep": keep, "roll": roll, "standby_s": standby_s}
        streams: list[dict[str, Any]] = []
        uris: set[str] = set()
        for target, kind, device in devices:
            word = slug(target if device is None else device["description"] or device["name"])[:60]
            number = 1
            while (uri := make_uri(word if number == 1 else f"{word}-{number}", name)) in uris:
                number += 1
            uris.add(uri)
            is_exact = target.startswith(("node:", "object:"))  # of several that share an identity
            identity = target if device is None or is_exact else device["identity"]
            stream = {"uri": uri, "device_identity": identity, "format": {"type": kind}}
            streams.append(stream | {field: value for field, value in asked.items() if value is not None})
        chosen = {field: value for field, value in {**when, "wait": wait or None}.items() if value is not None}
        begun = chaosd.call("session_start", session=name, streams=streams, **chosen)
    if as_json:
        print_json(begun)
        return
    say(*_begun_lines(begun, standby, told(times, for_, now), is_early=times.begin is not None))


def _key(name: str, kind: str, device: dict[str, Any] | None) -> tuple[Any, ...]:
    """What is equal for names of one device alone; of one that isn't there yet the name."""
    told = device or {}
    return kind, told.get("object_serial") or name, told.get("direction"), told.get("is_monitor")


@session_group.command("stop")
@click.argument("name", required=False)
@strict_option
@json_option
@click.pass_obj
def stop(session: Session, name: str | None, strict: bool, as_json: bool) -> None:
    """Stop all streams of a session. NAME can be left out if only one session is running."""
    with session.client() as chaosd:
        ended = chaosd.call("session_stop", session=name or _only_session(chaosd))
    if as_json:
        print_json(ended)
    else:
        say(*_ended_lines(ended))
    if strict and any(whole(stream)["lost_frames"] for stream in ended["streams"]):
        leave(EXIT_LOST)


@session_group.command("status")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def status(session: Session, name: str | None, as_json: bool) -> None:
    """Show the streams of a session, how far they are, and how their clocks are related."""
    from chaos.cli.tables import table

    with session.client() as chaosd:
        found = chaosd.call("session_status", session=name or _only_session(chaosd))
    if as_json:
        print_json(found)
        return
    since = f", since {_local(found['began_utc'])}" if found.get("began_utc") else ""
    say(f"{found['session']}: {'running' if found['running'] else 'ended'}{since}")
    if not found["running"] and all(stream["state"] == "missing" for stream in found["streams"]):
        say("nothing was recorded", *(f"  {stream['uri']}" for stream in found["streams"]))
        return
    table(_STREAM_HEADERS, _stream_rows(found["streams"]))
    for stream in found["streams"]:
        if stream["state"] == "interrupted":
            say(f"{stream['uri']} is not all stored; what is left of it waits in memory: chaosctl recover")
        if stream.get("reason"):
            say(f"{stream['uri']} is {stream['state']}: {stream['reason']}")
        if stream.get("n_takes", 1) > 1:
            say(f"{stream['uri']} has rolled: {stream['n_takes']} takes")
    if any(_is_held(stream) for stream in found["streams"]):
        say(f"what is held in memory is not recorded; record it with: chaosctl session keep {found['session']}")


@session_group.command("list")
@json_option
@click.pass_obj
def list_sessions(session: Session, as_json: bool) -> None:
    """List all sessions, the newest first."""
    from chaos.cli.tables import table

    with session.client() as chaosd:
        found = chaosd.call("session_list")
    if as_json:
        print_json(found)
    elif not found["sessions"]:
        say("No sessions; start one with: chaosctl session start NAME", err=True)
    else:
        table(
            ("SESSION", "STATE", "STARTED", "STREAMS"),
            [
                (
                    each["session"],
                    "running" if each["running"] else "ended",
                    _local(each["started_utc"]),
                    " ".join(each["uris"]),
                )
                for each in found["sessions"]
            ],
        )


_STREAM_HEADERS = ("URI", "STATE", "LENGTH", "LOST", "BEGAN", "CLOCK", "DEVICE")
_CLOCKS = {
    "graph_clock": "the same",
    "monotonic_clock": "another driver's: to a quantum",
    "wall_clock": "another run's: by the time of day",
}


def _stream_rows(streams: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            stream["uri"],
            shown_state(stream["state"], is_held=stream.get("standby_s") is not None),
            _length(stream),
            str(stream["lost_frames"]),
            _began(stream),
            _CLOCKS.get(stream["related_by"], "-"),
            stream["device"] or "-",
        )
        for stream in streams
    ]


def _length(stream: dict[str, Any]) -> str:
    from chaos.cli.show import duration

    if _is_held(stream):
        return f"last {stream['standby_s']:g} s"
    return duration(stream["n_frames"], stream["sample_rate"])


def _is_held(stream: dict[str, Any]) -> bool:
    """Whether it is in standby and frames come."""
    return stream.get("standby_s") is not None and stream["state"] == "streaming"


def _began(stream: dict[str, Any]) -> str:
    """Against the first stream's first frame."""
    offset = stream["offset_frames"]
    if offset is None:
        return "-"
    return "together" if offset == 0 else f"{-offset:+} {'frame' if abs(offset) == 1 else 'frames'}"


def _local(utc: str | None) -> str:
    import datetime as dt

    return "-" if utc is None else f"{dt.datetime.fromisoformat(utc).astimezone():%Y-%m-%d %H:%M:%S}"


def _begun_lines(
    begun: dict[str, Any], standby: str | None = None, when: Sequence[str] = (), *, is_early: bool = False
) -> list[str]:
    lines = [f"session {begun['session']}: {counted(len(begun['streams']), 'stream')}"]
    for stream in begun["streams"]:
        device = stream["device"]
        state = shown_state(stream["state"], is_held=standby is not None)
        lines.append(f"  {state}: {stream['uri']}" + (f", {device['description']}" if device else ""))
        if device is None and not is_early:
            lines.append("    its device is not there yet: it begins when that comes")
    if when:
        lines.append(f"  records {', '.join(when)}")
    if begun.get("begins_within_s") is not None and begun.get("waiting"):
        lines.append(f"  the others begin together within {begun['begins_within_s']:g} s, with it or without it")
    if standby is not None:
        lines.append(f"  holds the last {standby} in memory; nothing is recorded")
        lines.append(f"  record from then on with: chaosctl session keep {begun['session']}")
    return [*lines, f"  stop it with: chaosctl session stop {begun['session']}"]


def _ended_lines(ended: dict[str, Any]) -> list[str]:
    from chaos.cli.show import lost

    lines = [f"session {ended['session']} stopped"]
    for stream in ended["streams"]:
        ending = "" if stream["clean"] else ", after an error"
        if not stream["recording"]:
            lines.append(f"  {stream['uri']}: nothing was recorded{ending}")
            continue
        told = whole(stream)
        frames, n_lost = counted(told["n_frames"], "frame"), counted(told["lost_frames"], "frame")
        takes = f" in {counted(told['n_takes'], 'take')}" if told is not stream else ""
        lines.append(
            f"  {stream['uri']}: {frames}{takes}, {counted(told['n_gaps'], 'gap')},"
            f" {n_lost} lost{lost(told['lost_frames'], stream.get('sample_rate'))}{ending}"
        )
    if not any(stream["recording"] for stream in ended["streams"]):
        return lines
    return [*lines, f"  next: chaosctl session save {ended['session']} FOLDER"]


def _only_session(chaosd: Client) -> str:
    """The name of the one session that runs. Raises SessionNotFound, or PickOne."""
    running = [each["session"] for each in chaosd.call("session_list")["sessions"] if each["running"]]
    if len(running) > 1:
        raise PickOne(f"{len(running)} sessions are running; pick one:", running)
    if not running:
        raise SessionNotFound("no session is running", hint="see what there is with: chaosctl session list")
    return str(running[0])


@session_group.command("keep")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def keep(session: Session, name: str | None, as_json: bool) -> None:
    """Make recordings of what a session in standby holds, from its oldest frames on, and go on recording.

    NAME can be left out if only one session is running. Start one with: chaosctl session start NAME --standby 60s
    """
    from chaos.cli.show import duration

    with session.client() as chaosd:
        kept = chaosd.call("session_keep", session=name or _only_session(chaosd))
    if as_json:
        print_json(kept)
        return
    say(f"session {kept['session']}: {counted(len(kept['streams']), 'stream')} kept, and recording on")
    for each in kept["streams"]:
        held = f"the last {duration(each['n_frames'], each['sample_rate'])}"
        say(f"  {each['uri']}: {held if each['recording'] else 'from the first frame on: nothing has come yet'}")
        for line in (*missing_lines(each), *mark_lines(each)):
            say(f"  {line}")
    for each in kept["refused"]:
        say(f"  NOT kept: {each['uri']}: {each['error']['message']}", err=True)


@session_group.command("save")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@range_options
@click.option("--gaps", type=click.Choice(GAP_FILLS), default="zeros", show_default=True, help="What to put in gaps.")
@click.option("--container", type=click.Choice(CONTAINERS), help="File type, where it fits. Default: wav and mid.")
@click.option("--subtype", type=click.Choice(SUBTYPES, case_sensitive=False), help="Sample type. Default: as recorded.")
@click.option("--tempo", type=Number(4, 1000), metavar="BPM", help="Of MIDI files, as in chaosctl save.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@strict_option
@json_option
@click.pass_obj
def save(
    session: Session,
    name: str,
    folder: Path | None,
    last: str | None,
    first: str | None,
    end: str | None,
    gaps: GapFill,
    container: Container | None,
    subtype: Subtype | None,
    tempo: float | None,
    force: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Save a session as a folder: a file for each stream, all aligned and of equal length, and session.json.

    The files begin with the first frame that any stream has and end with the last one; a stream that began later or
    ended earlier is silent there, and this is said. --from, --to and --last choose a part of that time. Takes that a
    stream has rolled into are one file. Without FOLDER it is named by the session and the time.

    Exits with code 8 if a chunk is damaged.
    """
    with session.client_if_running() as chaosd:
        store = session.store_of(chaosd).absolute()
        if chaosd is not None and session.store is None:
            keep_held(chaosd, uris_running(chaosd, name))
    places = last, first, end
    how = {"gaps": gaps, "container": container, "subtype": subtype, "tempo": tempo, "force": force}
    with said_of_running(session, name):
        write_session(store, name, folder, places, how, strict=strict, as_json=as_json)


@session_group.command("verify")
@click.argument("name")
@strict_option
@json_option
@click.pass_obj
def verify(session: Session, name: str, strict: bool, as_json: bool) -> None:
    """Check all recordings of a session, as `chaosctl verify` does. Exits with code 8 if one of them is not right.

    With --strict, also if one has not ended, so that not all of it could be checked.
    """
    import msgspec

    from chaos.cli.tables import progress
    from chaos.cli.verdict import is_broken_off, verify_lines
    from chaos.store.store import Store
    from chaos.store.verify import verify_uri

    store = session.store_folder()
    reports: dict[str, dict[str, Any]] = {}
    with said_of_running(session, name):
        uris = recorded(store, name).recorded
    for uri in uris:
        with progress(f"verifying {uri}") as advance:
            reports[uri] = msgspec.to_builtins(verify_uri(Store(store), uri, advance))
    missing = {uri: sum(gap["n_frames"] or 0 for gap in report["gaps"]) for uri, report in reports.items()}
    is_ok = all(report["ok"] and not is_broken_off(report) for report in reports.values())
    is_all = all(report["all_checked"] for report in reports.values())
    if as_json:
        print_json({"ok": is_ok, "all_checked": is_all, "session": name, "recordings": list(reports.values())})
    else:
        for uri, report in reports.items():
            verdict, *rest = verify_lines(report, missing[uri])
            say(f"{uri}: {verdict}", *rest)
        verdict = "NOT ok" if not is_ok else "ok" if is_all else "not all of it checked"
        say(f"session {name}: {verdict}, {counted(len(reports), 'recording')}")
    if not is_ok or (strict and not is_all):
        leave(EXIT_BAD)
    if strict and any(missing.values()):
        leave(EXIT_LOST)


COMMANDS = (session_group,)
