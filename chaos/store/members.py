"""Which streams a session has: all that its recordings name, and of which of them something was recorded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from chaos.store.catalog import Catalog, Entry
from chaos.terms.errors import SessionNotFound
from chaos.terms.uri import check_session

__all__ = ["Members", "is_take_of", "members_in", "members_of"]

_LATER = re.compile(r"\.\d{4,}")


class Members(NamedTuple):
    """`uris` are all streams, in the order in which they were started; of those in `recorded` there are takes."""

    uris: list[str]
    recorded: list[str]

    @property
    def missing(self) -> list[str]:
        return [uri for uri in self.uris if uri not in self.recorded]


def members_of(catalog: Catalog, name: str) -> Members:
    """Of a session that has recordings. Raises SessionNotFound, InvalidURI."""
    check_session(name)
    members = members_in(catalog.entries(session=name))
    if not members.recorded:
        raise SessionNotFound(f"there is no session {name}", hint="chaosctl session list shows all")
    return members


def members_in(entries: Sequence[Entry]) -> Members:
    """Of a session with these takes, as the catalogue has them."""
    digests = (entry.digest for entry in entries if entry.digest is not None)
    told = next((digest.definition.session_uris for digest in digests), None)
    uris = list(told or dict.fromkeys(entry.uri for entry in entries))
    return Members(uris, [uri for uri in uris if any(is_take_of(entry.uri, uri) for entry in entries)])


def is_take_of(take_uri: str, uri: str) -> bool:
    """Whether it is a take of the stream: the first, or one that the stream rolled into."""
    return take_uri == uri or (take_uri.startswith(uri) and _LATER.fullmatch(take_uri[len(uri) :]) is not None)

