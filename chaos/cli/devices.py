"""`chaosctl devices`: what can be captured and played to."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from chaos.cli.out import say, say_json
from chaos.cli.session import Session, json_option, print_json

if TYPE_CHECKING:
    from chaos.client import Asking

__all__ = ["COMMANDS"]


@click.command()
@click.option(
    "--direction",
    type=click.Choice(["input", "output"]),
    help="Show only devices to record from (input) or to play to (output).",
)
@click.option("--type", "kind", type=click.Choice(["audio", "midi"]), help="Show only audio or only MIDI devices.")
@click.option("--all", "with_programs", is_flag=True, help="Also list what programs play, JACK clients included.")
@click.option("--watch", is_flag=True, help="Keep running and show devices as they come and go, until Ctrl-C.")
@json_option
@click.pass_obj
def devices(
    session: Session, direction: str | None, kind: str | None, with_programs: bool, watch: bool, as_json: bool
) -> None:
    """List audio and MIDI devices. `*` marks the defaults.

    It asks the chaosd that runs, or else looks at PipeWire by itself. With --watch --json, one event per line is
    printed.
    """
    from chaos.cli.show import DEVICE_HEADERS, device_rows
    from chaos.cli.tables import table

    fields = (("direction", direction), ("format", kind), ("all", with_programs))
    asked: dict[str, object] = {name: value for name, value in fields if value}
    with session.looking() as chaosd:
        if watch:
            _watch_devices(chaosd, asked, as_json)
            return
        found = chaosd.call("device_list", **asked)
    if as_json:
        print_json(found)
    else:
        table(DEVICE_HEADERS, device_rows(found["devices"]))


def _watch_devices(chaosd: Asking, asked: dict[str, object], as_json: bool) -> None:
    from chaos.cli.show import DEVICE_HEADERS, device_rows, event_line
    from chaos.cli.tables import table, watching

    def rows() -> list[tuple[str, ...]]:
        return device_rows(chaosd.call("device_list", **asked)["devices"])

    def is_asked(device: Mapping[str, Any]) -> bool:
        said = {"direction": device["direction"], "format": device["format"]["type"]}
        return all(asked.get(name, value) == value for name, value in said.items())

    live = sys.stdout.isatty() and not as_json
    kinds = ("device_", "program_") if asked.get("all") else ("device_",)
    with chaosd.events(*kinds) as followed, watching(DEVICE_HEADERS) if live else nullcontext() as show:
        try:
            if show is not None:
                show(rows())
            elif not as_json:
                table(DEVICE_HEADERS, rows())
            for event in followed:
                if not is_asked(event["device"]):
                    continue
                if show is not None:
                    show(rows())
                else:
                    say_json(event, indent=None) if as_json else say(event_line(event))
        except KeyboardInterrupt:
            return


COMMANDS = (devices,)
