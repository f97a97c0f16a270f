"""What a chaosd that died, or whose disk was full, has left in memory: takes whose last frames are in no recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from chaos.staging.layout import SUFFIX
from chaos.staging.reader import StagingReader
from chaos.store.about import About
from chaos.store.captures import is_in_use
from chaos.store.catalog import Catalog
from chaos.store.info import load
from chaos.store.store import Store
from chaos.system.machine import machine_id
from chaos.terms.errors import ChaosError, NotRecovered

__all__ = ["Unrecovered", "not_recovered", "unrecovered"]

_NEWEST = 16  # takes that are asked where chaosd kept its buffers


class Unrecovered(NamedTuple):
    """A take with frames that only its staging file has. `is_usual`: that lies where `chaosctl recover` looks."""

    uri: str
    session: str | None
    n_frames: int
    staging: Path
    is_usual: bool


def unrecovered(store: Store, staging_dir: Path) -> list[Unrecovered]:
    """Those of this store, by URI: in `staging_dir`, and where the newest takes had their buffers. Nothing is touched.

    What was in standby is none of them, nor what another machine left.
    """
    found = [
        each
        for folder in _folders(store, staging_dir)
        for path in folder.glob(f"*{SUFFIX}")
        for each in _left(store, path, is_usual=folder == staging_dir)
    ]
    return sorted(found)


def _folders(store: Store, staging_dir: Path) -> list[Path]:
    newest = []
    if store.root.is_dir():
        with Catalog(store) as catalog:
            newest = catalog.entries(limit=_NEWEST)
    told = (each.digest.definition.staging for each in newest if each.digest is not None)
    return list(dict.fromkeys([staging_dir, *(Path(path).parent for path in told if path)]))


def _left(store: Store, path: Path, *, is_usual: bool) -> Iterator[Unrecovered]:
    """One at most: nothing of a file that goes while we look, or is not a staging file of this version."""
    with suppress(OSError, ValueError, ChaosError), StagingReader(path) as staging:
        told = msgspec.json.decode(staging.about, type=About)
        is_ours = told.machine == machine_id() and Path(told.store).resolve() == store.root.resolve()
        if not is_ours or staging.is_standby or not staging.head_frame or is_in_use(path, staging.pid):
            return
        recording = store.path(staging.uri)
        if recording.exists() and load(recording).finish is not None:
            return
        if path.exists():
            yield Unrecovered(staging.uri, told.definition.session, staging.head_frame, path, is_usual)


def not_recovered(uris: Iterable[str], left: Sequence[Unrecovered] = ()) -> NotRecovered:
    """What is raised where these streams are asked for; `left` is what there is of them."""
    named = list(dict.fromkeys(uris))
    are = "are not recovered yet: chaosd died or could not store all of them"
    if len(named) == 1:
        are = "is not recovered yet: chaosd died or could not store all of it"
    folders = dict.fromkeys(str(each.staging.parent) for each in left if not each.is_usual)
    options = "".join(f" --staging-dir {folder}" for folder in list(folders)[:1])
    return NotRecovered(
        f"{', '.join(named)} {are}",
        hint=f"bring in what is left of it first: chaosctl recover{options} (or start chaosd, which does that, too)",
        details={"uris": named},
    )
