"""What chaosctl's commands share: reaching the daemon and the store, options, exit codes."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from chaos.cli.out import say, say_json
from chaos.terms.errors import InvalidRequest, StorageFailed, StreamNotFound
from chaos.terms.visible import visible

if TYPE_CHECKING:
    from chaos.client import Asking, Client
    from chaos.system.keys import Keys
    from chaos.system.signing import SigningKeys
    from chaos.terms.places import Range, Timeline

__all__ = [
    "EXIT_BAD",
    "EXIT_LOST",
    "EXIT_STORAGE",
    "HEARD",
    "TYPED",
    "PickOne",
    "Session",
    "check_store",
    "chosen_range",
    "ended_by_signals",
    "json_option",
    "leave",
    "midi_instruments",
    "on_end",
    "only_stream",
    "print_json",
    "range_options",
    "running_streams",
    "strict_option",
    "whole",
]

EXIT_LOST = 5
EXIT_STORAGE = 6
EXIT_BAD = 8
TYPED = "chaos.typed"  # where the context keeps the words after chaosctl and its options

HEARD = "chaos.heard"  # where it keeps what chaosd said

F = TypeVar("F", bound=Callable[..., Any])


class PickOne(InvalidRequest):
    """Several could be meant. `lines` are the command as it was typed, once with each of `names` as its first argument,
    or as its `option`."""

    def __init__(self, message: str, names: Sequence[str], option: str | None = None) -> None:
        super().__init__(message)
        self.lines = _choices(names, option)


@dataclass(frozen=True)
class Session:
    """The options before the command; None where they are left out. With `host`, `endpoint` is that machine's; `hosts`
    are several of them, which few commands take."""

    endpoint: str | None
    events: str | None
    store: Path | None
    host: str | None = None
    hosts: tuple[str, ...] = ()

    def refuse_host(self, command: str) -> None:
        """For a command that acts on this machine alone."""
        if self.host is not None:
            raise click.UsageError(f"{command} acts on this machine: leave out --host (or CHAOS_HOST), or log in there")

    @property
    def is_elsewhere(self) -> bool:
        """Whether the chaosd that is meant runs on another machine."""
        return (self.endpoint or "").startswith("tcp://")

    def unclosed_client(self) -> Client:
        """One that its user closes, or that ends with the process."""
        from chaos.client import Client

        return Client(self.endpoint, self.events)

    @contextmanager
    def client(self) -> Iterator[Client]:
        with self.unclosed_client() as client:
            if (context := click.get_current_context(silent=True)) is not None:
                context.meta[HEARD] = client.heard
            yield client

    @contextmanager
    def client_if_running(self) -> Iterator[Client | None]:
        with self.client() as client:
            yield client if client.reachable() else None

    @contextmanager
    def looking(self) -> Iterator[Asking]:
        """The chaosd that runs, else an engine of our own: for what only looks at PipeWire. Nothing is left behind."""
        with self.client_if_running() as client:
            if client is not None:
                yield client
                return
        from tempfile import TemporaryDirectory

        from chaos.local import Local
        from chaos.protocol.config import Config, in_memory

        with ended_by_signals(), TemporaryDirectory(prefix="chaosctl-", dir=in_memory()) as folder:
            config = Config(store=Path(folder) / "store", staging_dir=Path(folder) / "staging")
            with Local(config) as own:
                yield own

    def store_of(self, client: Client | None) -> Path:
        """The folder of --store, else the running daemon's, else the default one, which need not be there yet.

        Raises StorageFailed for a --store that is not there: a mistyped one is not to pass for an empty one.
        """
        if self.store is not None:
            check_store(self.store)
            return self.store
        if client is not None:
            return Path(client.call("status")["store"]["path"])
        from chaos.protocol.config import Config

        return Config().store

    def keys(self) -> Keys:
        from chaos.system.keys import Keys

        return Keys()

    def signing_keys(self) -> SigningKeys:
        from chaos.system.signing import SigningKeys

        return SigningKeys()

    def store_folder(self) -> Path:
        """The store's folder, absolute, whether or not a daemon runs."""
        with self.client_if_running() as client:
            return self.store_of(client).absolute()


def check_store(folder: Path) -> None:
    """Raises StorageFailed where the folder that somebody has named is none."""
    if folder.is_dir():
        return
    what = "is not a folder" if folder.exists() else "is not there"
    raise StorageFailed(
        f"the store {visible(str(folder.absolute()))} {what}",
        hint="check --store (or CHAOS_STORE), and that its disk is mounted; chaosd and chaosctl record make a new one",
    )


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")(command)


def strict_option(command: F) -> F:
    return click.option("--strict", is_flag=True, help="Exit with code 5 if frames are missing.")(command)


def range_options(command: F) -> F:
    """--last, --from and --to as `last`, `first` and `end`, for `chaos.terms.places.parse_range`."""
    for option in (
        click.option("--to", "end", metavar="PLACE", help="End of the range, in the same forms as --from (exclusive)."),
        click.option(
            "--from",
            "first",
            metavar="PLACE",
            help="Start of the range: a frame (480000), a time from the start (30s) or before the end (-30s), a local"
            " time (14:05, yesterday 14:05, 2026-01-31T14:05) or one with a zone (2026-01-31T14:05:00Z)."
            " Default: where audio begins.",
        ),
        click.option("--last", metavar="TIME", help="The last part of it: 30s, 5m, 1h."),
    ):
        command = option(command)
    return command


def chosen_range(last: str | None, first: str | None, end: str | None, timeline: Timeline) -> Range:
    """What the range options mean; what the person should know of it is said on stderr."""
    from chaos.terms.places import parse_range

    chosen = parse_range(last, first, end, timeline)
    for note in chosen.notes:
        say(note, err=True)
    return chosen


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Has SIGTERM and SIGHUP end the body as Ctrl-C does, so that it can tidy up; not where nohup has it ignored."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    with on_end(end):
        yield


@contextmanager
def on_end(by: Callable[[int, Any], object], *more: signal.Signals) -> Iterator[None]:
    """Has `by` called for SIGTERM and SIGHUP during the body, where nobody has them ignored (nohup), and for `more`."""
    ends = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) != signal.SIG_IGN]
    before = {number: signal.signal(number, by) for number in (*more, *ends)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def print_json(result: Any) -> None:
    say_json(result)


def running_streams(chaosd: Client) -> list[str]:
    """The URIs of all streams that have not ended."""
    return [str(each["uri"]) for each in chaosd.call("stream_list")["streams"] if each["state"] != "stopped"]


def only_stream(chaosd: Client, option: str | None = None) -> str:
    """The URI of the one stream that runs. Raises StreamNotFound, or PickOne, where it is given as `option`."""
    uris = running_streams(chaosd)
    if len(uris) > 1:
        raise PickOne(f"{len(uris)} streams are running; pick one:", uris, option)
    if not uris:
        raise StreamNotFound("no stream is running", hint="start one with: chaosctl start")
    return uris[0]


def _choices(names: Sequence[str], option: str | None) -> list[str]:
    context = click.get_current_context()
    n_words = context.command_path.count(" ")  # of the command, after chaosctl
    typed = context.meta.get(TYPED, [])
    command, rest = typed[:n_words], typed[n_words:]
    return [
        shlex.join(["chaosctl", *command, *([name, *rest] if option is None else [*rest, option, name])])
        for name in names
    ]


def midi_instruments(chaosd: Asking) -> list[dict[str, Any]]:
    """The MIDI devices that can be recorded, but for ALSA's own port, which gives back what is sent to it."""
    found = chaosd.call("device_list", direction="input", format="midi")["devices"]
    return [device for device in found if not device["description"].startswith("Midi Through")]


def whole(stopped: Mapping[str, Any]) -> Mapping[str, Any]:
    """What has the figures of all takes of a stream that was stopped: frames, gaps, lost frames."""
    return stopped.get("total") or stopped


def leave(code: int) -> NoReturn:
    """Ends the command with an exit code."""
    click.get_current_context().exit(code)
