"""chaosctl's commands about the store: recover, retire, pin, unpin. `chaos.cli` adds them to the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from chaos.cli import _Session

__all__ = ["COMMANDS"]

EXIT_STORAGE = 6


def _print_json(result: Any) -> None:
    click.echo(json.dumps(result, indent=2, ensure_ascii=False))


def _store(session: _Session) -> Path:
    with session.client_if_running() as chaosd:
        return session.store_of(chaosd).absolute()


@click.command()
@click.option(
    "--staging-dir", metavar="DIR", type=click.Path(path_type=Path), help="Where chaosd kept its slots."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def recover(session: _Session, staging_dir: Path | None, as_json: bool) -> None:
    """Finish what a chaosd that died has left; chaosd does so itself whenever it starts.

    What a running chaosd has is left alone. Exits with 6 when something could not be recovered.
    """
    import msgspec

    from chaos.config import Config
    from chaos.recovery import recover as recover_here

    report = recover_here(_store(session), (staging_dir or Config().staging_dir).absolute())
    if as_json:
        _print_json(msgspec.to_builtins(report))
    else:
        click.echo("\n".join(f"{item.outcome}: {item.text}" for item in report.items) or "nothing was left")
    if not report.ok:
        click.get_current_context().exit(EXIT_STORAGE)


@click.command()
@click.option("--keep", metavar="TIME|BYTES", help="7d, 12h or 200GB; left out: what was configured.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def retire(session: _Session, keep: str | None, as_json: bool) -> None:
    """Let the oldest audio of the store go; ledgers say what went, and pinned chunks stay."""
    from chaos.units import parse_keep

    what = None if keep is None else parse_keep(keep)
    with session.client_if_running() as chaosd:
        if chaosd is not None and session.store is None:
            retired = chaosd.call("retire", **({} if keep is None else {"keep": keep}))["retired"]
        else:
            from chaos.retention import retire as retire_here

            found = retire_here(session.store_of(None).absolute(), what)
            retired = [each.to_wire() for each in found if not each.live]
    if as_json:
        _print_json({"retired": retired})
        return
    for each in retired:
        click.echo(f"{each['uri']}: {each['chunks']} chunks, {each['n_frames']} frames, {each['n_bytes']} bytes")
    if not retired:
        click.echo("nothing was beyond that")


@click.command()
@click.argument("name")
@click.argument("uri")
@click.option("--last", metavar="TIME", help="The last 30s, 5m or 1h.")
@click.option(
    "--from", "first", default="start", metavar="PLACE", help="A frame, 30s, -30s or an RFC 3339 time."
)
@click.option("--to", "end", default="head", metavar="PLACE", help="Likewise; not included.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def pin(
    session: _Session, name: str, uri: str, last: str | None, first: str, end: str, as_json: bool
) -> None:
    """Keep the chunks of a part of a recording, whatever retention says, until `unpin NAME`."""
    import datetime as dt

    import msgspec

    from chaos.info import load, recording_path
    from chaos.retention import pin as pin_here
    from chaos.timeline import frame_of_moment
    from chaos.units import parse_range

    store = _store(session)
    info = load(recording_path(store, uri))

    def frame_of(place: float | dt.datetime) -> int:
        if isinstance(place, dt.datetime):
            return frame_of_moment(info, place)
        return round(place * info.definition.sample_rate)

    begin, stop = parse_range(last, first, end, info.n_frames, frame_of)
    made = pin_here(store, name, info, begin, stop)
    if as_json:
        _print_json(msgspec.to_builtins(made))
    else:
        click.echo(f"{name}: {made.n_frames} frames of {uri} in {len(made.chunks)} chunks stay")


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def unpin(session: _Session, name: str, as_json: bool) -> None:
    """Let retention have what NAME pinned."""
    from chaos.retention import unpin as unpin_here

    unpin_here(_store(session), name)
    if as_json:
        _print_json({"unpinned": name})


COMMANDS = (recover, retire, pin, unpin)
