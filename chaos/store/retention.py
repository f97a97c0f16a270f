"""Retention: the oldest sealed chunks go, the ledger says so, and what a pin names stays.

A retired chunk has a gap of cause retired in its recording's ledger, durable before its file goes; its frames
read as zeros, told as what they are. Its object goes with the last recording that refers to it. One retirer at a
time works on a store, and checks each recording's plan again once it has locked that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from chaos.store.age import Age, Clocks, Now, RecordingAge
from chaos.store.info import RecordingInfo, SealedChunk, load
from chaos.store.journal import JOURNAL_NAME, Journal
from chaos.store.kept import Kept, doubted, not_uploaded, pinned, unrecovered
from chaos.store.lines import GapLine
from chaos.store.metadata import write_metadata
from chaos.store.pins import RETENTION, pinned_hashes
from chaos.store.retired import gone_chunks, remove_chunks, remove_derived, remove_left, retired_gaps
from chaos.store.store import Store
from chaos.store.uploaded import Progress, Uploads
from chaos.terms.errors import ChaosError, InvalidRequest
from chaos.terms.ledger import Gap
from chaos.terms.units import Keep, parse_keep

if TYPE_CHECKING:
    from chaos.store.catalog import Catalog

__all__ = ["Retired", "collect", "limits", "plan", "retire"]

log = logging.getLogger(__name__)


class Retired(msgspec.Struct, frozen=True):
    """What was retired, or is to be, of one recording, and the gaps that come of it. `live`: its writer has to
    do it."""

    uri: str
    recording: str
    live: bool
    chunks: list[SealedChunk]
    gaps: list[Gap]
    n_frames: int
    n_bytes: int

    def to_wire(self) -> dict[str, Any]:
        """As the answer to `retire` has it: the number of the chunks instead of each."""
        return {**msgspec.to_builtins(self), "chunks": len(self.chunks), "gaps": [gap.to_wire() for gap in self.gaps]}


# ---- what is to go

class _Stored(msgspec.Struct, frozen=True):
    """A chunk that is there, when its last frame was captured and how long ago, and whether it has to stay, and whether
    for a pin."""

    info: RecordingInfo
    sealed: SealedChunk
    end_ns: int
    age: Age
    stays: bool
    is_pinned: bool
    is_awaited: bool  # by the object store

    @property
    def n_bytes(self) -> int:
        return self.info.definition.form.chunk_bytes


def plan(
    store: Store,
    keep: Keep | None,
    now: Now | None = None,
    on_kept: Callable[[Kept], object] | None = None,
    catalog: Catalog | None = None,
    *,
    afresh: bool = False,
) -> list[Retired]:
    """What is to be retired: by each recording's own `keep`, then by the store's. A size that a recording is to keep
    counts for all takes of its stream.

    The catalogue names the takes that something may go of, their journals say what. Recordings that are damaged, or
    whose writer died, are left out until they are recovered. A controller's files are its own, and never go. Where
    clocks contradict one another about a chunk's age it stays, and while upload is on what is not there yet.

    `on_kept` is told once for each recording why something of it stays. Of what waits nothing is told, and for some
    minutes it is not looked at; `afresh`, as for a person, everything is.
    """
    with (
        _opened(store, catalog) as catalog,
        closing(_Plan(store, catalog, now or Now.read(), afresh=afresh)) as made,
    ):
        planned = made.made(keep)
        if on_kept is not None:
            for each in made.kept():
                on_kept(each)
    return planned


def limits(catalog: Catalog) -> list[str]:
    """What recordings are to keep for themselves ("7d"), each once."""
    from chaos.store.due import Due

    return Due(catalog).keeps()


@contextmanager
def _opened(store: Store, catalog: Catalog | None) -> Iterator[Catalog]:
    from chaos.store.catalog import Catalog as Made  # SQLite is loaded where it is used

    with nullcontext(catalog) if catalog is not None else Made(store) as opened:
        yield opened


class _Plan:
    """One pass: which chunks go, by their recordings' own rules and by the store's."""

    def __init__(self, store: Store, catalog: Catalog, now: Now, *, afresh: bool) -> None:
        from chaos.store.due import Due

        self._store = store
        self._now = now
        self._catalog = catalog
        self._due = Due(catalog)
        self._afresh = afresh
        if afresh:
            self._due.wake()
        stand = self._due.least_stand_ns(now.boot_id)
        self._stands = [] if stand is None else [stand]
        self._pinned: set[str] | None = None
        self._uploads = Uploads(store)
        self._target = self._uploads.target
        self._awaited: dict[Path, Kept] = {}
        self._known: dict[Path, list[_Stored]] = {}
        self._doubts: dict[Path, Kept] = {}
        self._pins: dict[Path, tuple[str, set[str]]] = {}
        self._doomed: dict[Path, dict[int, _Stored]] = {}

    def made(self, keep: Keep | None) -> list[Retired]:
        for text in self._due.keeps():
            own = _own_keep(text)
            if own is not None:
                self._choose(own, text)
        if keep is not None:
            self._choose(keep, None)
        planned = []
        for path, stored in self._known.items():
            doomed = self._doomed.get(path, {})
            retired = _retired(stored[0].info, [each.sealed for each in doomed.values()]) if doomed else None
            if retired is not None and retired.chunks:
                planned.append(retired)
            elif retired is not None or all(each.stays for each in stored):
                self._due.wait([path], self._now)
            elif all(each.stays or each.age.doubt for each in stored):
                self._due.wait([path], self._now, only_by_age=True)
        return planned

    def kept(self) -> Iterator[Kept]:
        """Why something stays that was to go."""
        yield from self._doubts.values()
        yield from self._awaited.values()
        yield from pinned(self._store, self._pins)
        if self._afresh:
            yield from unrecovered(self._catalog.unchecked())

    def _choose(self, keep: Keep, own: str | None) -> None:
        if keep.seconds is not None:
            self._doom(keep, 0, self._due.older_than(int(keep.seconds * 1_000_000_000), self._now, own), own)
            return
        more, n_bytes = 0, keep.n_bytes or 0
        while True:  # where pins keep what was to go, younger takes are asked for, up to the youngest
            groups = self._due.beyond(n_bytes, self._now, own, more)
            short = 0
            for excess, paths in groups:
                short += self._doom(keep, excess - self._going(None if own is None else paths), paths, own)
            if short <= 0 or more >= n_bytes:
                return
            more = 2 * more + short

    def _going(self, paths: list[Path] | None) -> int:
        """Bytes that go already, of these recordings or of all."""
        chosen = self._doomed if paths is None else {path: self._doomed.get(path, {}) for path in paths}
        return sum(each.n_bytes for doomed in chosen.values() for each in doomed.values())

    def _doom(self, keep: Keep, excess: int, paths: list[Path], own: str | None) -> int:
        """How many of the bytes in excess can't go of these recordings; nothing goes by an `own` rule of a recording
        that doesn't say so itself, whatever the catalogue has."""
        stored = [each for path in paths for each in self._stored(path)]
        if own is not None:
            stored = [each for each in stored if each.info.definition.keep == own]
        stored.sort(key=lambda each: each.end_ns)
        left = [each for each in stored if each.sealed.chunk not in self._doomed.get(each.info.path, {})]
        for each in self._beyond(left, keep, excess):
            self._doomed.setdefault(each.info.path, {})[each.sealed.chunk] = each
            excess -= each.n_bytes
        return max(excess, 0)

    def _beyond(self, stored: list[_Stored], keep: Keep, excess: int) -> Iterator[_Stored]:
        """Those of `stored` (oldest first) that `keep` has no room for: what is too old, or `excess` bytes."""
        longest_ns = None if keep.seconds is None else int(keep.seconds * 1_000_000_000)
        for each in stored:
            path, uri = each.info.path, each.info.definition.uri
            if longest_ns is None:
                if excess <= 0:
                    return
            elif each.age.least_ns <= longest_ns:
                if each.age.doubt and longest_ns < each.age.most_ns and not each.stays:
                    self._doubts.setdefault(path, doubted(uri, path, each.age.doubt))
                continue
            if each.stays:
                if each.is_pinned:
                    self._pins.setdefault(path, (uri, set()))[1].add(each.sealed.hash)
                if each.is_awaited and self._target is not None:
                    self._awaited.setdefault(path, not_uploaded(uri, path, self._target))
                continue
            excess -= each.n_bytes
            yield each

    def _stored(self, path: Path) -> list[_Stored]:
        """What this recording holds, in order; nothing of one that nothing may go of now."""
        if path not in self._known:
            if self._pinned is None:
                self._pinned = pinned_hashes(self._store)
            found: list[_Stored] = []
            with suppress(ChaosError):
                info = load(path)
                if (info.is_live or info.finish) and not info.definition.external:
                    age = Clocks([info], self._now, self._stands).of(info)
                    found = list(_stored(info, self._pinned, age, self._upload_of(info)))
            if found:
                self._known[path] = found
            return found
        return self._known[path]


    def _upload_of(self, info: RecordingInfo) -> Progress | None:
        """How far it is uploaded; None where it need not be."""
        if self._target is None:
            return None
        known = self._uploads.progress(self._target, info.path, info.definition.started_wall_ns)
        return Progress(info.definition.started_wall_ns) if known is None else known

    def close(self) -> None:
        self._uploads.close()


def _own_keep(text: str) -> Keep | None:
    """What recordings are to keep for themselves; everything, where what they say of that makes no sense."""
    try:
        return parse_keep(text)
    except InvalidRequest as error:
        log.warning("%s; recordings that were to keep that keep everything", error.message)
        return None


def _recordings(store: Store) -> Iterator[RecordingInfo]:
    for info in store.infos():
        if (info.is_live or info.finish) and not info.definition.external:
            yield info


def _stored(
    info: RecordingInfo, hashes: set[str], age: RecordingAge, upload: Progress | None
) -> Iterator[_Stored]:
    gone = {sealed.chunk for sealed in gone_chunks(info)}
    for sealed in info.chunks:
        if sealed.chunk not in gone:
            # A gap that has not ended may have begun in the newest chunk of a live one.
            is_pinned = sealed.hash in hashes
            is_awaited = upload is not None and upload.awaits(sealed.chunk)
            stays = is_pinned or is_awaited or (info.is_live and sealed == info.chunks[-1])
            end = sealed.end_frame - 1
            yield _Stored(info, sealed, age.wall_ns(end), age.at(end), stays, is_pinned, is_awaited)


def _retired(info: RecordingInfo, chunks: list[SealedChunk]) -> Retired:
    """A chunk that lies wholly in gaps stays: it holds nothing, and no entry could tell of it."""
    chunks = sorted((each for each in chunks if retired_gaps([each], info.gaps)), key=lambda each: each.chunk)
    gaps = retired_gaps(chunks, info.gaps)
    n_frames = sum(sealed.n_frames for sealed in chunks)
    n_bytes = len(chunks) * info.definition.form.chunk_bytes
    return Retired(info.definition.uri, str(info.path), info.is_live, chunks, gaps, n_frames, n_bytes)


# ---- making it so

def retire(
    store: Store,
    keep: Keep | None,
    now: Now | None = None,
    on_kept: Callable[[Kept], object] | None = None,
    catalog: Catalog | None = None,
    *,
    afresh: bool = False,
) -> list[Retired]:
    """Retires what `plan` names of finished recordings, and answers with the plan: what it names of live ones
    their writers are to retire.

    Raises StorageFull or StorageFailed, and may then be called again.
    """
    if not store.root.is_dir():
        return []
    with store.locked(RETENTION), _opened(store, catalog) as catalog:
        for path in catalog.touched():
            with suppress(ChaosError):
                remove_left(store.objects, load(path))
                catalog.check([path])
        done = []
        for each in plan(store, keep, now, on_kept, catalog, afresh=afresh):
            if each.live:
                done.append(each)
                continue
            path = Path(each.recording)
            catalog.touch(path)
            done.append(_retire_finished(store, each))
            catalog.check([path])
        if not catalog.swept():
            store.objects.collect(pinned_hashes(store))
            catalog.swept(True)
    return [each for each in done if each.chunks]


def _retire_finished(store: Store, planned: Retired) -> Retired:
    """What of the plan still held once the recording was locked, and is done."""
    journal = Journal.reopen(Path(planned.recording) / JOURNAL_NAME)
    try:
        info = load(Path(planned.recording))
        gone = {sealed.chunk for sealed in gone_chunks(info)}
        retired = _retired(info, [each for each in planned.chunks if each.chunk not in gone])
        for gap in retired.gaps:
            journal.append(GapLine.of(gap))
        journal.flush()
        info.refresh()
        remove_derived(info, retired.chunks)
        remove_chunks(store.objects, retired.chunks)
        write_metadata(info, with_events=False)
    finally:
        journal.close()
    return msgspec.structs.replace(retired, live=False)


def collect(store: Store) -> int:
    """Removes what a retirement was interrupted at, and objects that nothing refers to; how many files."""
    with store.locked(RETENTION):
        return _collect(store)


def _collect(store: Store) -> int:
    n_removed = 0
    for info in _recordings(store):
        n_removed += remove_left(store.objects, info)
    return n_removed + store.objects.collect(pinned_hashes(store))
