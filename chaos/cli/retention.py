"""chaosctl's commands about what stays in the store and what goes: retire, rm, pin, unpin."""

from __future__ import annotations

import sys
from typing import Any

import click

from chaos.cli.out import say
from chaos.cli.session import Session, chosen_range, json_option, print_json, range_options
from chaos.terms.counting import counted

__all__ = ["COMMANDS"]


@click.command()
@click.option(
    "--keep",
    metavar="TIME|BYTES",
    help="What to keep: 7d, 12h, 90min or 200GB. Default: each stream's own --keep, and what chaosd was started with.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be deleted, and delete nothing.")
@click.option("--yes", is_flag=True, help="Don't ask, also on a terminal.")
@json_option
@click.pass_obj
def retire(session: Session, keep: str | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete the oldest audio in the store.

    On a terminal it shows what would go and asks. What was deleted is listed in each recording's gaps (cause: retired).
    Pinned audio is kept.
    """
    from chaos.cli.show import kept_lines, retired_lines, retired_total
    from chaos.terms.units import parse_keep

    if keep is not None:
        parse_keep(keep)
    asks = sys.stdin.isatty() and not (yes or dry_run or as_json)
    found = _retired(session, keep, dry_run=dry_run or asks)
    if asks and found["retired"]:
        say(*retired_lines(found["retired"]), *kept_lines(found))
        click.confirm("Delete this audio?", abort=True)
        found = _retired(session, keep, dry_run=False)
        say(retired_total(found["retired"], dry_run=dry_run))
    elif as_json:
        print_json(found)
    elif not found["retired"]:
        say(_nothing(found), *kept_lines(found))
    else:
        say(*retired_lines(found["retired"]), *kept_lines(found), retired_total(found["retired"], dry_run=dry_run))


def _nothing(found: dict[str, Any]) -> str:
    """Why nothing goes, as far as no recording of its own is the reason."""
    limits = list(dict.fromkeys(each for each in (found.get("keep"), *found.get("stream_keeps", ())) if each))
    if not limits:
        return "Nothing to retire: no limit is set. Say what to keep, for example: chaosctl retire --keep 7d"
    if found.get("kept"):
        return f"Nothing to retire (to keep: {', '.join(limits)}), but some is kept beyond that:"
    return f"Nothing to retire: all audio is within what is to be kept ({', '.join(limits)})."


def _retired(session: Session, keep: str | None, *, dry_run: bool) -> dict[str, Any]:
    """What was retired, or would be, and what stays: by the daemon, which does it for streams that run too, or by
    ourselves."""
    import msgspec

    from chaos.terms.units import parse_keep

    asked = {"keep": keep, "dry_run": dry_run or None}
    with session.client_if_running() as chaosd:
        if chaosd is not None and session.store is None:
            given = {name: value for name, value in asked.items() if value is not None}
            return chaosd.call("retire", **given)
        from chaos.store.catalog import Catalog
        from chaos.store.kept import Kept, running
        from chaos.store.retention import limits, plan
        from chaos.store.retention import retire as retire_here
        from chaos.store.store import Store

        store = Store(session.store_of(None))
        store.share()
        what = None if keep is None else parse_keep(keep)
        kept: list[Kept] = []
        if not store.root.is_dir():
            return {"retired": [], "kept": [], "keep": keep, "stream_keeps": []}
        with Catalog(store) as catalog:
            work = plan if dry_run else retire_here
            found = work(store, what, on_kept=kept.append, catalog=catalog, afresh=True)
            own = limits(catalog)
        retired = [each.to_wire() for each in found if not each.live]
        kept += [running(each.uri, each.recording) for each in found if each.live]
        return {"retired": retired, "kept": msgspec.to_builtins(kept), "keep": keep, "stream_keeps": own}


@click.command()
@click.argument("uris", metavar="URI...", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Show what would be deleted, and delete nothing.")
@click.option("--yes", is_flag=True, help="Don't ask. Needed where nobody can be asked.")
@json_option
@click.pass_obj
def rm(session: Session, uris: tuple[str, ...], dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete whole recordings. A stream's URI means all its takes; stream://NAME/TAKE.0001 and so on are single ones.

    It shows what would go and asks first. Recordings that are running, pinned or being saved are refused. Chunks that
    other recordings share with them stay.
    """
    import msgspec

    from chaos.cli.show import removal_lines, removal_total
    from chaos.store.removal import removable, remove
    from chaos.store.store import Store
    from chaos.store.takes import take_uris

    store = Store(session.store_folder())
    takes = list(dict.fromkeys(take for uri in uris for take in take_uris(store, uri)))
    found = [removable(store, take) for take in takes]
    if not as_json:
        say(*removal_lines(found))
    if not dry_run and not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nothing was deleted: there is nobody to ask; add --yes, or --dry-run to look only")
        click.confirm("Delete for good?", abort=True, err=as_json)
    # What is left when this is interrupted is the stream's beginning.
    gone = found if dry_run else [remove(store, take) for take in reversed(takes)]
    if not as_json:
        say(removal_total(gone, dry_run=dry_run))
    else:
        print_json({"removed": [] if dry_run else msgspec.to_builtins(found), "found": msgspec.to_builtins(found)})


@click.command()
@click.argument("name")
@click.argument("uri")
@range_options
@json_option
@click.pass_obj
def pin(session: Session, name: str, uri: str, last: str | None, first: str, end: str, as_json: bool) -> None:
    """Protect part of a recording from being retired, until `chaosctl unpin NAME`."""
    import msgspec

    from chaos.read.recording import open as open_recording
    from chaos.store.pins import pin as pin_here
    from chaos.store.store import Store
    from chaos.store.stretch import head_of
    from chaos.store.takes import takes_of
    from chaos.terms.places import Timeline

    store = Store(session.store_folder())
    store.share()
    n_frames = head_of(takes_of(store, uri))
    with open_recording(uri, store.root) as recording:
        timeline = Timeline(n_frames, recording.frame_of, recording.moment_of)
        begin, stop, _ = chosen_range(last, first, end, timeline)
    made = pin_here(store, name, uri, begin or 0, n_frames if stop is None else stop)
    if as_json:
        print_json(msgspec.to_builtins(made))
    else:
        frames, chunks = counted(made.n_frames, "frame"), counted(len(made.chunks), "chunk")
        say(f"{name}: {frames} of {uri} pinned, in {chunks}")
        if not made.chunks:
            say("  nothing is protected yet: a running stream seals a chunk every 10 s or so; pin it again then")


@click.command()
@click.argument("name")
@json_option
@click.pass_obj
def unpin(session: Session, name: str, as_json: bool) -> None:
    """Remove the pin NAME, so that its audio can be retired again."""
    from chaos.store.pins import unpin as unpin_here
    from chaos.store.store import Store

    unpin_here(Store(session.store_folder()), name)
    if as_json:
        print_json({"unpinned": name})


COMMANDS = (retire, rm, pin, unpin)
