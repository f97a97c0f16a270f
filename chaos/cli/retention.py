"""chaosctl's commands about what stays in the store: retire, pin, unpin."""

from __future__ import annotations

from functools import partial

import click

from chaos.cli.session import Session, json_option, print_json, range_options

__all__ = ["COMMANDS"]


@click.command()
@click.option(
    "--keep", metavar="TIME|BYTES", help="What to keep: 7d, 12h or 200GB. Default: what chaosd was started with."
)
@json_option
@click.pass_obj
def retire(session: Session, keep: str | None, as_json: bool) -> None:
    """Delete the oldest audio in the store.

    What was deleted is listed in each recording's gaps (cause: retired). Pinned audio is kept.
    """
    from chaos.terms.units import parse_keep

    what = None if keep is None else parse_keep(keep)
    with session.client_if_running() as chaosd:
        if chaosd is not None and session.store is None:
            retired = chaosd.call("retire", **({} if keep is None else {"keep": keep}))["retired"]
        else:
            from chaos.store.retention import retire as retire_here
            from chaos.store.store import Store

            store = Store(session.store_of(None))
            store.share()
            found = retire_here(store, what)
            retired = [each.to_wire() for each in found if not each.live]
    if as_json:
        print_json({"retired": retired})
        return
    for each in retired:
        click.echo(f"{each['uri']}: {each['chunks']} chunks, {each['n_frames']} frames, {each['n_bytes']} bytes")
    if not retired:
        click.echo("Nothing to retire.")


@click.command()
@click.argument("name")
@click.argument("uri")
@range_options
@json_option
@click.pass_obj
def pin(session: Session, name: str, uri: str, last: str | None, first: str, end: str, as_json: bool) -> None:
    """Protect part of a recording from being retired, until `chaosctl unpin NAME`."""
    import msgspec

    from chaos.store.info import load
    from chaos.store.retention import pin as pin_here
    from chaos.store.store import Store
    from chaos.store.timeline import frame_of_moment
    from chaos.terms.units import parse_range

    store = Store(session.store_folder())
    store.share()
    info = load(store.path(uri))

    begin, stop = parse_range(last, first, end, info.n_frames, partial(frame_of_moment, info))
    made = pin_here(store, name, info, begin, stop)
    if as_json:
        print_json(msgspec.to_builtins(made))
    else:
        click.echo(f"{name}: {made.n_frames} frames of {uri} in {len(made.chunks)} chunks are pinned")


@click.command()
@click.argument("name")
@json_option
@click.pass_obj
def unpin(session: Session, name: str, as_json: bool) -> None:
    """Remove the pin NAME, so that its audio can be retired again."""
    from chaos.store.retention import unpin as unpin_here
    from chaos.store.store import Store

    unpin_here(Store(session.store_folder()), name)
    if as_json:
        print_json({"unpinned": name})


COMMANDS = (retire, pin, unpin)
