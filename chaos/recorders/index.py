"""`chaosctl fleet index`: takes what recorders have uploaded since into the table and the references. One job does it.

It looks at the entries of takes that began within `look_back_days` of the newest that it knows, and at those that went
on at its last look: so a day costs as the first did. Each step can be made again. The references are committed first,
then a day's table is replaced, then `index.json`; a job that is killed leaves what the next one takes in once more.
A day whose table is lost or damaged is made anew from its entries; with all looked at its repository is, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from chaos.recorders.days import Day, Looked
from chaos.recorders.table import (
    IndexDamaged,
    Row,
    State,
    day_of,
    days_in,
    needs_fleet,
    read_day,
    read_state,
    write_day,
    write_state,
)
from chaos.remote.bucket import Bucket, KeyMissing
from chaos.remote.layout import CLAIM, TAKES, TakeEntry, started_text
from chaos.store.documents import TABLE_ROWS, columns_like, table_rows
from chaos.store.lines import Definition
from chaos.terms.errors import InvalidRequest, RecordingNotFound
from chaos.terms.ledger import Gap

__all__ = ["LOOK_BACK_DAYS", "IndexReport", "index"]

LOOK_BACK_DAYS = 32
_DAY_NS = 86_400 * 1_000_000_000
_THREADS = 16
_BATCH = 32
_REFERRED = ("audio", "gaps", "clock")


class IndexReport(msgspec.Struct, frozen=True):
    """What was taken in: takes that are new, those that went on, new references; `days` were written. `unreadable` are
    the entries that make no sense, `incomplete` those of takes whose group is not there yet: the next job looks again;
    `gone` those of takes that were finished and are not there any more. `mended` are the days that were made anew,
    whose takes don't count as new. `requests` are those of ours, not icechunk's."""

    url: str
    n_recorders: int
    n_new: int
    n_grown: int
    n_references: int
    n_open: int
    days: list[str]
    unreadable: list[str]
    incomplete: list[str]
    gone: list[str]
    mended: list[str]
    requests: dict[str, int]


class _Found(NamedTuple):
    key: str
    take: Looked | None
    is_readable: bool = True
    is_gone: bool = False


def index(
    url: str, *, look_back_days: int | None = LOOK_BACK_DAYS, progress: Callable[[int, int], None] | None = None
) -> IndexReport:
    """Takes in what is new below `url`, the prefix of all recorders; with `look_back_days` None it looks at all there
    is, also at what it knows, and checks the index itself.

    Raises InvalidRequest (a recorder's own prefix, a scheme that can't be indexed, no icechunk), RecordingNotFound
    where no recorder has uploaded anything, StorageFailed and Unauthorized; it may be called again.
    """
    bucket = Bucket(url)
    try:
        Day(bucket.url, "1970-01-01")
    except ImportError as error:
        raise needs_fleet(error) from None
    recorders = _recorders(bucket)
    is_whole = look_back_days is None
    state = _state(bucket, is_whole)
    newest_ns = min(state.newest_ns, time.time_ns())  # a recorder's clock may be years ahead
    since_ns = 0 if look_back_days is None else max(0, newest_ns - look_back_days * _DAY_NS)
    since_ns -= since_ns % _DAY_NS  # days as a whole: one may have to be made anew
    goes_on, damaged = _known(bucket, state, newest_ns, since_ns, is_whole)
    found, written = [], _Written(bucket, state, damaged, is_whole)
    with ThreadPoolExecutor(_THREADS, "look") as pool:
        listed = pool.map(lambda recorder: list(_entries(bucket, recorder, since_ns)), recorders)
        new = {key for of_one in listed for key in of_one if key not in goes_on}
        keys = sorted(new | set(state.open) | {key for key, goes in goes_on.items() if goes or is_whole})
        for number, each in enumerate(pool.map(lambda key: _look(bucket, key), keys)):
            found.append(each)
            if progress is not None:
                progress(number + 1, len(keys))
    takes = sorted((each.take for each in found if each.take), key=lambda take: take.row.day)
    for day, of_day in groupby(takes, key=lambda take: take.row.day):
        written.day(day, list(of_day))
    written.rest()
    state.open = [each.key for each in found if each.is_readable and not each.is_gone
                  and (each.take is None or each.take.row.state == "recording")]  # fmt: skip
    write_state(bucket, state)
    return IndexReport(
        url=bucket.url,
        n_recorders=len(recorders),
        n_new=written.n_new,
        n_grown=written.n_grown,
        n_references=written.n_references,
        n_open=len(state.open),
        days=written.days,
        unreadable=[bucket.url_of(each.key) for each in found if not each.is_readable],
        incomplete=[bucket.url_of(each.key) for each in found
                    if each.is_readable and each.take is None and not each.is_gone],
        gone=[bucket.url_of(each.key) for each in found if each.is_gone],
        mended=sorted(damaged),
        requests={str(kind): number for kind, number in bucket.counts.items()},
    )  # fmt: skip


class _Written:
    """Writes day by day, and counts. Of `damaged` days all takes are given; `is_whole`: their repositories may be
    damaged, too."""

    def __init__(self, bucket: Bucket, state: State, damaged: set[str], is_whole: bool) -> None:
        self._bucket = bucket
        self._state = state
        self._damaged = damaged
        self._is_whole = is_whole
        self.n_new = self.n_grown = self.n_references = 0
        self.days: list[str] = []

    def day(self, day: str, takes: list[Looked]) -> None:
        """The references, then the table. Rows that stand as they were cost nothing."""
        is_damaged = day in self._damaged
        rows = {} if is_damaged else {row.entry_key: row for row in read_day(self._bucket, day, self._state)}
        changed = [take for take in takes if rows.get(take.row.entry_key) != take.row]
        if not changed:
            return
        repository = Day(self._bucket.url, day)
        if is_damaged and self._is_whole:
            repository.remove()
        for at in range(0, len(changed), _BATCH):  # a batch is in memory at once
            self.n_references += repository.write(changed[at : at + _BATCH])
        for take in changed:
            key, row = take.row.entry_key, take.row
            self.n_new += key not in rows and not is_damaged
            self.n_grown += key in rows
            rows[key] = row
            self._state.newest_ns = max(self._state.newest_ns, row.started_wall_ns)
            self._state.longest_ns = max(self._state.longest_ns, row.ended_wall_ns - row.started_wall_ns)
        write_day(self._bucket, day, rows.values())
        self._state.days[day] = len(rows)
        self._state.hosts = sorted({*self._state.hosts, *(row.host for row in rows.values())})
        self.days.append(day)

    def rest(self) -> None:
        """The damaged days of which no take is there any more."""
        for day in self._damaged.difference(self.days):
            write_day(self._bucket, day, [])
            self._state.days.pop(day, None)


def _recorders(bucket: Bucket) -> list[str]:
    if bucket.size(CLAIM) is not None:
        above = bucket.url.rpartition("/")[0]
        raise InvalidRequest(f"{bucket.url} is one recorder's prefix", hint=f"index all of them: {above}")
    found = [name for name in bucket.folders() if not name.startswith(".")]
    if not found:
        raise RecordingNotFound(f"no recorder has uploaded to {bucket.url}", hint=f"chaosd --upload {bucket.url}")
    return found


def _state(bucket: Bucket, is_whole: bool) -> State:
    try:
        return read_state(bucket) or State()
    except IndexDamaged:
        if not is_whole:
            raise
        return State()


def _known(
    bucket: Bucket, state: State, newest_ns: int, since_ns: int, is_whole: bool
) -> tuple[dict[str, bool], set[str]]:
    """By the entries' keys, whether the takes in the tables of these days go on; and the days that are damaged, which
    with `is_whole` are looked for in the references as well. `state` learns what it did not know of the others."""
    days = {day for day in state.days if day >= day_of(since_ns)}
    if is_whole:
        days.update(days_in(bucket))
    elif newest_ns:
        days.update(days_in(bucket, since_ns or None, newest_ns))
    goes_on: dict[str, bool] = {}
    hosts, damaged = set(state.hosts), set()
    for day in sorted(days):
        try:
            rows = read_day(bucket, day, state)
            if is_whole and rows:
                Day(bucket.url, day).check(rows)
        except IndexDamaged:
            damaged.add(day)
            continue
        if rows:
            state.days[day] = len(rows)
        for row in rows:
            goes_on[row.entry_key] = row.state == "recording"
            hosts.add(row.host)
            state.newest_ns = max(state.newest_ns, row.started_wall_ns)
            state.longest_ns = max(state.longest_ns, row.ended_wall_ns - row.started_wall_ns)
    state.hosts = sorted(hosts)
    return goes_on, damaged


def _entries(bucket: Bucket, recorder: str, since_ns: int) -> Iterator[str]:
    prefix = f"{recorder}/{TAKES}"
    after = f"{prefix}/{started_text(since_ns)}" if since_ns else None
    for key, _ in bucket.objects(prefix, after):
        yield key


def _look(bucket: Bucket, key: str) -> _Found:
    """On a thread of the pool."""
    entry = None
    try:
        entry = msgspec.json.decode(bucket.get(key), type=TakeEntry)
        recorder = key.partition("/")[0]
        if entry.recorder != recorder:
            return _Found(key, None, is_readable=False)
        where = f"{recorder}/{entry.key}"
        group = msgspec.json.decode(bucket.get(f"{where}/zarr.json"))
        definition = msgspec.convert(group["attributes"]["definition"], Definition)
        documents = group["consolidated_metadata"]["metadata"]
        arrays = {name: documents[name] for name in _REFERRED if name in documents}
        gaps = list(_gaps(bucket, where, arrays["gaps"]))
        entry = _as_it_is(entry, group, definition, gaps)
        row = Row.of(bucket.url_of(where), entry)
        if row.entry_key != key:
            return _Found(key, None, is_readable=False)
    except KeyMissing:
        # Entries are put after what they tell of.
        return _Found(key, None, is_gone=entry is None or entry.state == "finished")
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError, ValueError, IndexError, AttributeError):
        return _Found(key, None, is_readable=False)
    spans = [(gap.first_frame, gap.end_frame) for gap in gaps if gap.n_frames]
    return _Found(key, Looked(row, definition, arrays, spans))


def _gaps(bucket: Bucket, where: str, document: dict[str, Any]) -> Iterator[Gap]:
    n_rows, n_columns = document["shape"]
    columns = columns_like("gaps", n_columns) or ()
    for chunk in range(-(-n_rows // TABLE_ROWS)):
        rows = table_rows(columns, bucket.get(f"{where}/gaps/c/{chunk}/0"))
        for row in rows[: n_rows - chunk * TABLE_ROWS]:
            yield Gap.from_row(row)


def _as_it_is(entry: TakeEntry, group: dict[str, Any], definition: Definition, gaps: Iterable[Gap]) -> TakeEntry:
    """The entry is of the take's first upload, or of its end; the group and the ledger are of now."""
    lost: dict[str, int] = {}
    for gap in gaps:
        if gap.n_frames:
            lost[gap.cause.label] = lost.get(gap.cause.label, 0) + gap.n_frames
    is_finished = group["attributes"]["state"] == "finished" and entry.state == "finished"
    n_frames, ended_ns = entry.n_frames, entry.ended_wall_ns
    if not is_finished:
        with suppress(KeyError):
            n_frames = int(group["consolidated_metadata"]["metadata"]["audio"]["shape"][1])
            ended_ns += (n_frames - entry.n_frames) * 1_000_000_000 // definition.sample_rate
    return msgspec.structs.replace(
        entry, gaps=lost, n_frames=n_frames, ended_wall_ns=ended_ns, state="finished" if is_finished else "recording"
    )
