"""Recovery: what a dead daemon left, in staging and on disk, becomes a finished recording.

All frames that the callback had committed are sealed, down to the last one; what its notes tell of gaps and clock
goes into the ledger (see `completion`). A staging file is removed once all of it is durable, and never before. What a
living daemon is using is not touched (it holds locks on its files), nor what belongs to another store, machine or
version: that is reported and left alone.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from chaos import _layout
from chaos.staging.layout import MAGIC, SUFFIX
from chaos.staging.reader import StagingReader
from chaos.store.about import About, definition_of
from chaos.store.completion import Completion, Recovered
from chaos.store.info import RecordingInfo, load
from chaos.store.journal import JOURNAL_NAME, JournalReader
from chaos.store.metadata import rebuild_metadata
from chaos.store.objects import ObjectStore
from chaos.store.repair import load_repaired
from chaos.store.retired import gone_chunks, remove_left
from chaos.store.store import Store
from chaos.store.succession import forget_note, succeed
from chaos.store.verify import wrong_metadata
from chaos.store.writer import RecordingWriter
from chaos.system.files import IRREGULAR, open_regular, storage_errors
from chaos.system.machine import machine_id
from chaos.terms.counting import counted
from chaos.terms.errors import ChaosError, InvalidRequest

if TYPE_CHECKING:
    from chaos.store.catalog import Catalog

__all__ = ["Recovered", "RecoveryReport", "bring_in", "recheck", "recover"]

log = logging.getLogger(__name__)

HALF_MADE_AFTER_S = 60.0
_ABSURD = 1 << 62  # no frame of a real stream comes near


class RecoveryReport(msgspec.Struct, frozen=True):
    """`ok` says that nothing failed."""

    ok: bool
    items: list[Recovered]


def recover(store: Store, staging_dir: Path) -> RecoveryReport:
    """Brings in all that dead daemons left of this store, and looks at each recording's metadata.

    Calling it twice is harmless, even at the same time. Raises nothing for what it finds: each item's outcome is in the
    report.
    """
    from chaos.store.catalog import Catalog  # SQLite is loaded where it is used: chaosd answers before that

    with Catalog(store) as catalog:
        left, lagging = bring_in(store, staging_dir, catalog), recheck(catalog, everything=True)
    return RecoveryReport(left.ok and lagging.ok, [*left.items, *lagging.items])


def bring_in(store: Store, staging_dir: Path, catalog: Catalog) -> RecoveryReport:
    """The part of `recover` that captures wait for: what is in staging, and the takes that were never finished.

    The catalogue tells which those are, so that it takes no longer in a large store.
    """
    stagings = sorted(staging_dir.glob(f"*{SUFFIX}"))
    unfinished = [entry.path for entry in catalog.unchecked() if entry.state != "finished"]
    continued = frozenset(_continued_in(stagings))
    left = _Left(store, frozenset(stagings), lambda uri: uri in continued or catalog.is_continued(uri))
    items = [_guarded(path, partial(_from_staging, left, path)) for path in stagings]
    items += [_guarded(path, partial(_from_disk, left, path)) for path in unfinished]
    _sweep(store)
    return _report(items)


def recheck(catalog: Catalog, *, everything: bool = False) -> RecoveryReport:
    """The other part: rebuilds the metadata of finished recordings where it lags behind their journals, as after a
    power cut.

    Unless it is to be `everything`, those that were right once and haven't changed since are passed over.
    """
    catalog.audit()
    entries = catalog.entries() if everything else catalog.unchecked()
    paths = [entry.path for entry in entries if entry.state == "finished"]
    objects = catalog.store.objects
    items = [_guarded(path, partial(_right, objects, path)) for path in paths]
    is_right = [item is None or item.outcome != "failed" for item in items]
    catalog.check(compress(paths, is_right))
    return _report(items)


def _report(items: Iterable[Recovered | None]) -> RecoveryReport:
    found = [item for item in items if item is not None]
    return RecoveryReport(all(item.outcome != "failed" for item in found), found)


class _Left(msgspec.Struct, frozen=True):
    """What was left of a store: the staging files seen to first, and the takes that others went on from."""

    store: Store
    stagings: frozenset[Path]
    is_continued: Callable[[str], bool]


def _continued_in(stagings: Iterable[Path]) -> Iterator[str]:
    """The URIs of takes that have a neighbour there: for them the engine was not down after their last frame."""
    for path in stagings:
        with suppress(OSError, ValueError, ChaosError), StagingReader(path) as staging:
            definition = msgspec.json.decode(staging.about, type=About).definition
            if definition.continues is not None and staging.head_frame:
                yield definition.continues


def _guarded(path: Path, work: Callable[[], Recovered | None]) -> Recovered | None:
    """One item's recovery: whatever is wrong with it stops no other."""
    try:
        return work()
    except ChaosError as error:
        why = f"{error.message}; {error.hint}"
    except OSError as error:
        why = f"could not read {error.filename or path}: {error.strerror}"
    except Exception as error:
        log.exception("recovery of %s failed", path)
        why = f"it is damaged in an unknown way ({error})"
    is_staging = path.suffix == SUFFIX
    return Recovered(
        "failed",
        f"{path} could not be recovered: {why}",
        recording=None if is_staging else str(path),
        staging=str(path) if is_staging else None,
    )


# ---- from a staging file

@contextmanager
def _owned(path: Path) -> Iterator[bool]:
    """Holds the lock of a staging file; False while its daemon lives or another recovery is working on it."""
    fd = open_regular(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield os.fstat(fd).st_nlink > 0
    except BlockingIOError:
        yield False
    finally:
        os.close(fd)


def _from_staging(left: _Left, path: Path) -> Recovered | None:
    try:
        staging = StagingReader(path)
    except FileNotFoundError:
        return None
    except ChaosError as error:
        return _unreadable(path, error)
    with staging:
        try:
            told = msgspec.json.decode(staging.about, type=About)
        except ValueError:
            return _left("left", staging, "it does not say what it belongs to")
        if told.machine != machine_id():
            return _left("foreign", staging, "another machine made it; run chaosctl recover there")
        if Path(told.store).resolve() != left.store.root.resolve():
            lives = Path(f"/proc/{staging.pid}").exists()
            return None if lives else _left("foreign", staging, f"it belongs to the store {told.store}")
        with _owned(path) as owned:
            if not owned:
                return None
            item = _bring_in(left, staging, told)
            if item.outcome in ("recovered", "removed"):
                path.unlink()
            return item


def _is_damaged(path: Path) -> bool:
    """Whether no release of chaosd can read the file."""
    try:
        opened = open_regular(path)
    except OSError as error:
        if error.errno in IRREGULAR:
            return True
        raise
    with os.fdopen(opened, "rb") as file:
        magic, version = struct.unpack("<8sI", file.read(12).ljust(12, b"\0"))
    if magic == MAGIC and version != _layout.LAYOUT:
        return False
    try:
        StagingReader(path).close()
    except ChaosError:
        return True
    return False


def _unreadable(path: Path, error: ChaosError) -> Recovered | None:
    """A file that begins with zeros was being made; one of another version may hold frames."""
    with os.fdopen(open_regular(path), "rb") as file:
        is_half_made = not file.read(8).strip(b"\0")
    if not is_half_made:
        return Recovered("left", f"{error.message}; {error.hint}", staging=str(path))
    with _owned(path) as owned:
        if not owned or time.time() - path.stat().st_mtime < HALF_MADE_AFTER_S:
            return None
        path.unlink()
    return Recovered("removed", f"{path} was never completed and held nothing", staging=str(path))


def _left(outcome: Literal["left", "foreign"], staging: StagingReader, why: str) -> Recovered:
    text = f"{staging.path} was left as it is: {why}"
    return Recovered(outcome, text, uri=staging.uri, staging=str(staging.path))


def _bring_in(left: _Left, staging: StagingReader, told: About) -> Recovered:
    if staging.is_standby:
        text = f"{staging.uri} was in standby: what it held in memory is gone, and nobody had asked for it"
        if told.by_level:
            text = f"{staging.uri} recorded by level: what it held in memory is gone, and its takes are recordings"
        return Recovered("removed", text, staging.uri, staging=str(staging.path))
    store, uri, head, path = left.store, staging.uri, staging.head_frame, str(staging.path)
    stands, meant = staging.form, told.definition.form
    if head >= _ABSURD:
        return _left("left", staging, f"its control block is damaged: it claims {head} captured frames")
    if stands != meant:
        return _left("left", staging, f"its control block is damaged: it says {stands} instead of {meant}")
    target = store.path(uri)
    if not target.exists():
        if not head:
            return Recovered("removed", f"{uri} had not captured a frame", uri, staging=path)
        definition = succeed(store, definition_of(told, staging))
        writer = RecordingWriter.create(store, definition)
        if definition.follows is not None:
            forget_note(store, definition)
        info = load(target)
    else:
        info, _ = load_repaired(store.objects, target)
        if info.definition.run_id != staging.run_id:
            return _left("left", staging, f"another recording is at {target}; move it away and try again")
        if info.finish:
            n_frames = info.n_frames
            if n_frames < head:
                return _left("left", staging, f"it has {counted(head, 'frame')}, and {uri} is finished with {n_frames}")
            return Recovered("removed", f"all of {path} is in {target}", uri, str(target), path, n_frames)
        writer = RecordingWriter.reopen(store, target)
        info = writer.found or info
    try:
        return Completion(store, writer, info, left.is_continued(uri)).from_staging(staging, told)
    finally:
        writer.close()


# ---- from the disk alone

def _from_disk(left: _Left, path: Path) -> Recovered | None:
    info, repaired = load_repaired(left.store.objects, path)
    if info.is_live:
        return None
    if info.finish:
        return _righted(left.store.objects, info, repaired)
    staging = Path(info.definition.staging) if info.definition.staging else None
    if staging is not None and staging.exists():
        if not _is_damaged(staging):
            return None if staging in left.stagings else _from_staging(left, staging)
        remark = "its staging file can't be read, so what came after the last checkpoint is lost"
    else:
        remark = "its staging file is gone, so what came after the last checkpoint is lost"
    if info.definition.staging is None:
        remark = "it was a take by level, and ends at its last checkpoint: up to a second of it is lost"
    try:
        writer = RecordingWriter.reopen(left.store, path)
    except InvalidRequest:  # another recovery is working on it, or has just finished it
        return None
    info = writer.found or info
    try:
        completion = Completion(left.store, writer, info, left.is_continued(info.definition.uri))
        return completion.from_parts("; ".join([*repaired, remark]))
    finally:
        writer.close()


def _relink(objects: ObjectStore, info: RecordingInfo) -> int:
    """Brings back chunk files that are gone, where the object store has what their hash says; how many."""
    if info.definition.external:
        return 0
    gone = {sealed.chunk for sealed in gone_chunks(info)}
    missing = (each for each in info.chunks if each.chunk not in gone and not Path(each.path).exists())
    with storage_errors("bring back chunks of", info.path):
        return sum(objects.link(each.hash, Path(each.path)) for each in list(missing))


def _right(objects: ObjectStore, path: Path) -> Recovered | None:
    info, repaired = load_repaired(objects, path)
    if info.is_live:
        return None
    remove_left(objects, info)
    return _righted(objects, info, repaired)


def _righted(objects: ObjectStore, info: RecordingInfo, repaired: list[str]) -> Recovered | None:
    """A finished recording, with all that can be known of it from elsewhere."""
    n_linked, is_wrong, uri = _relink(objects, info), any(wrong_metadata(info)), info.definition.uri
    if is_wrong:
        rebuild_metadata(info.path)
    done = [*repaired, *([f"{counted(n_linked, 'chunk file')} came back from the objects"] if n_linked else [])]
    if done:
        text = "; ".join([f"{uri} was repaired", *done])
    elif is_wrong:
        text = f"{uri}: its metadata lagged behind its journal and was rebuilt from it"
    else:
        return None
    return Recovered("recovered", text, uri, str(info.path), n_frames=info.n_frames)


def _sweep(store: Store) -> None:
    """Removes recordings whose making broke off: they have no name yet and no frame."""
    for path in store.half_made():
        with suppress(OSError):
            is_old = time.time() - path.stat().st_mtime > HALF_MADE_AFTER_S
            if is_old and not JournalReader(path / JOURNAL_NAME).is_locked():
                shutil.rmtree(path)
