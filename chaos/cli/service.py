"""chaosctl's commands for a box that records by itself: config check, service install, uninstall and status."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from chaos.cli.out import say
from chaos.cli.session import Session, json_option, leave, print_json
from chaos.terms.errors import InvalidRequest

__all__ = ["COMMANDS"]

_NO_SYSTEMD = "systemd doesn't run for this user here"


@click.group()
@click.pass_obj
def config(session: Session) -> None:
    """The configuration file of chaosd (chaosd --config FILE)."""
    session.refuse_host("config")


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def check(file: Path, as_json: bool) -> None:
    """Check a configuration file: everything that is wrong, with its line. Exit code 2 if anything is.

    That is also what this user and this machine refuse: folders, sockets, an endpoint without keys.
    """
    from chaos.protocol.configfile import BadConfig, read_config
    from chaos.system.keys import Keys, default_folder

    try:
        found = read_config(file, default_folder() if Keys().has_own() else None)
    except BadConfig as error:
        if as_json:
            problems = [{"line": each.line, "message": each.message, "hint": each.hint} for each in error.problems]
            print_json({"ok": False, "file": str(error.path), "problems": problems})
        else:
            say(*error.lines(), err=True)
        leave(error.exit_code)
    if as_json:
        print_json({"ok": True, "file": str(found.path), "problems": [], "unchecked": ["devices"]})
    else:
        say(found.told())


@click.group()
@click.pass_obj
def service(session: Session) -> None:
    """Run chaosd as a service of systemd: it starts with the login, or with the machine, and again after a crash."""
    session.refuse_host("service")


@service.command()
@click.option("--config", "config_file", type=click.Path(path_type=Path), metavar="FILE", help="Passed on to chaosd.")
@click.option("--dry-run", is_flag=True, help="Show what would be written, and do nothing.")
@click.option("--force", is_flag=True, help="Replace a unit that somebody else wrote.")
@json_option
@click.pass_obj
def install(session: Session, config_file: Path | None, dry_run: bool, force: bool, as_json: bool) -> None:
    """Write a systemd user unit for chaosd, and start it. Shows what it writes.

    chaosctl's own options --store, --endpoint and --events are passed on to it.
    """
    from chaos.system.files import replace, storage_errors
    from chaos.system.unit import NAME, Systemd, has_linger, linger_command, unit_path, unit_text

    path, text = unit_path(), unit_text(_command(session, config_file))
    _check_ours(path, force)
    dropped = _dropped(path, text)
    done = []
    if not dry_run:
        with storage_errors("write", path, of_recordings=False):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, text.encode())
        systemd = Systemd.running()
        if systemd is not None:
            for words in (("daemon-reload",), ("enable", NAME), ("restart", NAME)):
                systemd.call(*words)
                done.append(f"systemctl --user {' '.join(words)}")
    state = "not written" if dry_run else "running" if done else "written"
    linger = has_linger()
    if as_json:
        print_json({"path": str(path), "unit": text, "state": state, "done": done, "linger": linger,
                    "dropped": dropped})  # fmt: skip
        return
    say(*text.splitlines(), whole=True)
    for name, value in dropped.items():
        say(f"# the unit before this one had {name} {shlex.quote(value)}: it is dropped")
    if dry_run:
        say(f"# this would be written to {path}")
        return
    say(f"# written to {path}", *(f"# done: {each}" for each in done))
    if not done:
        say(f"# {_NO_SYSTEMD}; where it does, start it with: systemctl --user enable --now {NAME}")
    if not linger:
        say(f"# it ends when you log out; to have it run from boot on, without a login: {linger_command()}")


@service.command()
@click.option("--force", is_flag=True, help="Remove a unit that somebody else wrote.")
@json_option
def uninstall(force: bool, as_json: bool) -> None:
    """Stop the service, and remove its unit. Recordings stay."""
    from chaos.system.files import storage_errors
    from chaos.system.unit import NAME, Systemd, unit_path

    path = unit_path()
    _check_ours(path, force)
    was_there, systemd = os.path.lexists(path), Systemd.running()
    if was_there:
        if systemd is not None:
            systemd.call("disable", "--now", NAME)
        with storage_errors("remove", path, of_recordings=False):
            path.unlink(missing_ok=True)
        if systemd is not None:
            systemd.call("daemon-reload")
    if as_json:
        print_json({"path": str(path), "removed": was_there})
    else:
        say(f"removed {path}" if was_there else f"there is no {path}")
        if was_there and systemd is None:
            say(f"  {_NO_SYSTEMD}, so nothing was stopped")


@service.command("status")
@json_option
@click.pass_obj
def service_status(session: Session, as_json: bool) -> None:
    """Whether the service is installed, runs, answers, and stays after a logout."""
    from chaos.system.unit import Systemd, has_linger, linger_command, unit_path

    path, systemd = unit_path(), Systemd.running()
    properties = systemd.properties() if systemd is not None else {}
    with session.client() as client:
        answers = client.reachable()
    told: dict[str, Any] = {
        "path": str(path),
        "installed": path.is_file(),
        "systemd": systemd is not None,
        "active": properties.get("ActiveState"),
        "enabled": properties.get("UnitFileState"),
        "status": properties.get("StatusText"),
        "chaosd_answers": answers,
        "linger": has_linger(),
    }
    if as_json:
        print_json(told)
        return
    if path.is_dir():
        say(f"unit       none: {path} is a folder; remove it, then: chaosctl service install")
    else:
        say(f"unit       {path}" if told["installed"] else "unit       none; write it with: chaosctl service install")
    if systemd is None:
        say(f"service    unknown: {_NO_SYSTEMD}")
    else:
        what = " ".join(filter(None, (told["active"], f"({properties.get('SubState')})", told["enabled"])))
        say(f"service    {what}", *([f"           {told['status']}"] if told["status"] else []))
    say("chaosd     answers" if answers else "chaosd     does not answer")
    say("linger     yes" if told["linger"] else f"linger     no: it ends with your login; {linger_command()}")


def _command(session: Session, config_file: Path | None) -> list[str]:
    """How chaosd is started: by this very Python, whatever PATH and folder the service has.

    Raises BadConfig, or InvalidRequest for settings that chaosd would not start with.
    """
    from chaos.protocol.config import absolute

    command = [sys.executable, "-P", "-m", "chaos.daemon"]
    settings: dict[str, Any] = {}
    if config_file is not None:
        from chaos.protocol.configfile import read_config

        found = read_config(config_file)
        settings |= found.settings
        command += ["--config", str(found.path)]
    store = None if session.store is None else str(absolute(session.store))
    for option, name, value in (
        ("--endpoint", "endpoint", session.endpoint),
        ("--events", "events_endpoint", session.events),
        ("--store", "store", store),
    ):
        if value is not None:
            command += [option, value]
            settings[name] = value
    _check_settings(settings)
    return command


def _check_settings(settings: dict[str, Any]) -> None:
    """Raises InvalidRequest for settings that can't work together, with the keys that this user has."""
    from chaos.protocol.config import Config
    from chaos.system.keys import Keys, default_folder

    Config(**({"keys": default_folder() if Keys().has_own() else None} | settings))


def _dropped(path: Path, text: str) -> dict[str, str]:
    """The options of the unit that was there, that the new one has not."""
    from chaos.system.files import read_regular
    from chaos.system.unit import is_ours, options_of

    try:
        before = read_regular(path, follow=True).decode(errors="replace")
    except OSError:
        return {}
    kept = options_of(text)
    return {name: value for name, value in options_of(before).items() if name not in kept} if is_ours(before) else {}


def _check_ours(path: Path, force: bool) -> None:
    """Raises InvalidRequest where something is there that may not be replaced or removed. A link may be, with --force:
    `systemctl mask` makes one."""
    from chaos.system.files import read_regular
    from chaos.system.unit import is_ours

    if path.is_dir() and not path.is_symlink():
        raise InvalidRequest(f"{path} is a folder, and a unit is a file", hint="move it away, then try again")
    if force or not os.path.lexists(path):
        return
    try:
        text = read_regular(path, follow=True).decode(errors="replace")
    except OSError as error:
        hint = "look at what is there, or add --force"
        raise InvalidRequest(f"can't read {path}: {error.strerror}", hint=hint) from None
    if not is_ours(text):
        raise InvalidRequest(f"{path} was not written by chaosctl", hint="keep it, or add --force")


COMMANDS = (config, service)
