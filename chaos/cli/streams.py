"""chaosctl's commands about streams: start, stop, status."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chaos.cli.out import say, say_json
from chaos.cli.session import (
    EXIT_LOST,
    Session,
    json_option,
    leave,
    midi_instruments,
    only_stream,
    print_json,
    strict_option,
    whole,
)
from chaos.terms.counting import counted
from chaos.terms.errors import DeviceNotFound, InvalidRequest, PipeWireUnavailable, StreamNotFound
from chaos.terms.states import shown_state

if TYPE_CHECKING:
    from chaos.client import Asking, Client

__all__ = ["COMMANDS", "target_device", "uri_for"]

_WATCH_S = 0.25


@click.command()
@click.argument("uri", required=False)
@click.option("--target", metavar="DEVICE", help="Device: identity, name or description. Default: the default device.")
@click.option("--midi", is_flag=True, help="Record MIDI: of the device that --target names, or of the only one.")
@click.option("--rate", type=int, metavar="HZ", help="Fail unless the device runs at this rate.")
@click.option("--channels", type=int, metavar="N", help="Fail unless the device has this many channels.")
@click.option("--format", "sample_format", default="f32", show_default=True, help="Sample format: f32, s16 or s32.")
@click.option("--latency", metavar="N|TIME", help="Ask PipeWire for this quantum: frames (256) or a time (5ms).")
@click.option(
    "--layout",
    type=click.Choice(["planar", "interleaved"]),
    help="How PipeWire delivers samples. Default: planar, the device's own buffers.",
)
@click.option("--chunk-size", metavar="BYTES", help="Chunk size, all channels together: 65536, 64k, 2M.")
@click.option(
    "--staging-seconds", type=float, metavar="S", help="How much audio to buffer in memory while the disk is slow."
)
@click.option(
    "--chunk-path", metavar="FILE", help="File for the first chunk; a controller then sends stream_switch_chunk."
)
@click.option("--keep", metavar="TIME|BYTES", help="Delete its oldest audio beyond this age or size: 7d, 200GB.")
@click.option("--roll", metavar="TIME", help="Begin a new take every TIME (1h), without losing a frame. Default: 24h.")
@click.option("--align", type=click.Choice(["clock"]), help="Begin takes at multiples of --roll from midnight on.")
@click.option("--on-seal", metavar="CMD", help="Run this with the path of each sealed chunk (see --on-roll).")
@click.option(
    "--on-roll",
    metavar="CMD",
    help="Run this with the path of each recording that has ended: at {path}, or as the last argument; {uri} is its"
    " URI. Not by a shell, and only if chaosd was started with --allow-commands.",
)
@click.option("--channel-map", metavar="LIST", help="Record only these channels, by name or number: FL,FR or 1,2,7.")
@click.option(
    "--accept-port-change",
    is_flag=True,
    help="Go on if the device comes back at another port, going by its serial number. Default: wait for the port.",
)
@click.option(
    "--require-own-clock",
    is_flag=True,
    help="Keep nothing while another device's clock drives this one: PipeWire resamples it then. Default: say so.",
)
@click.option(
    "--roll-on-format-change",
    is_flag=True,
    help="If the device's channels or rate change, go on in a new take. Default: wait until they are as before.",
)
@click.option("--at", metavar="HH:MM", help="Begin at this local time: 18:00, or 2026-01-31T18:00. Default: now.")
@click.option("--for", "for_", metavar="TIME", help="Stop by itself after so long: 90m, 2h. Default: never.")
@click.option("--until", metavar="HH:MM", help="Stop by itself at this local time, in the same forms as --at.")
@click.option("--wait", is_flag=True, help="If the device is not there yet, or PipeWire is not, wait for it.")
@click.option(
    "--standby",
    metavar="TIME",
    help="Record nothing yet, but hold the last TIME (60s) in memory, until: chaosctl keep, or save --last 30s."
    " Whole chunks are held, so it may be one chunk (usually 10 s) more than TIME.",
)
@click.option("--trigger", metavar="DB", help="Record only what is louder than this (-40dB), each time by itself.")
@click.option("--pre", metavar="TIME", help="... from so long before. Default: 2s.")
@click.option("--hold", metavar="TIME", help="... to so long after the last loud sample. Default: 5s.")
@click.option("--silent-below", type=float, metavar="DB", help="Say that it is silent below this peak. Default: -60.")
@click.option("--silent-after", metavar="TIME", help="... for this long. Default: 30s.")
@click.option("--trace", is_flag=True, help="Also show when each step of the start was done.")
@json_option
@click.pass_obj
def start(
    session: Session,
    uri: str | None,
    target: str | None,
    midi: bool,
    rate: int | None,
    channels: int | None,
    sample_format: str,
    latency: str | None,
    layout: str | None,
    chunk_size: str | None,
    staging_seconds: float | None,
    chunk_path: str | None,
    keep: str | None,
    roll: str | None,
    align: str | None,
    on_seal: str | None,
    on_roll: str | None,
    channel_map: str | None,
    accept_port_change: bool,
    require_own_clock: bool,
    roll_on_format_change: bool,
    at: str | None,
    for_: str | None,
    until: str | None,
    wait: bool,
    standby: str | None,
    trigger: str | None,
    pre: str | None,
    hold: str | None,
    silent_below: float | None,
    silent_after: str | None,
    trace: bool,
    as_json: bool,
) -> None:
    """Start recording a device. Returns once audio is being recorded.

    URI is stream://NAME/TAKE. Default: made from the device's name and the time.

    With --at it returns at once, and chaosd waits; if chaosd ends before that time, start the stream again. With
    --align takes are named by their time in UTC.
    """
    import datetime as dt

    from chaos.cli.limits import check_options
    from chaos.cli.when import chosen_times, told, wire
    from chaos.terms.units import parse_duration_s, parse_keep, parse_latency_frames, parse_roll_s, parse_size
    from chaos.terms.uri import check_uri, of_free

    if uri is not None:
        check_uri(uri)
    if keep is not None:
        parse_keep(keep)
    if roll is not None:
        parse_roll_s(roll)
    if trigger is None and (pre or hold):
        raise click.UsageError("--pre and --hold need --trigger, for example -40dB")
    if align is not None and roll is None:
        raise click.UsageError("--align needs --roll, for example --roll 1h")
    if midi and (rate or channels or layout or channel_map or sample_format != "f32"):
        raise click.UsageError("--rate, --channels, --format, --layout and --channel-map are for audio, not --midi")
    wanted = {
        "type": "audio",
        "sample_rate": rate,
        "channels": channels,
        "sample_format": sample_format,
        "layout": layout,
    }
    request: dict[str, Any] = {
        "format": {"type": "midi"} if midi else {name: value for name, value in wanted.items() if value is not None},
        "chunk_size_bytes": None if chunk_size is None else parse_size(chunk_size),
        "staging_seconds": staging_seconds,
        "chunk_path": None if chunk_path is None else str(Path(chunk_path).absolute()),
        "keep": keep,
        "roll": roll,
        "align": align,
        "on_seal": on_seal,
        "on_roll": on_roll,
        "channel_map": None if channel_map is None else [each.strip() for each in channel_map.split(",")],
        "accept_port_change": accept_port_change or None,
        "require_own_clock": require_own_clock or None,
        "roll_on_format_change": roll_on_format_change or None,
        "wait": wait or None,
        "silent_below_dbfs": silent_below,
        "silent_after_s": None if silent_after is None else parse_duration_s(silent_after),
        "standby_s": None if standby is None else parse_duration_s(standby),
        "trigger": None if trigger is None else _levels(trigger, pre, hold),
        "trace": trace or None,
        "take_names": "time" if align is not None else None,
    }
    now = dt.datetime.now().astimezone()
    times = chosen_times(at, for_, until, now)
    request["start_at"] = None if times.begin is None else wire(times.begin)
    request["stop_at"] = None if times.end is None else wire(times.end)
    request["stop_after_s"] = times.seconds
    check_options(request)
    with session.client() as chaosd:
        device = target_device(chaosd, target, wait, "midi" if midi else "audio")
        if latency is not None:
            own_rate = None if device is None else device["format"].get("sample_rate")
            request["latency_frames"] = parse_latency_frames(latency, rate or own_rate)
            check_options(request)
        # What chooses one of several devices that share a name must reach chaosd as it is.
        is_exact = target is not None and target.startswith(("node:", "object:"))
        request["device_identity"] = target if device is None or is_exact else device["identity"]
        fields = {name: value for name, value in request.items() if value is not None}
        if uri is None:
            made_up = uri_for(target if device is None else device["description"] or device["name"])
            started = of_free(made_up, lambda each: chaosd.start(uri=each, **fields))
        else:
            started = chaosd.start(uri=uri, **fields)
    if as_json:
        print_json(started)
        return
    from chaos.cli.show import note_lines, stream_format

    what = request["device_identity"] if device is None else device["description"]
    state = shown_state(started["state"], is_held=standby is not None or trigger is not None)
    say(f"{state}: {what}, {stream_format(started['format'])}")
    if started.get("reason"):
        say(f"  {started['reason']}")
    if when := told(times, for_, now):
        say(f"  records {', '.join(when)}")
    if trigger is not None:
        say(f"  {started['uri']}", f"  records what is louder than {trigger}, each time under a name of its own")
        say(f"  stop it with: chaosctl stop {started['uri']}")
    elif standby is None:
        folder = started["recording"]  # none before the first frame
        say(f"  {started['uri']}", *([f"  {folder}"] if folder else []))
        say(f"  stop it with: chaosctl stop {started['uri']}")
    else:
        say(f"  {started['uri']}", f"  holds the last {standby} in memory; nothing is recorded")
        say(f"  record from then on with: chaosctl keep {started['uri']}")
        if for_ is not None or until is not None:
            say("  without that nothing of it is left when it ends")
    for note in note_lines(started):
        say(note)
    if trace:
        say(*_trace_lines(started["trace"]))


def _levels(trigger: str, pre: str | None, hold: str | None) -> dict[str, float]:
    from chaos.terms.units import parse_decibels, parse_duration_s

    chosen = {"pre_s": pre, "hold_s": hold}
    lengths = {name: parse_duration_s(text) for name, text in chosen.items() if text is not None}
    return {"above_dbfs": parse_decibels(trigger), **lengths}


def _trace_lines(moments: dict[str, int]) -> list[str]:
    """The steps of a start, each with the time since it was asked for."""
    return [f"{(at_ns - moments['asked']) / 1e6:9.1f} ms  {step.replace('_', ' ')}" for step, at_ns in moments.items()]


def target_device(
    chaosd: Asking, target: str | None, wait: bool, kind: str, choose: str = "--target {}"
) -> dict[str, Any] | None:
    """The device to record; None if it is not there and we wait for it. `choose` is what one types to choose it.

    Raises DeviceNotFound, DeviceAmbiguous, InvalidRequest.
    """
    if target is not None and not target.strip():
        raise InvalidRequest("the name of the device is empty", hint="see what there is with: chaosctl devices")
    if target is None and kind == "midi":
        return _only_midi_device(chaosd, choose)
    if target is None:
        device = chaosd.default_device()
        another = choose.format("DEVICE")
        say(f"recording the default device, {device['description']} (choose another with {another})", err=True)
        return device
    try:
        return dict(chaosd.call("device_find", name=target, format=kind)["device"])
    except (DeviceNotFound, PipeWireUnavailable):
        if wait:
            return None
        raise


def _only_midi_device(chaosd: Asking, choose: str) -> dict[str, Any]:
    found = midi_instruments(chaosd)
    if len(found) != 1:
        hint = "; ".join(choose.format(f'"{device["description"]}"') for device in found[:5])
        raise DeviceNotFound(
            f"{len(found)} MIDI devices are there: say which one" if found else "there is no MIDI device",
            hint=hint or "see what there is with: chaosctl devices",
        )
    say(f"recording the only MIDI device, {found[0]['description']}", err=True)
    return found[0]


def uri_for(name: str | None) -> str:
    from chaos.terms.uri import uri_by_time

    return uri_by_time(name)


@click.command("accept-port")
@click.argument("uri", required=False)
@json_option
@click.pass_obj
def accept_port(session: Session, uri: str | None, as_json: bool) -> None:
    """Continue with the stream's device at another port, recognised by its serial number.

    URI can be left out if only one stream is running.
    """
    with session.client() as chaosd:
        accepted = chaosd.call("stream_accept_port", uri=uri or only_stream(chaosd))
    if as_json:
        print_json(accepted)
    else:
        say(f"{accepted['uri']} takes the device for the same, at any port")


@click.command()
@click.argument("uri", required=False)
@strict_option
@json_option
@click.pass_obj
def stop(session: Session, uri: str | None, strict: bool, as_json: bool) -> None:
    """Stop a stream and finish its recording. URI can be left out if only one stream is running."""
    if session.hosts:
        from chaos.cli.hosts import stop_on

        stop_on(session.hosts, uri, strict=strict, as_json=as_json)
        return
    with session.client() as chaosd:
        stopped = chaosd.call("stream_stop", uri=uri or only_stream(chaosd))
    if as_json:
        print_json(stopped)
    else:
        say(*_stopped_lines(stopped))
    if strict and whole(stopped)["lost_frames"]:
        leave(EXIT_LOST)


def _stopped_lines(stopped: dict[str, Any]) -> list[str]:
    """What was recorded, and what comes next."""
    from chaos.cli.show import lost, signal_lines

    ending, rate = "" if stopped["clean"] else " after an error", stopped.get("sample_rate")
    all_of_it, n_takes = whole(stopped), stopped.get("n_takes")
    if n_takes is not None and all_of_it is stopped:  # of an older chaosd, or none
        return [f"stopped{ending}: {counted(n_takes, 'take')}", "  see them with: chaosctl list"]
    if n_takes is None and not stopped["recording"]:
        return [f"stopped{ending}; nothing was kept"]
    what = "chunk" if all_of_it is stopped else "take"
    figures = (
        f"stopped{ending}: {counted(all_of_it['n_frames'], 'frame')} in {counted(all_of_it[f'n_{what}s'], what)},"
        f" {counted(all_of_it['n_gaps'], 'gap')}, {counted(all_of_it['lost_frames'], 'frame')} lost"
        f"{lost(all_of_it['lost_frames'], rate)}"
    )
    signal = stopped.get("signal")
    if "n_clipped" in all_of_it:  # of all takes, so that no one moment is the first
        words = ((all_of_it["n_clipped"], "clipped"), (all_of_it["n_not_finite"], "NaN or infinite"))
        heard = [f"{counted(n, 'sample')} {word}" for n, word in words if n]
        heard += signal_lines(signal and {**signal, "n_clipped": 0, "n_not_finite": 0}, rate)
    else:
        heard = signal_lines(signal, rate)
    if n_takes is not None:
        return [figures, *(f"  {line}" for line in heard), "  see them with: chaosctl list"]
    return [
        figures,
        *(f"  {line}" for line in heard),
        f"  {stopped['recording']}",
        f"  next: chaosctl verify {stopped['uri']}",
    ]


@click.command()
@click.argument("uri", required=False)
@click.option("--watch", is_flag=True, help="Keep the display up to date, until Ctrl-C.")
@json_option
@click.pass_obj
def status(session: Session, uri: str | None, watch: bool, as_json: bool) -> None:
    """Show the state of chaosd and its streams, or of one stream.

    What `chaosctl record` records without chaosd is shown below, also where chaosd does not run.
    """
    if session.hosts:
        from chaos.cli.hosts import status_on

        if watch:
            raise click.UsageError("--watch takes one host.")
        status_on(session.hosts, uri, as_json=as_json)
        return
    from chaos.cli.show import STREAM_HEADERS, capture_lines, daemon_lines, stream_lines, stream_rows
    from chaos.cli.tables import table

    with session.client() as chaosd:
        if watch:
            _watch(chaosd, uri, as_json)
            return
        from chaos.client import DaemonUnreachable

        others = _others(session, chaosd, uri)
        if uri is not None and others:
            print_json({"captures": others}) if as_json else say(*capture_lines(others))
            return
        if others and not chaosd.reachable():
            if not as_json:
                say(*capture_lines(others))
            raise DaemonUnreachable("chaosd is not running", hint="start it: chaosd", details={"captures": others})
        if uri is not None:
            stream = chaosd.call("stream_status", uri=uri)
            if as_json:
                print_json(stream)
            else:
                say(*stream_lines(stream))
            return
        found = chaosd.call("status")
    if as_json:
        print_json({**found, **({"captures": others} if others else {})})
        return
    say(*daemon_lines(found))
    if not found["streams"]:
        say("", "no stream is running; start one with: chaosctl start")
    else:
        say("")
        table(STREAM_HEADERS, stream_rows(found["streams"]))
        say(*(f"{each['uri']} is {each['state']}: {each['reason']}" for each in found["streams"] if each.get("reason")))
    say(*(["", *capture_lines(others)] if others else []))


def _others(session: Session, chaosd: Client, uri: str | None) -> list[dict[str, Any]]:
    """What other processes than chaosd capture on this machine; of one stream where `uri` is given."""
    if session.is_elsewhere:
        return []
    from chaos.protocol.config import Config

    if not any((folder := Config().staging_dir).glob("*")):
        return []
    import msgspec

    from chaos.store.captures import captures

    found = [each for each in captures(folder) if uri in (None, each.uri)]
    pid = chaosd.call("ping")["pid"] if found and chaosd.reachable() else None
    return [dict(msgspec.to_builtins(each)) for each in found if each.pid != pid]


def _watch(chaosd: Asking, uri: str | None, as_json: bool) -> None:
    import time

    from chaos.cli.show import STREAM_HEADERS, stream_rows
    from chaos.cli.tables import watching

    with nullcontext() if as_json else watching(STREAM_HEADERS) as show:
        try:
            while True:
                streams = chaosd.call("stream_list")["streams"]
                chosen = [stream for stream in streams if uri in (None, stream["uri"])]
                if uri is not None and not chosen:
                    raise StreamNotFound(
                        f"no stream {uri} is running", hint="see what is running with: chaosctl status"
                    )
                if show is None:
                    say_json({"streams": chosen}, indent=None)
                else:
                    show(stream_rows(chosen))
                time.sleep(_WATCH_S if sys.stdout.isatty() else 1.0)
        except KeyboardInterrupt:
            return


COMMANDS = (start, stop, accept_port, status)
