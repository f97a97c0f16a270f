"""chaosctl's commands about the daemon: ping, events, shutdown."""

from __future__ import annotations

import click

from chaos.cli.out import say, say_json
from chaos.cli.session import Session, json_option, print_json

__all__ = ["COMMANDS"]


@click.command()
@json_option
@click.pass_obj
def ping(session: Session, as_json: bool) -> None:
    """Check that chaosd is running."""
    with session.client() as chaosd:
        pong = chaosd.call("ping")
    if as_json:
        print_json(pong)
    else:
        say(
            f"{pong['name']} {pong['version']}, protocol {pong['protocol']}, process {pong['pid']},"
            f" up {pong['uptime_s']:.0f} s, run {pong['run_id']}"
        )


@click.command()
@click.argument("prefixes", metavar="[TOPIC]...", nargs=-1)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N events.")
@click.option(
    "--timeout", type=float, metavar="S", help="Give up, with exit code 7, when no event comes for S seconds."
)
@json_option
@click.pass_obj
def events(
    session: Session, prefixes: tuple[str, ...], count: int | None, timeout: float | None, as_json: bool
) -> None:
    """Print events as they happen, until Ctrl-C.

    With TOPICs, only events whose topic begins with one of them: `stream_gap`, `device_`.
    """
    from itertools import islice

    from chaos.cli.show import event_line

    with session.client() as chaosd, chaosd.events(*prefixes, timeout_s=timeout) as followed:
        try:
            for event in islice(followed, count):
                say_json(event, indent=None) if as_json else say(event_line(event))
        except KeyboardInterrupt:
            return


@click.command()
@json_option
@click.pass_obj
def shutdown(session: Session, as_json: bool) -> None:
    """Stop all streams, finish their recordings, and end chaosd."""
    with session.client() as chaosd:
        result = chaosd.call("shutdown")
    if as_json:
        print_json(result)


COMMANDS = (ping, events, shutdown)
