"""`chaosctl doctor`: whether this machine records without loss, and what to type where something is missing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chaos.cli.out import say
from chaos.cli.session import EXIT_BAD, EXIT_LOST, Session, ended_by_signals, json_option, leave, print_json
from chaos.terms.counting import counted

if TYPE_CHECKING:
    from chaos.cli.checkup import Checkup
    from chaos.client import Asking

__all__ = ["COMMANDS"]


@click.command()
@json_option
@click.pass_obj
def doctor(session: Session, as_json: bool) -> None:
    """Record two seconds as a trial, and say what is missing on this machine, each with the command that mends it.

    One line if all is well. It uses the chaosd that runs, else an engine of its own; the trial is deleted. Exit code 5
    if frames were lost, 8 if anything is missing.
    """
    from chaos.cli.checkup import checked

    session.refuse_host("doctor")
    if session.is_elsewhere:
        raise click.UsageError("doctor looks at this machine: run it on the one that records")
    with _asked(session) as (chaosd, store, pid):
        found = checked(chaosd, store, pid)
    if as_json:
        findings = [each._asdict() for each in found.findings]
        print_json({"ok": found.is_ok, "chaosd_runs": found.has_daemon, "account": found.account, "checks": findings})
    else:
        say(*_lines(found))
    if found.account is not None and found.account["lost_frames"]:
        leave(EXIT_LOST)
    if found.missing:
        leave(EXIT_BAD)


@contextmanager
def _asked(session: Session) -> Iterator[tuple[Asking, Path, int | None]]:
    """Who records; the store that recordings go to; the daemon's process. An engine of our own has a store beside the
    real one, on the same disk, for as long as this lasts."""
    with session.client_if_running() as client:
        if client is not None:
            yield client, Path(client.call("status")["store"]["path"]), int(client.call("ping")["pid"])
            return
    from chaos.local import Local
    from chaos.protocol.config import Config, absolute

    store = absolute(session.store or Config().store)
    folder = next(each for each in store.parents if each.is_dir())
    with (
        ended_by_signals(),
        tempfile.TemporaryDirectory(prefix=".chaos-doctor-", dir=folder) as trial,
        Local(Config(store=Path(trial) / "store")) as own,
    ):
        yield own, store, None


def _lines(found: Checkup) -> list[str]:
    account = _account(found.account)
    if found.is_ok:
        beside = {each.name: each.text for each in found.findings}
        told = f"PipeWire {beside['PipeWire']}, priority {beside['real-time priority']}, {beside['disk space']}"
        return [f"ok: {account}; {told}"]
    lines = [account]
    for each in found.missing:
        lines += [f"missing: {each.name}: {each.text}", *([f"  {each.command}"] if each.command else [])]
    lines += [f"not checked: {each.name}: {each.text}" for each in found.unchecked]
    fine = [each.name for each in found.findings if each.state == "ok"]
    return [*lines, f"fine: {', '.join(fine)}"] if fine else lines


def _account(account: dict[str, Any] | None) -> str:
    if account is None:
        return "nothing was recorded"
    from chaos.cli.show import dbfs

    early = account["unsettled_frames"]
    unsettled = f" ({early} before its clock was known to stand still)" if early else ""
    peak = "silent" if account["peak_dbfs"] is None else f"peak {dbfs(account['peak_dbfs'])} dBFS"
    return (
        f"{account['device']}, {account['seconds']:.1f} s at {account['sample_rate']} Hz: "
        f"{counted(account['n_frames'], 'frame')}, {counted(account['n_gaps'], 'gap')}, "
        f"{account['lost_frames']} lost{unsettled}, "
        f"{'verified' if account['verified'] else 'NOT as it was hashed'}, {peak}"
    )


COMMANDS = (doctor,)
