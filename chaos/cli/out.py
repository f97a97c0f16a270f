"""The one way in which chaosctl prints. Whatever others chose (a device's name, a path) can't act on the terminal."""

from __future__ import annotations

import json
import re
from typing import Any

import click

from chaos.terms.visible import visible

__all__ = ["json_text", "say", "say_json"]

_LINE = re.compile(r"[^\n]+")


def say(*lines: str, err: bool = False) -> None:
    """Prints each as one line, control characters made visible."""
    click.echo("\n".join(map(visible, lines)), err=err)


def say_json(value: Any, *, indent: int | None = 2, err: bool = False) -> None:
    """Prints it in UTF-8 whatever the locale: the escapes of another would not be JSON's."""
    click.echo(json_text(value, indent=indent).encode(errors="backslashreplace"), err=err)


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
