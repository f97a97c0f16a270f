"""Why something stays that a limit has no room for, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from chaos.store.pins import pins

if TYPE_CHECKING:
    from chaos.store.catalog import Entry
    from chaos.store.store import Store

__all__ = ["Kept", "doubted", "not_uploaded", "pinned", "running", "unrecovered"]

Reason = Literal["doubt", "pinned", "running", "unrecovered", "not_uploaded"]


class Kept(msgspec.Struct, frozen=True):
    """A recording of which something stays. `reason`: "doubt" (clocks contradict one another about its age), "pinned"
    (or being saved), "running" (its writer alone may delete of it), "unrecovered" (damaged, or its writer died),
    "not_uploaded" (upload is on, and it is not there yet); `text` and `hint` are for people."""

    uri: str
    recording: str
    reason: Reason
    text: str
    hint: str


def doubted(uri: str, recording: Path, why: str) -> Kept:
    text = f"some of {uri} is not retired, since its age is in doubt: {why}"
    hint = f"retire by size instead (chaosctl retire --keep 200GB), or delete it: chaosctl rm {uri}"
    return Kept(uri, str(recording), "doubt", text, hint)


def pinned(store: Store, stays: dict[Path, tuple[str, set[str]]]) -> Iterator[Kept]:
    """`stays`: by recording its URI and the hashes of its chunks that a pin keeps, or a save."""
    known = [(pin.name, {span.hash for span in pin.chunks}) for pin in pins(store)] if stays else []
    for path, (uri, hashes) in stays.items():
        names = [name for name, of_pin in known if not hashes.isdisjoint(of_pin)]
        if names:
            text, hint = f"some of {uri} is pinned: {', '.join(names)}", f"chaosctl unpin {names[0]}"
        else:
            text, hint = f"some of {uri} is being saved by another program", "try again when that has ended"
        yield Kept(uri, str(path), "pinned", text, hint)


def not_uploaded(uri: str, recording: Path, target: str) -> Kept:
    text = f"some of {uri} is not retired, since it is not uploaded to {target} yet"
    return Kept(uri, str(recording), "not_uploaded", text, "chaosctl status says how the upload goes")


def running(uri: str, recording: str) -> Kept:
    text = f"{uri} is being recorded: only the chaosd that does can retire what is due of it"
    hint = "ask that one (chaosctl retire, without --store), or stop it first"
    return Kept(uri, recording, "running", text, hint)


def unrecovered(entries: Iterable[Entry]) -> Iterator[Kept]:
    """Those of the catalogue's entries of which nothing goes until they are recovered."""
    for entry in entries:
        if entry.state in ("damaged", "interrupted"):
            text = f"{entry.uri} is {entry.state} and not recovered: nothing of it is retired"
            yield Kept(entry.uri, str(entry.path), "unrecovered", text, "chaosctl recover")
