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
from chaos.terms.counting import counted
from chaos.terms.errors import InvalidRequest
from chaos.terms.ledger import Cause, Gap
from chaos.terms.uri import parse_uri

__all__ = ["Take", "take_paths", "take_uris", "takes_of"]

_NUMBER = re.compile(r"\.(\d{4,})")
_FIRST = ".0001"
_MOST_NAMED = 6


class Take(NamedTuple):
    """A take on its stream's timeline: its frame 0 is the stream's `origin`. Before it `away` frames were not captured,
    since the engine was down or the device changed its format."""

    path: Path
    digest: Digest
    origin: int
    away: int

    def gap(self) -> Gap | None:
        """The gap before the take."""
        if not self.away:
            return None
        cause = Cause.ENGINE_DOWN if self.digest.definition.after_change is None else Cause.DEVICE_AWAY
        return Gap(self.origin - self.away, self.away, cause, cause.confidence)


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


def takes_of(store: Store, uri: str, *, alike: bool = True) -> list[Take]:
    """The takes that a URI stands for, on one timeline; the last one as far as its journal reaches.

    Where a stream has just rolled, that is the take before the newest until its last chunk is sealed: only then is it
    known at which frame the newest begins.

    Raises RecordingNotFound, StorageFailed, InvalidURI, or InvalidRequest where they differ in format: no array and no
    file has frames of two rates. Unless they are to be `alike`: then each one's frames count at its own rate.
    """
    takes: list[Take] = []
    members = list(_members(store, take_paths(store, uri), uri))
    if alike:
        _check_alike(uri, [digest for _, digest in members])
    for path, digest in members:
        if takes and takes[-1].digest.finish is None and digest.definition.continues == takes[-1].digest.definition.uri:
            break
        if not takes:
            takes.append(Take(path, digest, 0, 0))
            continue
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
        before = digest.definition.continues or digest.definition.follows or digest.definition.after_change
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
    elif after.definition.after_change == before.definition.uri:
        away_ns = after.definition.started_monotonic_ns - before.monotonic_ns(before.n_frames)
    else:
        away_ns = after.definition.started_wall_ns - before.ended_wall_ns
    return max(0, away_ns * after.definition.sample_rate // 1_000_000_000)


def _check_alike(uri: str, digests: list[Digest]) -> None:
    shapes = [each.definition for each in digests]
    formats = {(each.channels, each.sample_rate, each.sample_format): each for each in shapes}
    if len(formats) > 1:
        told = ", ".join(f"{counted(n, 'channel')} at {rate} Hz as {name}" for n, rate, name in formats)
        whole = parse_uri(uri)[1]
        singles = [each.uri + _FIRST if parse_uri(each.uri)[1] == whole else each.uri for each in shapes]
        more = "" if len(singles) <= _MOST_NAMED else f" and {len(singles) - _MOST_NAMED} more (chaosctl list {uri})"
        raise InvalidRequest(
            f"{uri} changed its format and has {len(singles)} takes: {told}",
            hint=f"name one of them: {', '.join(singles[:_MOST_NAMED])}{more}",
        )
