"""chaosctl's commands about the daemon and what it sees: devices, ping, events, shutdown."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from chaos.cli.session import Session, json_option, print_json

if TYPE_CHECKING:
    from chaos.client import Client

__all__ = ["COMMANDS"]


@click.command()
@click.option(
    "--direction",
    type=click.Choice(["input", "output"]),
    help="Only what can be captured (input) or played to.",
)
@click.option("--type", "kind", type=click.Choice(["audio", "midi"]), help="Only these.")
@click.option("--watch", is_flag=True, help="Go on and show what is plugged in and out, until Ctrl-C.")
@json_option
@click.pass_obj
def devices(session: Session, direction: str | None, kind: str | None, watch: bool, as_json: bool) -> None:
    """List devices; `*` marks a default one.

    With --watch and --json each event is a line.
    """
    from chaos.cli.show import DEVICE_HEADERS, device_rows, table

    asked = {name: value for name, value in (("direction", direction), ("format", kind)) if value}
    with session.client() as chaosd:
        if watch:
            _watch_devices(chaosd, asked, as_json)
            return
        found = chaosd.call("device_list", **asked)
    if as_json:
        print_json(found)
    else:
        table(DEVICE_HEADERS, device_rows(found["devices"]))


def _watch_devices(chaosd: Client, asked: dict[str, str], as_json: bool) -> None:
    from chaos.cli.show import DEVICE_HEADERS, device_rows, event_line, table, watching

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


@click.command()
@json_option
@click.pass_obj
def ping(session: Session, as_json: bool) -> None:
    """Ask whether chaosd answers."""
    with session.client() as chaosd:
        pong = chaosd.call("ping")
    if as_json:
        print_json(pong)
    else:
        click.echo(
            f"{pong['name']} {pong['version']}, protocol {pong['protocol']}, process {pong['pid']},"
            f" up {pong['uptime_s']:.0f} s, run {pong['run_id']}"
        )


@click.command()
@click.argument("prefixes", metavar="[TOPIC]...", nargs=-1)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N events.")
@click.option("--timeout", type=float, metavar="S", help="End with exit code 7 after a silence of S seconds.")
@json_option
@click.pass_obj
def events(
    session: Session, prefixes: tuple[str, ...], count: int | None, timeout: float | None, as_json: bool
) -> None:
    """Follow events, those whose topic begins with a TOPIC (`stream_gap`, `device_`), until Ctrl-C."""
    from itertools import islice

    from chaos.cli.show import event_line

    with session.client() as chaosd, chaosd.events(*prefixes, timeout_s=timeout) as followed:
        try:
            for event in islice(followed, count):
                click.echo(json.dumps(event, ensure_ascii=False) if as_json else event_line(event))
        except KeyboardInterrupt:
            return


@click.command()
@json_option
@click.pass_obj
def shutdown(session: Session, as_json: bool) -> None:
    """Stop every stream cleanly, then the daemon."""
    with session.client() as chaosd:
        result = chaosd.call("shutdown")
    if as_json:
        print_json(result)


COMMANDS = (devices, ping, events, shutdown)
