"""Stream URIs: `stream://<name>/<take>`."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import TypeVar

from chaos.terms.errors import InvalidRequest, InvalidURI, StreamExists

__all__ = ["check_session", "check_uri", "make_uri", "next_free", "of_free", "parse_uri", "slug", "uri_by_time"]

_SCHEME = "stream://"
_T = TypeVar("_T")
_MAX_PART = 64
_MOST_TRIES = 100
_FOREIGN = re.compile(r"[^A-Za-z0-9._-]")
_SECRET = re.compile(r"(?<=://).*(?=@)|(?<=\?).+", re.DOTALL)
_NUMBER = re.compile(r"(?<![0-9.])[0-9]{1,4}$")  # neither a date nor one of a stream's takes (.0001)
_FORM = "stream://NAME/TAKE, each 1 to 64 of A-Z a-z 0-9 . _ -, not starting with a dot"


def parse_uri(text: str) -> tuple[str, str]:
    """The name and the take of a stream URI. Neither can leave a folder: no slash, no leading dot.

    Raises InvalidURI, which says what is wrong and shows the form.
    """
    if not text.startswith(_SCHEME):
        raise _invalid(text, f"it must start with {_SCHEME}")
    parts = text[len(_SCHEME) :].split("/")
    if len(parts) != 2:
        raise _invalid(text, f"it must have two parts, a name and a take, and has {len(parts)}")
    for what, part in zip(("name", "take"), parts, strict=True):
        if not part:
            raise _invalid(text, f"its {what} is empty")
        if len(part) > _MAX_PART:
            raise _invalid(text, f"its {what} has {len(part)} characters, more than {_MAX_PART}")
        if part.startswith("."):
            raise _invalid(text, f"its {what} starts with a dot")
        if foreign := _FOREIGN.search(part):
            raise _invalid(text, f"its {what} contains {foreign.group()!r}")
    return parts[0], parts[1]


def check_uri(text: str) -> str:
    """`text` itself, where it is a stream URI. Raises InvalidURI."""
    parse_uri(text)
    return text


def check_session(name: str) -> str:
    """`name` itself, where it can be a session's, and so a take's. Raises InvalidRequest."""
    try:
        parse_uri(f"{_SCHEME}x/{name}")
    except InvalidURI:
        shown = name if len(name) <= 200 else f"{name[:200]}..."
        hint = "use 1 to 64 of A-Z a-z 0-9 . _ -, not starting with a dot"
        raise InvalidRequest(f"{shown!r} can't be the name of a session", hint=hint) from None
    return name


def slug(text: str) -> str:
    """`text` (a device's description, say) as a URI part; "device" where nothing of it can stay."""
    words = re.sub(r"[^a-z0-9_]+", "-", text.lower())[:_MAX_PART]
    return words.strip("-._") or "device"


def make_uri(name: str, take: str) -> str:
    """The URI of a take. Raises InvalidURI."""
    return check_uri(f"{_SCHEME}{name}/{take}")


def uri_by_time(name: str | None) -> str:
    """The URI of a take that begins now, of a device of that description."""
    return make_uri(slug(name or ""), f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}")


def next_free(uri: str, is_taken: Callable[[str], bool]) -> str | None:
    """The same stream's next take, counted up from this one's number: take-2 after take-1. None after 1000 tries."""
    name, take = parse_uri(uri)
    match = _NUMBER.search(take)
    stem, digits = (take[: match.start()], match[0]) if match else (f"{take}-", "1")
    for number in range(int(digits) + 1, int(digits) + 1001):
        other = f"{stem}{number:0{len(digits)}}"
        if len(other) > _MAX_PART:
            return None
        if not is_taken(found := make_uri(name, other)):
            return found
    return None


def of_free(uri: str, start: Callable[[str], _T]) -> _T:
    """What `start` gives of this URI, which nobody has chosen, or of the next one after it that isn't taken: somebody
    else may have begun in the same second. `start` raises StreamExists for one that is taken, as this does in the end.
    """
    for _ in range(_MOST_TRIES):
        try:
            return start(uri)
        except StreamExists:
            free = next_free(uri, lambda _: False)
            if free is None:
                raise
            uri = free
    return start(uri)


def _invalid(text: str, why: str) -> InvalidURI:
    shown = _SECRET.sub("...", text)  # it may be the URL of something else
    shown = shown if len(shown) <= 200 else f"{shown[:200]}..."
    return InvalidURI(f"{shown!r} is not a stream URI: {why}", hint=f"use {_FORM}")
