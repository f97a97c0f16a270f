"""Shell completion: what a person may mean where a command takes a stream, a recording, a session or a device.

Whatever goes wrong here, nothing is offered and nothing is said: the person is typing.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.client import Client

__all__ = ["complete_by_name", "raw_word"]

_NEWEST = 50
_PATIENCE_S = 0.2  # a chaosd that hangs is not waited for

_Names = Callable[["_Asked"], Iterable[tuple[str, str]]]
"""Gives what can be meant, and what is said beside it."""

class _Asked:
    """Who is asked for names: the chaosd and the store that the command's options mean."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    def client(self) -> Client:
        """Raises DaemonUnreachable at once where none runs here, or it is another machine's."""
        from chaos.client import Client, DaemonUnreachable

        endpoint = self._options.get("endpoint")
        if self._options.get("host") or (endpoint or "").startswith("tcp://"):
            raise DaemonUnreachable("another machine is not asked while somebody types")
        return Client(endpoint, self._options.get("events"), timeout_s=_PATIENCE_S)

    def store(self) -> Path:
        from chaos.protocol.config import Config

        return self._options.get("store") or Config().store


def _streams(asked: _Asked) -> Iterator[tuple[str, str]]:
    with asked.client() as chaosd:
        for each in chaosd.call("stream_list")["streams"]:
            yield each["uri"], each["state"]


def _sessions(asked: _Asked) -> Iterator[tuple[str, str]]:
    with asked.client() as chaosd:
        for each in chaosd.call("session_list")["sessions"][:_NEWEST]:
            yield each["session"], "running" if each["running"] else "ended"


def _recordings(asked: _Asked) -> Iterator[tuple[str, str]]:
    from chaos.store.catalog import Catalog
    from chaos.store.store import Store

    store = Store(asked.store())
    if not store.root.is_dir():
        return
    with Catalog(store) as catalog:
        for entry in reversed(catalog.entries(limit=_NEWEST)):
            if entry.digest is not None:
                definition = entry.digest.definition
                yield definition.uri, str(definition.device.get("description") or "")


def _devices(asked: _Asked, kind: str | None = None) -> Iterator[tuple[str, str]]:
    chosen = {} if kind is None else {"format": kind}
    with asked.client() as chaosd:
        for each in chaosd.call("device_list", direction="input", **chosen)["devices"]:
            yield each["description"] or each["name"], each["identity"]


def _audio(asked: _Asked) -> Iterator[tuple[str, str]]:
    return _devices(asked, "audio")


def _midi(asked: _Asked) -> Iterator[tuple[str, str]]:
    return _devices(asked, "midi")


def _topics(_: _Asked) -> Iterator[tuple[str, str]]:
    from chaos.protocol.events import EVENTS

    return ((name, "") for name in EVENTS)


def _samples(_: _Asked) -> Iterator[tuple[str, str]]:
    from chaos.terms.formats import SAMPLES

    return ((name, each.data_type) for name, each in SAMPLES.items())


_OF_RUNNING = frozenset({"stop", "status", "keep", "accept-port"})
_BY_NAME: dict[str, tuple[_Names, ...]] = {
    "uri": (_streams, _recordings),
    "uris": (_streams, _recordings),
    "what": (_recordings,),
    "whats": (_recordings,),
    "target": (_devices,),
    "device": (_devices,),
    "audio": (_audio,),
    "midi": (_midi,),
    "prefixes": (_topics,),
    "sample_format": (_samples,),
}


def complete_by_name(group: click.Group) -> None:
    """Has the parameters of all its commands complete, each by its name: one that is called `uri` takes a URI."""
    for command in group.commands.values():
        if isinstance(command, click.Group):
            complete_by_name(command)
        for param in command.params:
            names = _names_for(group, command, param)
            if names and not isinstance(param.type, click.Choice) and not getattr(param, "is_flag", False):
                param.shell_complete = _completer(param, names)  # type: ignore[method-assign, assignment]


def _names_for(group: click.Group, command: click.Command, param: click.Parameter) -> tuple[_Names, ...]:
    name = param.name or ""
    if command.name == "start" and name == "uri":  # it must be a new one
        return ()
    if group.name == "session" and name == "name" and command.name != "start":
        return (_sessions,)
    if name == "uri" and command.name in _OF_RUNNING:
        return (_streams,)
    if name == "arguments":
        return (_devices,) if command.name == "record" else (_recordings,)
    return _BY_NAME.get(name, ())


def _completer(
    param: click.Parameter, names: tuple[_Names, ...]
) -> Callable[[click.Context, str], list[CompletionItem]]:
    is_file_too = re.search("PATH|FILE|OUT", str(param.metavar or "")) is not None

    def complete(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        asked = _Asked(ctx.find_root().params)
        found: dict[str, str] = {}
        for each in names:
            try:
                found |= {name: words for name, words in each(asked) if name not in found}
            except Exception:
                continue
        fitting = {name: words for name, words in found.items() if _fits(name, incomplete)}
        items = [CompletionItem(name, help=" ".join(words.split()) or None) for name, words in fitting.items()]
        if is_file_too:  # bash looks for files where nothing else fits
            items.append(CompletionItem(incomplete, type="file"))
        return items

    return complete


def _fits(name: str, incomplete: str) -> bool:
    return name.isprintable() and name.lower().startswith(incomplete.lower())


# -- bash, which splits words at colons, as in stream://

_BASH = """\
%(complete_func)s() {
    local response line type value
    response=$(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_BREAKS="$COMP_WORDBREAKS" \
%(complete_var)s=bash_complete "$1" 2>/dev/null)
    COMPREPLY=()
    while IFS= read -r line; do
        type=${line%%%%,*} value=${line#*,}
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done <<< "$response"
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


_IN_QUOTES = re.compile(r'[\\"$`!]')
_ESCAPED = r"\\\g<0>"


class _Bash(BashComplete):
    """Reads the line itself, and gives words as they are to stand there: quoted, without what bash keeps of them."""

    source_template = _BASH

    def source(self) -> str:
        return str(self.source_template % self.source_vars())

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ.get("COMP_LINE", "")
        words = split_arg_string(line)[1:]
        incomplete = words.pop() if raw_word(line) and words else ""
        return words, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        word, value = raw_word(os.environ.get("COMP_LINE", "")), str(item.value)
        if item.type != "plain" or word[:1] == "'":
            return f"{item.type},{value}"
        if word[:1] == '"':
            return f"plain,{re.sub(_IN_QUOTES, _ESCAPED, value)}"
        value = "".join(each if each == shlex.quote(each) else f"\\{each}" for each in value)
        kept = max((word.rfind(each) for each in os.environ.get("COMP_BREAKS", "") if each in ":="), default=-1)
        return f"plain,{value[kept + 1 :]}"


def raw_word(line: str) -> str:
    """The word at the end of a command line, with its quotes and backslashes; empty behind a blank."""
    start, quote, is_escaped = 0, "", False
    for at, each in enumerate(line):
        if is_escaped:
            is_escaped = False
        elif each == "\\" and quote != "'":
            is_escaped = True
        elif quote:
            quote = "" if each == quote else quote
        elif each in "'\"":
            quote = each
        elif each.isspace():
            start = at + 1
    return line[start:]


add_completion_class(_Bash)
