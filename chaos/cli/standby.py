"""chaosctl keep, and what `chaosctl save` means where the person names no stream or no file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chaos.cli.out import say
from chaos.cli.session import PickOne, Session, json_option, only_stream, print_json, running_streams
from chaos.terms.counting import counted
from chaos.terms.errors import RecordingNotFound, StreamNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chaos.client import Client
    from chaos.read.take import Recording

__all__ = ["COMMANDS", "keep_held", "mark_lines", "missing_lines", "named_by_itself", "what_and_where", "what_runs"]


@click.command()
@click.argument("uri", required=False)
@json_option
@click.pass_obj
def keep(session: Session, uri: str | None, as_json: bool) -> None:
    """Make a recording of what a stream in standby holds, from its oldest frame on, and go on recording.

    URI can be left out if only one stream is in standby. Start one with: chaosctl start --standby 60s
    """
    from chaos.cli.show import duration

    with session.client() as chaosd:
        held = [each["uri"] for each in chaosd.call("stream_list")["streams"] if _is_held(each)]
        uri = uri or _to_keep(chaosd, held)
        kept = chaosd.call("stream_keep", uri=uri)
    if as_json:
        print_json(kept)
    elif uri not in held:
        say(f"{uri} is already kept, and recording on", f"  stop it with: chaosctl stop {uri}")
    elif kept["recording"]:
        length = duration(kept["n_frames"], kept["sample_rate"])
        say(f"kept the last {length}, and recording on", *missing_lines(kept), *mark_lines(kept))
        say(f"  {kept['uri']}", f"  {kept['recording']}", f"  stop it with: chaosctl stop {kept['uri']}")
    else:
        say(f"{kept['uri']}: nothing has come yet; recording from the first frame on")


def missing_lines(kept: Mapping[str, Any]) -> list[str]:
    """How much of what was kept is missing."""
    from chaos.cli.show import lost

    n_lost = kept.get("lost_frames", 0)
    if not n_lost:
        return []
    if n_lost >= kept["n_frames"]:
        return ["  all of it is missing: nothing but gaps was held"]
    of_it, gaps = counted(n_lost, "frame"), counted(kept["n_gaps"], "gap")
    return [f"  {of_it}{lost(n_lost, kept['sample_rate'])} of it {'is' if n_lost == 1 else 'are'} missing, in {gaps}"]


def mark_lines(kept: Mapping[str, Any]) -> list[str]:
    """What has become of the marks that were set in standby."""
    n_marks, n_gone = kept.get("n_marks", 0), kept.get("n_marks_gone", 0)
    lines = [f"  {counted(n_marks, 'mark')} set in standby {'is' if n_marks == 1 else 'are'} in it"] if n_marks else []
    was = "was of a frame" if n_gone == 1 else "were of frames"
    return [*lines, *([f"  {counted(n_gone, 'mark')} {was} before that, and not kept"] if n_gone else [])]


def _is_held(stream: Mapping[str, Any]) -> bool:
    """Whether it can be kept: what a trigger holds becomes recordings by itself."""
    return stream.get("standby_s") is not None and stream.get("trigger") is None


def _to_keep(chaosd: Client, held: list[str]) -> str:
    """The only stream in standby, or the only one that runs, maybe kept already. Raises StreamNotFound, PickOne."""
    if len(held) > 1:
        raise PickOne(f"{len(held)} streams are in standby; pick one:", held)
    running = held or running_streams(chaosd)
    if len(running) != 1:
        raise StreamNotFound("no stream is in standby", hint="start one with: chaosctl start --standby 60s")
    return running[0]


def what_and_where(arguments: Sequence[str]) -> tuple[list[str], Path | None]:
    """The recordings and the file that `save` was given; no recording or None where they were left out."""
    if len(arguments) > 1:
        return list(arguments[:-1]), Path(arguments[-1])
    if not arguments:
        return [], None
    [one] = arguments
    return ([one], None) if "://" in one or (Path(one) / "zarr.json").exists() else ([], Path(one))


def what_runs(chaosd: Client | None) -> tuple[list[str], str | None]:
    """The only stream that runs; or the streams of the only session, and its name. Raises StreamNotFound, which says
    what to type."""
    if chaosd is None:
        raise StreamNotFound(
            "chaosd is not running: say which recording", hint="see what there is with: chaosctl list"
        )
    sessions = [each for each in chaosd.call("session_list")["sessions"] if each["running"]]
    streams = [each["uri"] for each in chaosd.call("stream_list")["streams"]]
    if len(sessions) == 1 and set(streams) <= set(sessions[0]["uris"]):
        return list(sessions[0]["uris"]), str(sessions[0]["session"])
    return [only_stream(chaosd)], None


def keep_held(chaosd: Client, whats: Sequence[str]) -> None:
    """Whatever of it is in standby becomes a recording now. Raises RecordingNotFound for a stream that records by
    level."""
    for stream in chaosd.call("stream_list")["streams"]:
        if stream["uri"] in whats and stream.get("trigger") is not None:
            raise RecordingNotFound(
                f"{stream['uri']} records by level: each take is a recording with a name of its own",
                hint="see them with: chaosctl list",
            )
        if stream["uri"] in whats and _is_held(stream):
            chaosd.call("stream_keep", uri=stream["uri"])
            say(f"{stream['uri']} was in standby: it is being recorded from now on", err=True)


def named_by_itself(
    recordings: Sequence[Recording], container: str | None, first_frame: int = 0, session: str | None = None
) -> Path:
    """A file here, or a folder for several, that isn't there yet.

    It is named by the device or the session, and the local time of `first_frame` of the first recording.
    """
    from chaos.terms.uri import parse_uri, slug

    definition = recordings[0].definition
    device = str(definition.device.get("description") or "")
    name = slug(device) if device else parse_uri(definition.uri)[0]
    ending = f".{container or ('mid' if definition.sample_format == 'midi' else 'wav')}"
    if len(recordings) > 1 or session is not None:
        name, ending = session or definition.session or name, ""
    begun = recordings[0].moment_of(first_frame).astimezone()
    stem = f"{name}-{begun:%Y%m%d-%H%M%S}"
    tries = (Path(f"{stem}{number}{ending}") for number in ("", *(f"-{k}" for k in range(2, 1000))))
    return next(path for path in tries if not path.exists())


COMMANDS = (keep,)
