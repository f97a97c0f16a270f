"""chaosctl's commands about the daemon: ping, events, shutdown."""

from __future__ import annotations

from collections.abc import Sequence

import click

from chaos.cli.numbers import WholeNumber
from chaos.cli.out import say, say_json
from chaos.cli.session import Session, json_option, print_json

__all__ = ["COMMANDS", "without_heads"]

_MANY = ("stream_head_position", "stream_activity")


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
@click.option("--count", type=WholeNumber(min=1), metavar="N", help="Stop after N events.")
@click.option(
    "--timeout", type=float, metavar="S", help="Give up, with exit code 7, when no event comes for S seconds."
)
@click.option("--heads", is_flag=True, help="Also how far each stream has come, ten times a second.")
@json_option
@click.pass_obj
def events(
    session: Session, prefixes: tuple[str, ...], count: int | None, timeout: float | None, heads: bool, as_json: bool
) -> None:
    """Print events as they happen, until Ctrl-C; with --json each is a line.

    With TOPICs, only events whose topic begins with one of them: `stream_gap`, `device_`. Without --heads the events
    `stream_head_position` and `stream_activity` are left out, unless a TOPIC names them.
    """
    from itertools import islice

    from chaos.cli.show import event_line

    topics = prefixes if heads else without_heads(prefixes)
    with session.client() as chaosd, chaosd.events(*topics, timeout_s=timeout) as followed:
        try:
            for event in islice(followed, count):
                say_json(event, indent=None) if as_json else say(event_line(event))
        except KeyboardInterrupt:
            return


def without_heads(prefixes: Sequence[str]) -> list[str]:
    """The topics to subscribe to in place of these, so that chaosd need not tell what comes ten times a second.

    A prefix of several types of event becomes the others of them; one of a single type is meant as it is.
    """
    from chaos.protocol.events import EVENTS

    chosen: list[str] = []
    for prefix in prefixes or ("",):
        kinds = [kind for kind in EVENTS if kind.startswith(prefix)]
        chosen += [prefix] if len(kinds) < 2 else [kind for kind in kinds if kind not in _MANY]
    return chosen


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
