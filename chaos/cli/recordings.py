"""chaosctl's commands about recordings: verify, save, recover."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

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
from chaos.terms.containers import CONTAINERS, GAP_FILLS, Container, GapFill

__all__ = ["COMMANDS"]


@click.command()
@click.argument("what", metavar="URI|PATH")
@strict_option
@json_option
@click.pass_obj
def verify(session: Session, what: str, strict: bool, as_json: bool) -> None:
    """Check every chunk of a recording against its hash, and that every frame is accounted for."""
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
    """The daemon's report; without a daemon, or on a terminal (for the progress bar), our own."""
    from chaos.terms.uri import check_uri

    if "://" not in what:
        path = Path(what)
    else:
        check_uri(what)
        with session.client_if_running() as chaosd:
            if chaosd is not None and session.store is None and not sys.stderr.isatty():
                return chaosd.call("verify", uri=what)
            store = session.store_of(chaosd)
        from chaos.store.store import Store

        path = Store(store).path(what)
    import msgspec

    from chaos.store.verify import verify as verify_here

    return dict(msgspec.to_builtins(verify_here(path, advance)))


@click.command()
@click.argument("whats", metavar="URI|PATH...", nargs=-1, required=True)
@click.argument("out", type=click.Path(path_type=Path, allow_dash=True))
@range_options
@click.option(
    "--gaps",
    type=click.Choice(GAP_FILLS),
    default="zeros",
    show_default=True,
    help="What to put where frames are missing.",
)
@click.option(
    "--container",
    type=click.Choice(CONTAINERS),
    help="File type. Default: from the ending of OUT; raw for -.",
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
    gaps: GapFill,
    container: Container | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Save a recording, or part of it, as a sound file. This also works while it is being recorded.

    OUT can be - for standard output (interleaved samples). With several recordings, OUT is a folder: each becomes one
    file there, all aligned by their clocks. The range then refers to the first recording.
    """
    if last is not None and (first, end) != ("start", "head"):
        raise click.UsageError("use either --last, or --from and --to")
    if len(whats) > 1 and str(out) == "-":
        raise click.UsageError("several recordings need a folder as OUT, not -")
    import msgspec

    from chaos.cli.show import progress, saved_lines
    from chaos.export.save import save as save_file
    from chaos.export.save import save_aligned, save_to
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
    "--staging-dir", metavar="DIR", type=click.Path(path_type=Path), help="Directory of chaosd's capture buffers."
)
@json_option
@click.pass_obj
def recover(session: Session, staging_dir: Path | None, as_json: bool) -> None:
    """Recover recordings after chaosd crashed. chaosd also does this whenever it starts.

    Recordings of a running chaosd are not touched. Exits with code 6 if something could not be recovered.
    """
    import msgspec

    from chaos.protocol.config import Config
    from chaos.store.recovery import recover as recover_here
    from chaos.store.store import Store

    store = Store(session.store_folder())
    store.share()
    report = recover_here(store, (staging_dir or Config().staging_dir).absolute())
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        click.echo("\n".join(f"{item.outcome}: {item.text}" for item in report.items) or "Nothing to recover.")
    if not report.ok:
        leave(EXIT_STORAGE)


COMMANDS = (verify, save, recover)
