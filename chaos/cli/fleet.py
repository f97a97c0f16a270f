"""chaosctl's commands about what many recorders have uploaded: fleet index."""

from __future__ import annotations

import click

from chaos.cli.out import say
from chaos.cli.session import json_option, print_json
from chaos.terms.counting import counted

__all__ = ["COMMANDS"]


@click.group()
def fleet() -> None:
    """What many recorders have uploaded, as one data set."""


@fleet.command()
@click.argument("url", metavar="s3://BUCKET/PREFIX")
@click.option("--all", "whole", is_flag=True, help="Look at everything, also what is indexed, and mend the index.")
@json_option
def index(url: str, whole: bool, as_json: bool) -> None:
    """Keep the index of what recorders have uploaded below a URL, for chaos.fleet in Python.

    Takes in what is new since it last ran; run it from a timer, one at a time. It writes below PREFIX/.fleet: a table
    of takes in Parquet, and references to the recorders' objects, which are neither copied nor changed.

    A take that began over 32 days before the newest one and was uploaded only now (a recorder whose clock was wrong, a
    long outage) is found with --all. A part of the index that is lost or damaged is made anew with --all, too.
    """
    import msgspec

    from chaos.cli.tables import progress
    from chaos.recorders.index import LOOK_BACK_DAYS
    from chaos.recorders.index import index as index_all

    with progress("indexing") as advance:
        report = index_all(url, look_back_days=None if whole else LOOK_BACK_DAYS, progress=advance)
    if as_json:
        print_json(msgspec.to_builtins(report))
        return
    for where in report.unreadable:
        say(f"{where} can't be read, and is left out", err=True)
    for where in report.gone:
        say(f"{where}: the recording was finished and is not there any more", err=True)
    for day in report.mended:
        say(f"the index of {day} was damaged, and is made anew", err=True)
    for where in report.incomplete:
        say(f"{where}: the recording is not there yet; the next run looks again", err=True)
    say(
        f"{counted(report.n_recorders, 'recorder')}: {counted(report.n_new, 'new take')}, {report.n_grown} that went"
        f" on, {counted(report.n_references, 'new reference')}; {report.n_open} still open"
    )


COMMANDS = (fleet,)
