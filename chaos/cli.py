"""chaosctl: the client that people type. What needs time to import is imported where it is used."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

import click

from chaos import __version__
from chaos.cli_store import COMMANDS
from chaos.errors import ChaosError, DeviceNotFound, StreamNotFound

if TYPE_CHECKING:
    from chaos.client import Client

__all__ = ["main"]

EXIT_LOST = 5
EXIT_BAD = 8
_WATCH_S = 0.25

F = TypeVar("F", bound=Callable[..., Any])


class _Commands(click.Group):
    """A group whose commands may raise ChaosError: told on stderr, and its exit code is the command's."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ChaosError as e:
            click.echo(f"chaosctl: {e.message}", err=True)
            if e.hint:
                click.echo(f"  {e.hint}", err=True)
            ctx.exit(e.exit_code)
        except KeyboardInterrupt:
            ctx.exit(130)


@dataclass(frozen=True)
class _Session:
    endpoint: str | None
    events: str | None
    store: Path | None

    @contextmanager
    def client(self) -> Iterator[Client]:
        from chaos.client import Client

        with Client(self.endpoint, self.events) as client:
            yield client

    @contextmanager
    def client_if_running(self) -> Iterator[Client | None]:
        with self.client() as client:
            yield client if client.reachable() else None

    def store_of(self, client: Client | None) -> Path:
        """The folder of --store, else the running daemon's, else the default one."""
        if self.store is not None:
            return self.store
        if client is not None:
            return Path(client.call("status")["store"]["path"])
        from chaos.config import Config

        return Config().store


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--endpoint", envvar="CHAOS_ENDPOINT", metavar="IPC", help="Where chaosd takes commands.")
@click.option("--events", envvar="CHAOS_EVENTS", metavar="IPC", help="Where chaosd tells events.")
@click.option(
    "--store",
    envvar="CHAOS_STORE",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where recordings lie.",
)
@click.version_option(__version__, prog_name="chaosctl")
@click.pass_context
def main(ctx: click.Context, endpoint: str | None, events: str | None, store: Path | None) -> None:
    """Record from PipeWire with chaosd, and account for every frame.

    Exit codes: 0 done, 1 internal error, 2 usage, 3 device, 4 format, 5 frames lost (--strict), 6 storage,
    7 chaosd or PipeWire not reachable, 8 verification failed.
    """
    ctx.obj = _Session(endpoint, events, store)


def _json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def _strict_option(command: F) -> F:
    return click.option("--strict", is_flag=True, help="Exit with 5 when frames were lost.")(command)


def _print_json(result: Any) -> None:
    click.echo(json.dumps(result, indent=2, ensure_ascii=False))


def _exit(code: int) -> NoReturn:
    click.get_current_context().exit(code)


@main.command()
@click.option(
    "--direction",
    type=click.Choice(["input", "output"]),
    help="Only what can be captured (input) or played to.",
)
@click.option("--type", "kind", type=click.Choice(["audio", "midi"]), help="Only these.")
@click.option("--watch", is_flag=True, help="Go on and show what is plugged in and out, until Ctrl-C.")
@_json_option
@click.pass_obj
def devices(session: _Session, direction: str | None, kind: str | None, watch: bool, as_json: bool) -> None:
    """List devices; `*` marks a default one.

    With --watch and --json each event is a line.
    """
    from chaos.view import DEVICE_HEADERS, device_rows, table

    asked = {name: value for name, value in (("direction", direction), ("format", kind)) if value}
    with session.client() as chaosd:
        if watch:
            _watch_devices(chaosd, asked, as_json)
            return
        found = chaosd.call("device_list", **asked)
    if as_json:
        _print_json(found)
    else:
        table(DEVICE_HEADERS, device_rows(found["devices"]))


def _watch_devices(chaosd: Client, asked: dict[str, str], as_json: bool) -> None:
    from chaos.view import DEVICE_HEADERS, device_rows, event_line, table, watching

    def rows() -> list[tuple[str, ...]]:
        return device_rows(chaosd.call("device_list", **asked)["devices"])

    live = sys.stdout.isatty() and not as_json
    with chaosd.events("device_") as followed, watching(DEVICE_HEADERS) if live else nullcontext() as show:
        try:
            if show is not None:
                show(rows())
            elif not as_json:
                table(DEVICE_HEADERS, rows())
            for event in followed:
                if show is not None:
                    show(rows())
                else:
                    click.echo(json.dumps(event, ensure_ascii=False) if as_json else event_line(event))
        except KeyboardInterrupt:
            return


@main.command()
@click.argument("uri", required=False)
@click.option(
    "--target", metavar="DEVICE", help="Identity, name or description; left out: the default device."
)
@click.option("--rate", type=int, metavar="HZ", help="Refuse a device of another rate.")
@click.option("--channels", type=int, metavar="N", help="Refuse a device of another count.")
@click.option("--format", "sample_format", default="f32", show_default=True, help="f32, s16 or s32.")
@click.option("--latency", metavar="N|TIME", help="Quantum to ask for: frames (256) or a time (5ms).")
@click.option(
    "--layout", type=click.Choice(["planar", "interleaved"]), help="How to take samples from PipeWire."
)
@click.option("--chunk-size", metavar="BYTES", help="Size of a chunk, all channels: 65536, 64k, 2M.")
@click.option(
    "--staging-seconds", type=float, metavar="S", help="Audio that memory holds while the disk stalls."
)
@click.option(
    "--chunk-path", metavar="FILE", help="Write the first chunk here; rotate with stream_switch_chunk."
)
@click.option("--keep", metavar="TIME|BYTES", help="Let the oldest of it go beyond 7d or 200GB.")
@click.option("--roll", metavar="TIME", help="Begin a new take every 1h, at an exact frame.")
@click.option("--wait", is_flag=True, help="Start even when the device is not there yet.")
@_json_option
@click.pass_obj
def start(
    session: _Session,
    uri: str | None,
    target: str | None,
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
    wait: bool,
    as_json: bool,
) -> None:
    """Capture a device, and return once it streams.

    URI is stream://NAME/TAKE; left out it is made of the device's name and the time.
    """
    from chaos.units import parse_latency_frames, parse_size
    from chaos.uri import check_uri

    if uri is not None:
        check_uri(uri)
    wanted = {
        "type": "audio",
        "sample_rate": rate,
        "channels": channels,
        "sample_format": sample_format,
        "layout": layout,
    }
    request: dict[str, Any] = {
        "format": {name: value for name, value in wanted.items() if value is not None},
        "chunk_size_bytes": None if chunk_size is None else parse_size(chunk_size),
        "staging_seconds": staging_seconds,
        "chunk_path": None if chunk_path is None else str(Path(chunk_path).absolute()),
        "keep": keep,
        "roll": roll,
        "wait": wait or None,
    }
    with session.client() as chaosd:
        device = _target(chaosd, target, wait)
        if latency is not None:
            own_rate = None if device is None else device["format"].get("sample_rate")
            request["latency_frames"] = parse_latency_frames(latency, rate or own_rate)
        request["uri"] = uri or _uri_for(
            target if device is None else device["description"] or device["name"]
        )
        request["device_identity"] = target if device is None else device["identity"]
        started = chaosd.start(**{name: value for name, value in request.items() if value is not None})
    if as_json:
        _print_json(started)
        return
    from chaos.view import stream_format

    what = request["device_identity"] if device is None else device["description"]
    click.echo(f"{started['state']}: {what}, {stream_format(started['format'])}")
    click.echo(f"  {started['uri']}\n  {started['recording']}\n  end it with: chaosctl stop {started['uri']}")


def _target(chaosd: Client, target: str | None, wait: bool) -> dict[str, Any] | None:
    """The device to capture; None where it is to be waited for. Raises DeviceNotFound, DeviceAmbiguous."""
    if target is None:
        device = chaosd.default_device()
        click.echo(f"no --target: the default device is {device['description']}", err=True)
        return device
    try:
        return dict(chaosd.call("device_find", name=target)["device"])
    except DeviceNotFound:
        if wait:
            return None
        raise


def _uri_for(name: str | None) -> str:
    import datetime as dt

    from chaos.uri import make_uri, slug

    return make_uri(slug(name or ""), f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}")


@main.command()
@click.argument("uri", required=False)
@_strict_option
@_json_option
@click.pass_obj
def stop(session: _Session, uri: str | None, strict: bool, as_json: bool) -> None:
    """Stop a stream and seal its recording; URI may be left out where only one runs."""
    with session.client() as chaosd:
        stopped = chaosd.call("stream_stop", uri=uri or _only_stream(chaosd))
    if as_json:
        _print_json(stopped)
    else:
        ending = "" if stopped["clean"] else ", not cleanly"
        click.echo(
            f"stopped{ending}: {stopped['n_frames']} frames in {stopped['n_chunks']} chunks,"
            f" {stopped['n_gaps']} gaps, {stopped['lost_frames']} frames lost"
        )
        click.echo(f"  {stopped['recording']}")
        click.echo(f"  next: chaosctl verify {stopped['uri']}")
    if strict and stopped["lost_frames"]:
        _exit(EXIT_LOST)


def _only_stream(chaosd: Client) -> str:
    uris = [stream["uri"] for stream in chaosd.call("stream_list")["streams"] if stream["state"] != "stopped"]
    if len(uris) != 1:
        raise StreamNotFound(
            f"{len(uris) or 'no'} streams run" + (", which one?" if uris else ""), hint="; ".join(uris)
        )
    return str(uris[0])


@main.command(name="list")
@click.option("--recordings", is_flag=True, help="What lies in the store, in place of what runs.")
@_json_option
@click.pass_obj
def list_(session: _Session, recordings: bool, as_json: bool) -> None:
    """List streams, or recordings."""
    from chaos.view import STREAM_HEADERS, clock, stream_rows, table

    with session.client() as chaosd:
        found = chaosd.call("recording_list" if recordings else "stream_list")
    if as_json:
        _print_json(found)
    elif recordings:
        rows = [
            (
                each["uri"],
                each["state"],
                clock(each["n_frames"], each["sample_rate"]),
                str(each["n_gaps"]),
                str(each["lost_frames"]),
                each["recording"],
            )
            for each in found["recordings"]
        ]
        table(("URI", "STATE", "LENGTH", "GAPS", "LOST", "WHERE"), rows)
    else:
        table(STREAM_HEADERS, stream_rows(found["streams"]))


@main.command()
@click.argument("uri", required=False)
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@_json_option
@click.pass_obj
def status(session: _Session, uri: str | None, watch: bool, as_json: bool) -> None:
    """Show the daemon and its streams, or one stream."""
    from chaos.view import STREAM_HEADERS, daemon_lines, stream_lines, stream_rows, table

    with session.client() as chaosd:
        if watch:
            _watch(chaosd, uri, as_json)
            return
        if uri is not None:
            stream = chaosd.call("stream_status", uri=uri)
            if as_json:
                _print_json(stream)
            else:
                click.echo("\n".join(stream_lines(stream)))
            return
        found = chaosd.call("status")
    if as_json:
        _print_json(found)
        return
    click.echo("\n".join(daemon_lines(found)))
    if found["streams"]:
        click.echo()
        table(STREAM_HEADERS, stream_rows(found["streams"]))


def _watch(chaosd: Client, uri: str | None, as_json: bool) -> None:
    import time

    from chaos.view import STREAM_HEADERS, stream_rows, watching

    with nullcontext() if as_json else watching(STREAM_HEADERS) as show:
        try:
            while True:
                streams = chaosd.call("stream_list")["streams"]
                chosen = [stream for stream in streams if uri in (None, stream["uri"])]
                if uri is not None and not chosen:
                    raise StreamNotFound(f"{uri} does not run", hint="`chaosctl list` shows what does")
                if show is None:
                    click.echo(json.dumps({"streams": chosen}))
                else:
                    show(stream_rows(chosen))
                time.sleep(_WATCH_S if sys.stdout.isatty() else 1.0)
        except KeyboardInterrupt:
            return


@main.command()
@click.argument("what", metavar="URI|PATH")
@_strict_option
@_json_option
@click.pass_obj
def verify(session: _Session, what: str, strict: bool, as_json: bool) -> None:
    """Check every chunk of a recording against its hash, and the account of its frames."""
    from chaos.view import lost_frames, progress, verify_lines

    with progress("verifying") as advance:
        report = _verified(session, what, advance)
    if as_json:
        _print_json(report)
    else:
        click.echo("\n".join(verify_lines(report)))
    if not report["ok"]:
        _exit(EXIT_BAD)
    if strict and lost_frames(report):
        _exit(EXIT_LOST)


def _verified(session: _Session, what: str, advance: Callable[[int, int], None]) -> dict[str, Any]:
    """The daemon's own report of a recording it knows; else, or where somebody watches the progress, ours."""
    from chaos.uri import check_uri

    if "://" not in what:
        path = Path(what)
    else:
        check_uri(what)
        with session.client_if_running() as chaosd:
            if chaosd is not None and session.store is None and not sys.stderr.isatty():
                return chaosd.call("verify", uri=what)
            store = session.store_of(chaosd)
        from chaos.info import recording_path

        path = recording_path(store, what)
    import msgspec

    from chaos.verify import verify as verify_here

    return dict(msgspec.to_builtins(verify_here(path, advance)))


@main.command()
@click.argument("whats", metavar="URI|PATH...", nargs=-1, required=True)
@click.argument("out", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--last", metavar="TIME", help="The last 30s, 5m or 1h.")
@click.option(
    "--from", "first", default="start", metavar="PLACE", help="A frame, 30s, -30s or an RFC 3339 time."
)
@click.option("--to", "end", default="head", metavar="PLACE", help="Likewise; not included.")
@click.option("--gaps", type=click.Choice(["zeros", "cut", "nan"]), default="zeros", show_default=True)
@click.option(
    "--container",
    type=click.Choice(["wav", "rf64", "flac", "raw"]),
    help="Left out: by OUT's ending; raw for -.",
)
@_strict_option
@_json_option
@click.pass_obj
def save(
    session: _Session,
    whats: tuple[str, ...],
    out: Path,
    last: str | None,
    first: str,
    end: str,
    gaps: Literal["zeros", "cut", "nan"],
    container: Literal["wav", "rf64", "flac", "raw"] | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Write a recording, or a part of it, to the sound file OUT; running ones can be saved too.

    OUT may be - for standard output (samples interleaved). Of several recordings the same moments are saved, aligned
    by their clock, one file each in the folder OUT; the range is then of the first one.
    """
    if last is not None and (first, end) != ("start", "head"):
        raise click.UsageError("--last goes without --from and --to")
    if len(whats) > 1 and str(out) == "-":
        raise click.UsageError("several recordings go into a folder, not to -")
    import msgspec

    from chaos.export import save as save_file
    from chaos.export import save_aligned, save_to
    from chaos.reader import open as open_recording
    from chaos.units import parse_range
    from chaos.view import progress, saved_lines

    with session.client_if_running() as chaosd:
        store = session.store_of(chaosd)
    with ExitStack() as stack:
        recordings = [stack.enter_context(open_recording(what, store)) for what in whats]
        begin, stop = parse_range(last, first, end, recordings[0].n_frames, recordings[0].frame_of)
        advance = stack.enter_context(progress(f"saving {out.name}"))
        if len(recordings) > 1:
            reports = save_aligned(recordings, out, begin, stop - begin, gaps, container, advance)
        elif str(out) == "-":
            stdout = sys.stdout.buffer
            reports = [save_to(recordings[0], stdout, begin, stop - begin, gaps, container or "raw", advance)]
        else:
            reports = [save_file(recordings[0], out, begin, stop - begin, gaps, container, advance)]
    told = [msgspec.to_builtins(report) for report in reports]
    text = json.dumps(told if len(told) > 1 else told[0], indent=2) if as_json else "\n".join(saved_lines(reports))
    click.echo(text, err=str(out) == "-")
    if strict and any(report.lost_frames for report in reports):
        _exit(EXIT_LOST)


@main.command()
@_json_option
@click.pass_obj
def ping(session: _Session, as_json: bool) -> None:
    """Ask whether chaosd answers."""
    with session.client() as chaosd:
        pong = chaosd.call("ping")
    if as_json:
        _print_json(pong)
    else:
        click.echo(
            f"{pong['name']} {pong['version']}, protocol {pong['protocol']}, process {pong['pid']},"
            f" up {pong['uptime_s']:.0f} s, run {pong['run_id']}"
        )


@main.command()
@click.argument("prefixes", metavar="[TOPIC]...", nargs=-1)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N events.")
@click.option("--timeout", type=float, metavar="S", help="End with exit code 7 after a silence of S seconds.")
@_json_option
@click.pass_obj
def events(
    session: _Session, prefixes: tuple[str, ...], count: int | None, timeout: float | None, as_json: bool
) -> None:
    """Follow events, those whose topic begins with a TOPIC (`stream_gap`, `device_`), until Ctrl-C."""
    from itertools import islice

    from chaos.view import event_line

    with session.client() as chaosd, chaosd.events(*prefixes, timeout_s=timeout) as followed:
        try:
            for event in islice(followed, count):
                click.echo(json.dumps(event, ensure_ascii=False) if as_json else event_line(event))
        except KeyboardInterrupt:
            return


@main.command()
@_json_option
@click.pass_obj
def shutdown(session: _Session, as_json: bool) -> None:
    """Stop every stream cleanly, then the daemon."""
    with session.client() as chaosd:
        result = chaosd.call("shutdown")
    if as_json:
        _print_json(result)


for _command in COMMANDS:
    main.add_command(_command)
