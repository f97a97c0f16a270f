"""What chaosctl's commands share: reaching the daemon and the store, options, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from chaos.client import Client

__all__ = [
    "EXIT_BAD",
    "EXIT_LOST",
    "EXIT_STORAGE",
    "Session",
    "json_option",
    "leave",
    "print_json",
    "range_options",
    "strict_option",
]

EXIT_LOST = 5
EXIT_STORAGE = 6
EXIT_BAD = 8

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Session:
    """The options before the command; None where they are left out."""

    endpoint: str | None
    events: str | None
    store: Path | None

    @contextmanager
    def client(self) -> Iterator[Client]:
        from chaos.client import Client

        with Client(self.endpoint, self.events) as client:
            yield client

    @contextmanager
    def client_if_running(self) -> Iterator[Client | None]:
        with self.client() as client:
            yield client if client.reachable() else None

    def store_of(self, client: Client | None) -> Path:
        """The folder of --store, else the running daemon's, else the default one."""
        if self.store is not None:
            return self.store
        if client is not None:
            return Path(client.call("status")["store"]["path"])
        from chaos.protocol.config import Config

        return Config().store

    def store_folder(self) -> Path:
        """The store's folder, absolute, whether or not a daemon runs."""
        with self.client_if_running() as client:
            return self.store_of(client).absolute()


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")(command)


def strict_option(command: F) -> F:
    return click.option("--strict", is_flag=True, help="Exit with code 5 if frames are missing.")(command)


def range_options(command: F) -> F:
    """--last, --from and --to as `last`, `first` and `end`, for `chaos.terms.units.parse_range`."""
    place = "Start of the range: a frame, 30s (from the start), -30s (from the end) or an RFC 3339 time."
    for option in (
        click.option(
            "--to",
            "end",
            default="head",
            metavar="PLACE",
            help="End of the range, in the same forms as --from (exclusive).",
        ),
        click.option("--from", "first", default="start", metavar="PLACE", help=place),
        click.option("--last", metavar="TIME", help="The last part of it: 30s, 5m, 1h."),
    ):
        command = option(command)
    return command


def print_json(result: Any) -> None:
    click.echo(json.dumps(result, indent=2, ensure_ascii=False))


def leave(code: int) -> NoReturn:
    """Ends the command with an exit code."""
    click.get_current_context().exit(code)
