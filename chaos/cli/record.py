"""`chaosctl record`: from a device to a file in one line, by the chaosd that runs or by an engine of its own."""

from __future__ import annotations

import datetime as dt
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chaos.cli.numbers import WholeNumber
from chaos.cli.out import check_takes_samples, say
from chaos.cli.recorded import broken_off_lines, finish, leave_with, left_lines_of
from chaos.cli.recorder import Ending, Take
from chaos.cli.session import Session, json_option, on_end, strict_option
from chaos.cli.streams import target_device, uri_for
from chaos.cli.when import chosen_times, wire
from chaos.terms.containers import AUDIO_CONTAINERS, CONTAINERS, MIDI_CONTAINERS
from chaos.terms.errors import ChaosError, FormatUnsupported, InvalidRequest, PathNotAllowed

if TYPE_CHECKING:
    from chaos.client import Asking

__all__ = ["COMMANDS", "chosen_device", "device_and_file"]

_SHORTEST_S = 0.001
_CHOOSE = {"audio": "chaosctl record {} FILE", "midi": "chaosctl record --midi {} FILE"}


@click.command()
@click.argument("arguments", metavar="[DEVICE] [FILE]", nargs=-1)
@click.option("--at", metavar="HH:MM", help="Begin at this local time: 18:00, or 2026-01-31T18:00. Default: now.")
@click.option("--for", "for_", metavar="TIME", help="Record for so long: 10s, 5m, 2h. Default: until Ctrl-C.")
@click.option("--until", metavar="HH:MM", help="Record until this local time, in the same forms as --at.")
@click.option("--midi", is_flag=True, help="Record MIDI.")
@click.option("--format", "sample_format", default="f32", show_default=True, help="Sample format: f32, s16 or s32.")
@click.option("--channel-map", metavar="LIST", help="Record only these channels, by name or number: FL,FR or 1,2,7.")
@click.option("--silent-below", type=float, metavar="DB", help="Say that it is silent below this peak. Default: -60.")
@click.option("--silent-after", metavar="TIME", help="... for this long. Default: 30s.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@strict_option
@json_option
@click.pass_obj
def record(
    session: Session,
    arguments: tuple[str, ...],
    at: str | None,
    for_: str | None,
    until: str | None,
    midi: bool,
    sample_format: str,
    channel_map: str | None,
    silent_below: float | None,
    silent_after: str | None,
    force: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Record a device into a file: chaosctl record "USB Mic" take.wav --for 10s

    DEVICE is an identity, a name or a part of the description. Without it you are asked; if nobody can be asked, the
    default device is recorded. FILE's ending chooses its format (.wav, .flac, .mid ...); without FILE the
    file is named by the device and the time of its first frame; - writes samples to standard output as they come.

    It uses the chaosd that is running, or else records by itself. Either way there is a recording with its gap ledger;
    the file is saved from it, and if that fails the recording is still there.
    """
    take: Take | None = None
    with ExitStack() as asking:
        with _telling_what_is_left(lambda: take):
            name, out = device_and_file(arguments)
            if session.is_elsewhere:
                raise click.UsageError("record writes a file here, so chaosd must run here, too: see chaosctl start")
            times = chosen_times(at, for_, until, dt.datetime.now().astimezone())
            if times.seconds is not None and times.seconds < _SHORTEST_S:
                raise InvalidRequest(f"--for: {str(for_)!r} can't be used", hint=f"use {_SHORTEST_S:g}s or more")
            kind = "midi" if midi else "audio"
            wanted = _wanted(kind, sample_format, channel_map, silent_below, silent_after)
            if str(out) == "-":
                check_takes_samples()
            elif out is not None:
                _check_file(out, midi, force)
            with _asked(session) as (chaosd, store):
                device = chosen_device(chaosd, name, kind)
                is_exact = name is not None and name.startswith(("node:", "object:"))
                request = {"device_identity": name if is_exact else device["identity"], **wanted}
                if times.begin is not None:
                    request["start_at"] = wire(times.begin)
                ending = asking.enter_context(_until_asked())
                take = Take(chaosd, store, uri_for(device["description"] or device["name"]), ending, times)
                stopped = take.run(request, pipes=str(out) == "-" and not midi)
        # an engine of our own has ended, and its umask with it: the file is the person's
        finish(take, stopped, out, ending.breakable, force=force, strict=strict, as_json=as_json)


def _wanted(
    kind: str, sample_format: str, channel_map: str | None, silent_below: float | None, silent_after: str | None
) -> dict[str, Any]:
    """The fields of `stream_start` that are chosen by options. Raises InvalidRequest."""
    from chaos.terms.units import parse_duration_s

    wanted: dict[str, Any] = {"format": {"type": kind} | ({} if kind == "midi" else {"sample_format": sample_format})}
    if channel_map is not None:
        wanted["channel_map"] = [each.strip() for each in channel_map.split(",")]
    if silent_below is not None:
        wanted["silent_below_dbfs"] = silent_below
    if silent_after is not None:
        wanted["silent_after_s"] = parse_duration_s(silent_after)
    return wanted


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


def _check_file(out: Path, midi: bool, force: bool) -> None:
    """Refuses before the recording what could not be saved after it."""
    from chaos.export.file import checked_container
    from chaos.export.hidden import check_free

    try:
        container = checked_container(out, None, "mid" if midi else "wav")
    except InvalidRequest as error:  # its hint is of save, which has more options
        endings = MIDI_CONTAINERS if midi else AUDIO_CONTAINERS
        raise InvalidRequest(error.message, hint=f"use one of the endings .{', .'.join(endings)}") from None
    if (container in MIDI_CONTAINERS) != midi:
        hint = f"use one of .{', .'.join(MIDI_CONTAINERS)}" if midi else "add --midi to record MIDI"
        raise FormatUnsupported(f"{'MIDI' if midi else 'audio'} can't be saved as {container}", hint=hint)
    if not out.absolute().parent.is_dir():
        raise PathNotAllowed(f"there is no folder {out.absolute().parent}", hint="make it first")
    check_free(out, force)


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
def _telling_what_is_left(take: Callable[[], Take | None]) -> Iterator[None]:
    """Where Ctrl-C or an error ends the body says what there is of the take: an engine of our own has ended by then."""
    try:
        yield
    except KeyboardInterrupt:
        say(*broken_off_lines(take()), err=True)
        raise
    except ChaosError as error:
        if (begun := take()) is not None and (lines := left_lines_of(begun)):
            leave_with(error, lines)
        raise


@contextmanager
def _until_asked() -> Iterator[Ending]:
    """Has the signals ask for the end during the body."""
    ending = Ending()
    with on_end(ending.ask, signal.SIGINT):
        yield ending


def chosen_device(chaosd: Asking, name: str | None, kind: str) -> dict[str, Any]:
    """The device of that name; without one, which one the person chooses."""
    if name is not None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        device = target_device(chaosd, name, False, kind, _CHOOSE[kind])
        assert device is not None
        return device
    from chaos.cli.show import device_format

    found = list(chaosd.call("device_list", direction="input", format=kind)["devices"])
    if not found:
        return dict(target_device(chaosd, None, False, kind, _CHOOSE[kind]) or {})  # says that there is none
    for number, each in enumerate(found, 1):
        say(f"{number:3}  {each['description']}  ({device_format(each['format'])})", err=True)
    defaults = [number for number, each in enumerate(found, 1) if each["is_default"] and not each["is_monitor"]]
    number = click.prompt(
        "Record which one", type=WholeNumber(1, len(found)), default=defaults[0] if defaults else 1, err=True
    )
    return dict(found[number - 1])


COMMANDS = (record,)
