"""chaosctl's commands about the store: verify, save, recover, retire, pin, unpin."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click

from chaos.cli.session import (
    EXIT_BAD,
    EXIT_LOST,
    EXIT_STORAGE,
    Session,
    json_option,
    leave,
    print_json,
    range_options,
    strict_option,
)

__all__ = ["COMMANDS"]


def _store(session: Session) -> Path:
    with session.client_if_running() as chaosd:
        return session.store_of(chaosd).absolute()


@click.command()
@click.argument("what", metavar="URI|PATH")
@strict_option
@json_option
@click.pass_obj
def verify(session: Session, what: str, strict: bool, as_json: bool) -> None:
    """Check every chunk of a recording against its hash, and the account of its frames."""
    from chaos.cli.show import lost_frames, progress, verify_lines

    with progress("verifying") as advance:
        report = _verified(session, what, advance)
    if as_json:
        print_json(report)
    else:
        click.echo("\n".join(verify_lines(report)))
    if not report["ok"]:
        leave(EXIT_BAD)
    if strict and lost_frames(report):
        leave(EXIT_LOST)


def _verified(session: Session, what: str, advance: Callable[[int, int], None]) -> dict[str, Any]:
    """The daemon's own report of a recording it knows; else, or where somebody watches the progress, ours."""
    from chaos.terms.uri import check_uri

    if "://" not in what:
        path = Path(what)
    else:
        check_uri(what)
        with session.client_if_running() as chaosd:
            if chaosd is not None and session.store is None and not sys.stderr.isatty():
                return chaosd.call("verify", uri=what)
            store = session.store_of(chaosd)
        from chaos.store.info import recording_path

        path = recording_path(store, what)
    import msgspec

    from chaos.store.verify import verify as verify_here

    return dict(msgspec.to_builtins(verify_here(path, advance)))


@click.command()
@click.argument("whats", metavar="URI|PATH...", nargs=-1, required=True)
@click.argument("out", type=click.Path(path_type=Path, allow_dash=True))
@range_options
@click.option("--gaps", type=click.Choice(["zeros", "cut", "nan"]), default="zeros", show_default=True)
@click.option(
    "--container",
    type=click.Choice(["wav", "rf64", "flac", "raw"]),
    help="Left out: by OUT's ending; raw for -.",
)
@strict_option
@json_option
@click.pass_obj
def save(
    session: Session,
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

    from chaos.cli.show import progress, saved_lines
    from chaos.export.audio import save as save_file
    from chaos.export.audio import save_aligned, save_to
    from chaos.read.recording import open as open_recording
    from chaos.terms.units import parse_range

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
        leave(EXIT_LOST)


@click.command()
@click.option(
    "--staging-dir", metavar="DIR", type=click.Path(path_type=Path), help="Where chaosd kept its slots."
)
@json_option
@click.pass_obj
def recover(session: Session, staging_dir: Path | None, as_json: bool) -> None:
    """Finish what a chaosd that died has left; chaosd does so itself whenever it starts.

    What a running chaosd has is left alone. Exits with 6 when something could not be recovered.
    """
    import msgspec

    from chaos.protocol.config import Config
    from chaos.store.recovery import recover as recover_here

    report = recover_here(_store(session), (staging_dir or Config().staging_dir).absolute())
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        click.echo("\n".join(f"{item.outcome}: {item.text}" for item in report.items) or "nothing was left")
    if not report.ok:
        leave(EXIT_STORAGE)


@click.command()
@click.option("--keep", metavar="TIME|BYTES", help="7d, 12h or 200GB; left out: what was configured.")
@json_option
@click.pass_obj
def retire(session: Session, keep: str | None, as_json: bool) -> None:
    """Let the oldest audio of the store go; ledgers say what went, and pinned chunks stay."""
    from chaos.terms.units import parse_keep

    what = None if keep is None else parse_keep(keep)
    with session.client_if_running() as chaosd:
        if chaosd is not None and session.store is None:
            retired = chaosd.call("retire", **({} if keep is None else {"keep": keep}))["retired"]
        else:
            from chaos.store.retention import retire as retire_here

            found = retire_here(session.store_of(None).absolute(), what)
            retired = [each.to_wire() for each in found if not each.live]
    if as_json:
        print_json({"retired": retired})
        return
    for each in retired:
        click.echo(f"{each['uri']}: {each['chunks']} chunks, {each['n_frames']} frames, {each['n_bytes']} bytes")
    if not retired:
        click.echo("nothing was beyond that")


@click.command()
@click.argument("name")
@click.argument("uri")
@range_options
@json_option
@click.pass_obj
def pin(
    session: Session, name: str, uri: str, last: str | None, first: str, end: str, as_json: bool
) -> None:
    """Keep the chunks of a part of a recording, whatever retention says, until `unpin NAME`."""
    import msgspec

    from chaos.store.info import load, recording_path
    from chaos.store.retention import pin as pin_here
    from chaos.store.timeline import frame_of_moment
    from chaos.terms.units import parse_range

    store = _store(session)
    info = load(recording_path(store, uri))

    begin, stop = parse_range(last, first, end, info.n_frames, partial(frame_of_moment, info))
    made = pin_here(store, name, info, begin, stop)
    if as_json:
        print_json(msgspec.to_builtins(made))
    else:
        click.echo(f"{name}: {made.n_frames} frames of {uri} in {len(made.chunks)} chunks stay")


@click.command()
@click.argument("name")
@json_option
@click.pass_obj
def unpin(session: Session, name: str, as_json: bool) -> None:
    """Let retention have what NAME pinned."""
    from chaos.store.retention import unpin as unpin_here

    unpin_here(_store(session), name)
    if as_json:
        print_json({"unpinned": name})


COMMANDS = (verify, save, recover, retire, pin, unpin)
