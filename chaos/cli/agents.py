"""chaosctl's command for agents: mcp."""

from __future__ import annotations

from pathlib import Path

import click

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


COMMANDS = (mcp,)
