"""chaosctl's commands about keys: who may reach this chaosd over the network, which chaosd this machine trusts, and
whose signatures."""

from __future__ import annotations

import click

from chaos.cli.out import say
from chaos.cli.session import Session, json_option, print_json

__all__ = ["COMMANDS"]


@click.group()
def keys() -> None:
    """Manage the keys for chaosd on another machine, and those that recordings are signed with.

    \b
    On both machines:      chaosctl keys new
    Where chaosd records:  chaosctl keys add laptop KEY-OF-THE-LAPTOP
                           chaosd --endpoint tcp://0.0.0.0:47800
    On the laptop:         chaosctl keys add --host recorder KEY-OF-THE-RECORDER
                           chaosctl --host recorder status
    \b
    To sign recordings:    chaosctl keys new --signing
                           chaosctl sign stream://desk/take
    To know the signer:    chaosctl keys add --signer newsroom KEY-OF-THE-SIGNER
                           chaosctl verify --signed stream://desk/take
    """


@keys.command()
@click.option("--signing", is_flag=True, help="A key to sign recordings with.")
@json_option
@click.pass_obj
def new(session: Session, signing: bool, as_json: bool) -> None:
    """Make this user's own key pair, and print the public key."""
    folder = session.signing_keys() if signing else session.keys()
    public = folder.make().public
    if as_json:
        print_json({"signing" if signing else "own": public})
        return
    say(public)
    say(f"The secret key is in {folder.folder} and must stay there.", err=True)


@keys.command()
@click.argument("name", required=False)
@click.argument("key", required=False)
@click.option("--host", metavar="HOST", help="Trust the chaosd on this host, instead of letting a client in.")
@click.option("--signer", metavar="NAME", help="Trust what this key has signed, instead of letting a client in.")
@json_option
@click.pass_obj
def add(
    session: Session, name: str | None, key: str | None, host: str | None, signer: str | None, as_json: bool
) -> None:
    """Let the client with this public key in, under a name of your choice."""
    if host is not None and signer is not None:
        raise click.UsageError("Use either --host or --signer.")
    if host is not None or signer is not None:
        name, key = signer or _without_port(host or ""), key or name
    if name is None or key is None:
        raise click.UsageError("Give NAME and KEY, --host HOST and KEY, or --signer NAME and KEY.")
    if signer is not None:
        session.signing_keys().add(name, key)
    else:
        session.keys().add(name, key, is_host=host is not None)
    if as_json:
        print_json({"name": name, "key": key})


@keys.command(name="list")
@json_option
@click.pass_obj
def list_(session: Session, as_json: bool) -> None:
    """List this user's public keys, the clients that are let in, and the hosts and signers that are trusted.

    What lies among them and can't be used is listed with the reason.
    """
    from chaos.terms.errors import Unauthorized

    folder = session.keys()
    try:
        own = folder.own().public
    except Unauthorized:
        if folder.has_own():
            raise
        own = None
    signing = session.signing_keys()
    to_sign = signing.own().public if signing.has_own() else None
    unused = [*folder.unused(), *signing.unused()]
    if as_json:
        known = {"own": own, "authorized": folder.authorized(), "hosts": folder.hosts()}
        others = {"signing": to_sign, "signers": signing.signers()}
        print_json({**known, **others, "unused": [each.to_wire() for each in unused]})
        return
    say(f"own         {own or 'none: make one with `chaosctl keys new`'}")
    for name, key in folder.authorized().items():
        say(f"authorized  {key}  {name}")
    for name, key in folder.hosts().items():
        say(f"host        {key}  {name}")
    if to_sign is not None:
        say(f"signing     {to_sign}")
    for name, key in signing.signers().items():
        say(f"signer      {key}  {name}")
    for each in unused:
        say(f"not used    {each.message} ({each.hint})")


@keys.command()
@click.argument("name", required=False)
@click.option("--host", metavar="HOST", help="Forget the key of this host.")
@click.option("--signer", metavar="NAME", help="Stop trusting this signer.")
@json_option
@click.pass_obj
def remove(session: Session, name: str | None, host: str | None, signer: str | None, as_json: bool) -> None:
    """Stop letting a client in. Its connections are closed at once."""
    wanted = signer or (_without_port(host) if host else name)
    if wanted is None or len([each for each in (signer, host, name) if each]) > 1:
        raise click.UsageError("Give NAME, --host HOST or --signer NAME.")
    if signer is not None:
        session.signing_keys().remove(signer)
    else:
        session.keys().remove(wanted, is_host=host is not None)
    if as_json:
        print_json({"name": wanted})


def _without_port(host: str) -> str:
    """As chaosctl --host looks it up: one key for all ports of a host."""
    from chaos.protocol.config import check_remote, remote_endpoint

    return check_remote(remote_endpoint(host))[0].strip("[]")


COMMANDS = (keys,)
