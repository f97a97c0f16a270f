"""chaosctl completion: how a shell comes to complete chaosctl. What it then offers is in `chaos.cli.completing`."""

from __future__ import annotations

import click

from chaos.cli.out import say
from chaos.cli.session import json_option, print_json

__all__ = ["COMMANDS"]

_LINES = {
    "bash": ("# in ~/.bashrc:", 'eval "$(_CHAOSCTL_COMPLETE=bash_source chaosctl)"'),
    "zsh": ("# in ~/.zshrc, after compinit:", 'eval "$(_CHAOSCTL_COMPLETE=zsh_source chaosctl)"'),
    "fish": (
        "# in ~/.config/fish/completions/chaosctl.fish:",
        "_CHAOSCTL_COMPLETE=fish_source chaosctl | source",
    ),
}


@click.command()
@click.argument("shell", type=click.Choice(list(_LINES)))
@json_option
def completion(shell: str, as_json: bool) -> None:
    """Print the line that has your shell complete chaosctl's commands, streams, recordings and devices.

    For bash: chaosctl completion bash >> ~/.bashrc
    """
    if as_json:
        print_json({"shell": shell, "line": _LINES[shell][1]})
    else:
        say(*_LINES[shell], whole=True)


COMMANDS = (completion,)
