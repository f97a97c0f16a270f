"""chaosctl's commands about keys: who may reach this chaosd over the network, and which chaosd this machine trusts."""

from __future__ import annotations

import click

from chaos.cli.out import say
from chaos.cli.session import Session, json_option, print_json

__all__ = ["COMMANDS"]


@click.group()
def keys() -> None:
    """Manage the keys for chaosd on another machine.

    \b
    On both machines:      chaosctl keys new
    Where chaosd records:  chaosctl keys add laptop KEY-OF-THE-LAPTOP
                           chaosd --endpoint tcp://0.0.0.0:47800
    On the laptop:         chaosctl keys add --host recorder KEY-OF-THE-RECORDER
                           chaosctl --host recorder status
    """


@keys.command()
@json_option
@click.pass_obj
def new(session: Session, as_json: bool) -> None:
    """Make this machine's own key pair, and print the public key."""
    folder = session.keys()
    public = folder.make().public
    if as_json:
        print_json({"own": public})
        return
    say(public)
    say(f"The secret key is in {folder.folder} and must stay there.", err=True)


@keys.command()
@click.argument("name", required=False)
@click.argument("key", required=False)
@click.option("--host", metavar="HOST", help="Trust the chaosd on this host, in place of letting a client in.")
@json_option
@click.pass_obj
def add(session: Session, name: str | None, key: str | None, host: str | None, as_json: bool) -> None:
    """Let the client with this public key in, under a name of your choice."""
    if host is not None:
        name, key = host, key or name
    if name is None or key is None:
        raise click.UsageError("Give NAME and KEY, or --host HOST and KEY.")
    session.keys().add(name, key, is_host=host is not None)
    if as_json:
        print_json({"name": name, "key": key})


@keys.command(name="list")
@json_option
@click.pass_obj
def list_(session: Session, as_json: bool) -> None:
    """List this machine's public key, the clients that are let in, and the hosts that are trusted."""
    from chaos.terms.errors import Unauthorized

    folder = session.keys()
    try:
        own = folder.own().public
    except Unauthorized:
        if folder.has_own():
            raise
        own = None
    if as_json:
        print_json({"own": own, "authorized": folder.authorized(), "hosts": folder.hosts()})
        return
    say(f"own         {own or 'none: make one with `chaosctl keys new`'}")
    for name, key in folder.authorized().items():
        say(f"authorized  {key}  {name}")
    for name, key in folder.hosts().items():
        say(f"host        {key}  {name}")


@keys.command()
@click.argument("name", required=False)
@click.option("--host", metavar="HOST", help="Forget the key of this host.")
@json_option
@click.pass_obj
def remove(session: Session, name: str | None, host: str | None, as_json: bool) -> None:
    """Let a client in no longer. Its connections are closed at once."""
    wanted = host or name
    if wanted is None:
        raise click.UsageError("Give NAME, or --host HOST.")
    session.keys().remove(wanted, is_host=host is not None)
    if as_json:
        print_json({"name": wanted})


COMMANDS = (keys,)
