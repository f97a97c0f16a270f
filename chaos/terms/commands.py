"""A person's own command, as they write it in a line, and what is run of it. No shell ever sees it."""

from __future__ import annotations

import re
import shlex

from chaos.terms.errors import InvalidRequest

__all__ = ["command_for", "parse_command"]

_PLACES = re.compile(r"\{(path|uri)\}")
_ANY_PLACE = re.compile(r"(?<!\$)\{([A-Za-z_]\w*)\}")  # ${this} is a shell's
_HINT = "write it like: '/usr/local/bin/archive {path}'"


def parse_command(text: str) -> list[str]:
    """The program and its arguments, taken apart as a shell would, nothing replaced. Raises InvalidRequest, also for
    a {word} that is never filled in."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidRequest(f"{text[:80]!r} is not a command: {error}", hint=_HINT) from None
    if not words or not words[0] or "\0" in text:
        raise InvalidRequest(f"{text[:80]!r} is not a command", hint=_HINT)
    if "/" in words[0] and not words[0].startswith("/"):
        raise InvalidRequest(f"{words[0][:80]!r} is not an absolute path", hint="chaosd runs it from another folder")
    for word in words:
        for name in _ANY_PLACE.findall(word):
            if name not in ("path", "uri"):
                hint = "use {path}, {uri} or both; what needs other braces goes into a script of its own"
                raise InvalidRequest(f"nothing is filled in for {{{name[:80]}}}", hint=hint)
    if _PLACES.search(words[0]):
        raise InvalidRequest(f"the program itself can't be {words[0][:80]}", hint=_HINT)
    return words


def command_for(words: list[str], path: str, uri: str) -> list[str]:
    """`{path}` and `{uri}` in any argument are filled in; without either the path is the last argument."""
    values = {"path": path, "uri": uri}
    filled = [words[0], *(_PLACES.sub(lambda found: values[found[1]], word) for word in words[1:])]
    return filled if any(map(_PLACES.search, words[1:])) else [*filled, path]
