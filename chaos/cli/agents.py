"""chaosctl's command for agents: mcp."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

import click

from chaos.cli.out import say
from chaos.cli.session import Session
from chaos.terms.errors import InvalidRequest

__all__ = ["COMMANDS"]

_OF_SDK = frozenset({"mcp", "mcp_types", "anyio", "pydantic"})


@click.command()
@click.option(
    "--save-to",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path(),
    help="The only folder that files may be saved in. Default: where it is started.",
)
@click.option("--allow-delete", is_flag=True, help="Also offer what deletes recordings.")
@click.pass_obj
def mcp(session: Session, folder: Path, allow_delete: bool) -> None:
    """Offer chaosd to agents: tools and resources of the Model Context Protocol, over standard input and output.

    An agent's program starts it: docs/agents.md has what to write into its settings. First pip install 'chaosd[mcp]'.
    """
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _end)
    if sys.stdin is not None and sys.stdin.isatty():
        say(
            "chaosctl mcp is started by an agent's program, which talks to it in JSON over standard input and output",
            "  write into that program's settings: command chaosctl, arguments mcp (docs/agents.md); Ctrl-C ends it",
            err=True,
        )
    try:
        from chaos.agents.server import serve
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] not in _OF_SDK:
            raise
        raise InvalidRequest(
            "the library for agents is missing", hint="install it with: pip install 'chaosd[mcp]'"
        ) from None
    from chaos.agents.tools import Settings

    serve(Settings(session.endpoint, session.events, session.store, folder, allow_delete))


def _end(number: int, _: FrameType | None) -> None:
    """At once: the thread that reads standard input waits for a line that may never come."""
    os._exit(128 + number)


COMMANDS = (mcp,)
