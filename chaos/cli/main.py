"""chaosctl: the client that people type. What needs time to import is imported where it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chaos import __version__
from chaos.cli import daemon as cli_daemon
from chaos.cli import store as cli_store
from chaos.cli import streams as cli_streams
from chaos.cli.session import Session
from chaos.terms.errors import ChaosError

__all__ = ["main"]


class _Commands(click.Group):
    """A group whose commands may raise ChaosError: told on stderr, and its exit code is the command's."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ChaosError as e:
            click.echo(f"chaosctl: {e.message}", err=True)
            if e.hint:
                click.echo(f"  {e.hint}", err=True)
            ctx.exit(e.exit_code)
        except KeyboardInterrupt:
            ctx.exit(130)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--endpoint", envvar="CHAOS_ENDPOINT", metavar="IPC", help="Where chaosd takes commands.")
@click.option("--events", envvar="CHAOS_EVENTS", metavar="IPC", help="Where chaosd tells events.")
@click.option(
    "--store",
    envvar="CHAOS_STORE",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where recordings lie.",
)
@click.version_option(__version__, prog_name="chaosctl")
@click.pass_context
def main(ctx: click.Context, endpoint: str | None, events: str | None, store: Path | None) -> None:
    """Record from PipeWire with chaosd, and account for every frame.

    Exit codes: 0 done, 1 internal error, 2 usage, 3 device, 4 format, 5 frames lost (--strict), 6 storage,
    7 chaosd or PipeWire not reachable, 8 verification failed.
    """
    ctx.obj = Session(endpoint, events, store)


for _command in (*cli_daemon.COMMANDS, *cli_streams.COMMANDS, *cli_store.COMMANDS):
    main.add_command(_command)
