"""The takes of a stream: which recordings a URI stands for.

`stream://name/take` is the whole stream: its first take and those that went on from it, `take.0002` and so on.
`stream://name/take.0001` is the first take alone, `stream://name/take.0002` the second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from chaos.store.catalog import Catalog
from chaos.store.digest import Digest, read_digest
from chaos.store.store import Store, name_and_take
from chaos.terms.errors import InvalidRequest
from chaos.terms.ledger import Cause, Gap
from chaos.terms.uri import parse_uri

__all__ = ["Take", "take_paths", "take_uris", "takes_of"]

_NUMBER = re.compile(r"\.(\d{4,})")
_FIRST = ".0001"


class Take(NamedTuple):
    """A take on its stream's timeline: its frame 0 is the stream's `origin`. Before it `away` frames were not captured,
    since the engine was down."""

    path: Path
    digest: Digest
    origin: int
    away: int

    def gap(self) -> Gap | None:
        """The gap before the take."""
        if not self.away:
            return None
        return Gap(self.origin - self.away, self.away, Cause.ENGINE_DOWN, Cause.ENGINE_DOWN.confidence)


def take_paths(store: Store, uri: str) -> list[Path]:
    """The folders of the takes that a URI stands for, by number; that of the URI itself where there is none at all.

    Going by names alone: what began by itself under such a name is among them. Raises InvalidURI.
    """
    path = store.path(uri)
    name, take = parse_uri(uri)
    if take.endswith(_FIRST) and not path.exists():
        return [store.path(uri.removesuffix(_FIRST))]
    numbers = (_NUMBER.fullmatch(each[len(take) :]) for each in store.takes(name) if each.startswith(take))
    in_order = sorted(filter(None, numbers), key=lambda number: int(number[1]))
    later = [store.place(name, take + number[0]) for number in in_order]
    return [path, *later] if path.exists() or not later else later


def takes_of(store: Store, uri: str) -> list[Take]:
    """The takes that a URI stands for, on one timeline; the last one as far as its journal reaches.

    Raises RecordingNotFound, StorageFailed, InvalidURI, or InvalidRequest where they differ in format.
    """
    takes: list[Take] = []
    for path, digest in _members(store, take_paths(store, uri), uri):
        if not takes:
            takes.append(Take(path, digest, 0, 0))
            continue
        _check_alike(takes[0].digest, digest)
        away = _away(takes[-1].digest, digest)
        takes.append(Take(path, digest, takes[-1].origin + takes[-1].digest.n_frames + away, away))
    return takes


def take_uris(store: Store, uri: str) -> list[str]:
    """The takes that a URI stands for, in order, each by the URI that it was recorded under; formats may differ.

    Raises RecordingNotFound, StorageFailed or InvalidURI.
    """
    paths = take_paths(store, uri)
    if len(paths) > 1:
        paths = [path for path, _ in _members(store, paths, uri)]
    elif not paths[0].exists():
        store.existing(uri)
    return ["stream://{}/{}".format(*name_and_take(path)) for path in paths]


def _members(store: Store, paths: list[Path], uri: str) -> Iterator[tuple[Path, Digest]]:
    """Those that went on from one another; not what somebody began under such a name, and what went on from that."""
    known: dict[Path, Digest | None] = {}
    if len(paths) > 2:
        with Catalog(store) as catalog:
            known = {entry.path: entry.digest for entry in catalog.entries(uri=uri)}
    others: set[str] = set()
    for number, path in enumerate(paths):
        digest = known.get(path) or read_digest(path)
        before = digest.definition.continues or digest.definition.follows
        if number and (before is None or before in others):
            others.add(digest.definition.uri)
        else:
            yield path, digest


def _away(before: Digest, after: Digest) -> int:
    """For how many frames nothing was captured between two takes."""
    if after.definition.continues == before.definition.uri:
        return 0
    if after.definition.follows == before.definition.uri and after.definition.away_ns is not None:
        away_ns = after.definition.away_ns
    else:
        away_ns = after.definition.started_wall_ns - before.ended_wall_ns
    return max(0, away_ns * after.definition.sample_rate // 1_000_000_000)


def _check_alike(first: Digest, other: Digest) -> None:
    here, there = first.definition, other.definition
    one, two = ((each.channels, each.sample_rate, each.sample_format) for each in (here, there))
    if one != two:
        raise InvalidRequest(
            f"takes of {here.uri} differ in channels, rate or format: {one}, and {two} in {there.uri}",
            hint=f"open them one by one: {here.uri}{_FIRST}, {there.uri}",
        )
