"""The table of all takes below a URL: a Parquet file for each day, of the takes that began on it (UTC).

    .fleet/index.json                          how far the index has come (`State`)
    .fleet/takes/day=2026-11-26/takes.parquet  a row per take, as `SCHEMA` has it
    .fleet/days/2026-11-26/                    icechunk's, see `chaos.recorders.days`

No recorder can be named `.fleet`. DuckDB, Polars and pandas read the folder `takes` as it is. A file is replaced whole,
in one put; so a day costs what that day has, however many lie before it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec

from chaos.remote.bucket import Bucket
from chaos.remote.layout import TAKES, TakeEntry
from chaos.terms.errors import InvalidRequest, StorageFailed

__all__ = [
    "HIDDEN", "IndexDamaged", "Row", "State", "day_of", "days_in", "needs_fleet", "read_day", "read_state", "write_day",
    "write_state",
]  # fmt: skip

HIDDEN = ".fleet"
_STATE = f"{HIDDEN}/index.json"
_DAYS = f"{HIDDEN}/takes"
_MOMENTS = {"start": "started_wall_ns", "end": "ended_wall_ns"}


class IndexDamaged(StorageFailed):
    """A part of the index below `url` is lost or damaged, which can be made anew."""

    def __init__(self, url: str, message: str) -> None:
        super().__init__(message, hint=f"make it anew from what was uploaded: chaosctl fleet index --all {url}")


class Row(msgspec.Struct, frozen=True):
    """A take in the table. `url` opens it with `chaos.open`, `gaps` has the frames that are missing by cause;
    `clock_error_ns` is the worst that the kernel told of the wall clock, None where any part of it is not known, or
    while the take goes on."""

    host: str
    uri: str
    url: str
    state: str
    started_wall_ns: int
    ended_wall_ns: int
    sample_rate: int
    channels: int
    sample_format: str
    chunk_frames: int
    n_frames: int
    n_bytes: int
    device: str | None
    identity: str | None
    gaps: dict[str, int]
    clock_error_ns: int | None

    @classmethod
    def of(cls, url: str, entry: TakeEntry) -> Row:
        """`entry` as it stands in the take's own folder now."""
        return cls(
            entry.recorder, entry.uri, url, entry.state, entry.started_wall_ns, entry.ended_wall_ns, entry.sample_rate,
            entry.channels, entry.sample_format, entry.chunk_frames, entry.n_frames, entry.n_bytes, entry.device,
            entry.identity, entry.gaps, entry.max_error_ns if entry.state == "finished" else None,
        )  # fmt: skip

    @property
    def day(self) -> str:
        return day_of(self.started_wall_ns)

    @property
    def path(self) -> str:
        """The take's group among those of its day."""
        name, take = self.url.rsplit("/", 2)[1:]
        return f"{self.host}/{name}/{take.removesuffix('.zarr')}"

    @property
    def entry_key(self) -> str:
        """As the recorder names the take's entry, see `chaos.remote.layout`."""
        name, folder = self.url.rsplit("/", 2)[1:]
        take, day, rest = folder.removesuffix(".zarr").rsplit(".", 2)
        return f"{self.host}/{TAKES}/{day}.{rest}.{name}.{take}.json"


class State(msgspec.Struct):
    """How far the index has come: `open` are the keys of the entries whose takes went on, or were not all there, at the
    last look. No take is longer than `longest_ns`. `days` has how many rows each day's table had, and `hosts` who is in
    any: so that what is lost is seen."""

    newest_ns: int = 0
    longest_ns: int = 0
    open: list[str] = []
    days: dict[str, int] = {}
    hosts: list[str] = []
    format: int = 1


def day_of(wall_ns: int) -> str:
    """The UTC day; that of 1970 for what is in no calendar."""
    try:
        return f"{datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC):%Y-%m-%d}"
    except (OverflowError, ValueError, OSError):
        return "1970-01-01"


def needs_fleet(error: ImportError) -> InvalidRequest:
    """What to say where a library of the extra `fleet` is not installed."""
    return InvalidRequest(f"this needs {error.name}, which is not installed", hint="pip install 'chaosd[fleet]'")


def read_state(bucket: Bucket) -> State | None:
    """None where there is no index. Raises IndexDamaged for one that can't be read."""
    found = bucket.find(_STATE)
    try:
        state = None if found is None else msgspec.json.decode(found, type=State)
    except msgspec.DecodeError as error:
        raise IndexDamaged(bucket.url, f"{bucket.url_of(_STATE)} can't be read: {error}") from None
    if state is not None and state.format != 1:
        raise StorageFailed(f"the index of {bucket.url} was written by a newer chaosd", hint="update chaosd")
    return state


def write_state(bucket: Bucket, state: State) -> None:
    bucket.put(_STATE, msgspec.json.encode(state))


def days_in(bucket: Bucket, first_ns: int | None = None, last_ns: int | None = None) -> list[str]:
    """The days that have a file, in order; those that a moment between the two is on. Of up to 40 days each is asked
    for by its name, so that nothing is listed."""
    first, last = (None if ns is None else day_of(ns) for ns in (first_ns, last_ns))
    if first is not None and last is not None and date.fromisoformat(last) - date.fromisoformat(first) < timedelta(40):
        n_days = (date.fromisoformat(last) - date.fromisoformat(first)).days + 1
        return [f"{date.fromisoformat(first) + timedelta(number)}" for number in range(n_days)]
    days = [name.removeprefix("day=") for name in bucket.folders(_DAYS)]
    return [day for day in days if (first is None or day >= first) and (last is None or day <= last)]


def _schema() -> Any:
    import pyarrow as pa

    moment, text, count = pa.timestamp("ns", "UTC"), pa.string(), pa.int64()
    return pa.schema(
        [
            ("host", text), ("uri", text), ("url", text), ("state", text), ("start", moment), ("end", moment),
            ("sample_rate", count), ("channels", count), ("sample_format", text), ("chunk_frames", count),
            ("n_frames", count), ("n_bytes", count), ("device", text), ("identity", text),
            ("gaps", pa.map_(text, count)), ("clock_error_ns", count),
        ]
    )  # fmt: skip


def write_day(bucket: Bucket, day: str, rows: Iterable[Row]) -> None:
    """Replaces the table of a day. Raises StorageFailed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ordered = sorted(rows, key=lambda row: (row.started_wall_ns, row.url))
    schema = _schema()
    columns = [
        pa.array(
            [list(value.items()) if isinstance(value, dict) else value
             for value in (getattr(row, _MOMENTS.get(field.name, field.name)) for row in ordered)],
            field.type,
        )
        for field in schema
    ]  # fmt: skip
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), sink, compression="zstd")
    bucket.put(f"{_DAYS}/day={day}/takes.parquet", sink.getvalue())


def read_day(bucket: Bucket, day: str, state: State) -> list[Row]:
    """The rows of a day; none where it has no table. Raises IndexDamaged for a table that can't be read, and where
    `state` knows of more rows."""
    key = f"{_DAYS}/day={day}/takes.parquet"
    found = bucket.find(key)
    n_known = state.days.get(day, 0)
    if found is None:
        if n_known:
            raise IndexDamaged(bucket.url, f"{bucket.url_of(key)} is lost")
        return []
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(found)).cast(_schema())
        moments = {name: table.column(name).cast(pa.int64()).to_pylist() for name in _MOMENTS}
        columns = {_MOMENTS.get(name, name): moments.get(name) or table.column(name).to_pylist()
                   for name in table.column_names}  # fmt: skip
        columns["gaps"] = [dict(each) for each in columns["gaps"]]
        rows = [Row(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise IndexDamaged(bucket.url, f"{bucket.url_of(key)} can't be read: {error}") from None
    if len(rows) < n_known:
        raise IndexDamaged(bucket.url, f"{bucket.url_of(key)} has {len(rows)} of {n_known} takes")
    return rows
