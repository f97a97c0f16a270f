"""The one way in which chaosctl prints. Whatever others chose (a device's name, a path) can't act on the terminal."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from contextlib import suppress
from typing import Any

import click

from chaos.cli.lines import columns_of, wrapped
from chaos.terms.errors import StorageFailed
from chaos.terms.visible import visible

__all__ = ["SAMPLES", "check_takes_samples", "json_text", "open_closed", "say", "say_heading", "say_json", "show"]

SAMPLES = "chaos.samples"  # set in the context where standard output takes samples and nothing else

_LINE = re.compile(r"[^\n]+")


class _Nowhere(io.TextIOWrapper):
    """Stands for a standard stream that was closed before we began (`>&-`): nobody wants what is printed there."""


def open_closed() -> None:
    """Has the standard streams that are closed take everything, and keeps their numbers from other files."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, _Nowhere(io.FileIO(os.devnull, "w")))


def check_takes_samples() -> None:
    """Raises StorageFailed where standard output is closed, UsageError where it is a terminal."""
    if isinstance(sys.stdout, _Nowhere):
        raise StorageFailed("standard output is closed", hint="redirect it to a file or a pipe, or name a file")
    if sys.stdout.isatty():
        raise click.UsageError("audio samples are not printed on a terminal: redirect the output, or name a file")
    if (context := click.get_current_context(silent=True)) is not None:
        context.meta[SAMPLES] = True


def say(*lines: str, err: bool = False, whole: bool = False) -> None:
    """Prints each as one line, control characters made visible. On a terminal those that are too long are broken at
    spaces, but not where they are text that somebody may copy into a file (`whole`)."""
    shown, stream = [visible(line) for line in lines], sys.stderr if err else sys.stdout
    if not whole and stream.isatty():
        width = columns_of(stream)
        shown = [part for line in shown for part in wrapped(line, width)]
    text = "\n".join(shown)
    if err:
        show(f"{text}\n")
    else:
        click.echo(text)


def show(text: str | bytes) -> None:
    """Writes to standard error at once. Where nobody can be told any more (its terminal is closed, its disk is full)
    nothing is, from then on: that is no reason to end what a command does."""
    try:
        click.echo(text, nl=False, err=True)
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def say_heading(line: str) -> None:
    """Prints it in bold, where the person has a terminal that can and wants it (NO_COLOR, TERM=dumb)."""
    has_style = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    click.echo(click.style(visible(line), bold=True) if has_style else visible(line))


def say_json(value: Any, *, indent: int | None = 2, err: bool = False) -> None:
    """Prints it in UTF-8 whatever the locale: the escapes of another would not be JSON's."""
    text = json_text(value, indent=indent).encode(errors="backslashreplace")
    if err:
        show(text + b"\n")
    else:
        click.echo(text)


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """JSON in readable characters; those that a terminal would act on are escaped as JSON has it."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _LINE.sub(lambda line: _escaped(line[0]), text)


def _escaped(line: str) -> str:
    if visible(line) == line:
        return line
    return "".join(
        # Outside of its strings JSON has no such character.
        each if visible(each) == each else json.dumps(each)[1:-1]
        for each in line
    )
