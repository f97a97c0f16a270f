"""`chaos.fleet`: the takes of all recorders as a table, and what they heard between two moments as lazy arrays.

    fleet = chaos.fleet("s3://bucket/prefix")              # once `chaosctl fleet index s3://bucket/prefix` has run
    fleet.takes()                                          # a pandas DataFrame, a row per take
    tree = fleet.select(start, end, hosts=["rig1", "rig2"])
    tree["rig1/logger/main.20261126T120000.000000Z"]       # an xarray Dataset: audio, gap; time, time_bounds

Nothing is interpolated: what is missing is zeros in `audio` and has its cause in `gap`. Times are those of the
recorder's own wall clock, each with the bounds that its kernel knew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from chaos.recorders.table import Row, day_of, days_in, needs_fleet, read_day, read_state
from chaos.remote.bucket import Bucket
from chaos.store.lines import Definition
from chaos.terms.errors import InvalidRange, InvalidRequest, RecordingNotFound, StorageFailed
from chaos.terms.formats import MIDI
from chaos.terms.ledger import GAP_COLUMNS, Cause, ClockAnchor
from chaos.terms.moments import utc_text, wall_ns_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import xarray as xr

    from chaos.recorders.lazy import Timing

__all__ = ["Fleet", "fleet"]

_THREADS = 16
_BLOCK_BYTES = 16 << 20
_MARGIN_NS = 3600 * 1_000_000_000  # by how much a take may reach beyond what its entry says
_NO_INDEX = "make one with: chaosctl fleet index"


class _Part(NamedTuple):
    """What a selection has of one take. `worst_ns`: no time in it is further off; None: not known, since `why`."""

    row: Row
    data: xr.Dataset
    worst_ns: float | None
    why: str | None


class Fleet:
    """What was uploaded below a URL, as the index of it stood when it was asked; from any thread.

    Methods raise StorageFailed where the object store can't be reached and where the index is damaged, and
    Unauthorized.
    """

    def __init__(self, url: str) -> None:
        self._bucket = Bucket(url)
        self.url = self._bucket.url
        state = read_state(self._bucket)
        if state is None:
            raise RecordingNotFound(f"there is no index of {self.url}", hint=f"{_NO_INDEX} {self.url}")
        self._state = state

    def __repr__(self) -> str:
        return f"<Fleet {self.url}>"

    def takes(
        self,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        hosts: str | Collection[str] | None = None,
    ) -> pd.DataFrame:
        """The takes that have something between two moments, by host and start; all of them where none is given.

        Columns: host, uri, url (`chaos.open` takes it), state, start, end (by the recorder's clock), sample_rate,
        channels, sample_format, chunk_frames, n_frames, n_bytes, device, identity, gaps (frames by cause, a dict),
        clock_error_ns (<NA>: not known). Moments are datetimes with a zone, or RFC 3339. Raises InvalidRequest.
        """
        import pandas as pd

        rows = self._rows(None if start is None else _ns(start), None if end is None else _ns(end), hosts)
        table = pd.DataFrame([msgspec.structs.asdict(row) for row in rows], columns=list(Row.__struct_fields__))
        for name in ("started_wall_ns", "ended_wall_ns"):
            table[name] = pd.to_datetime(table[name].astype("int64"), utc=True)
        table["clock_error_ns"] = table["clock_error_ns"].astype("Int64")
        return table.rename(columns={"started_wall_ns": "start", "ended_wall_ns": "end"})

    def _rows(self, start_ns: int | None, end_ns: int | None, hosts: str | Collection[str] | None) -> list[Row]:
        state = self._state
        first_ns = None if start_ns is None else max(0, start_ns - state.longest_ns - _MARGIN_NS)
        chosen = {hosts} if isinstance(hosts, str) else None if hosts is None else set(hosts)
        low, high = day_of(first_ns or 0), None if end_ns is None else day_of(end_ns)
        known = {day for day in state.days if low <= day and (high is None or day <= high)}
        days = sorted(known.union(days_in(self._bucket, first_ns, end_ns)))
        with ThreadPoolExecutor(_THREADS, "days") as pool:
            rows = [row for of_day in pool.map(lambda day: read_day(self._bucket, day, state), days) for row in of_day]
        found = [
            row
            for row in rows
            if (chosen is None or row.host in chosen)
            and (start_ns is None or row.ended_wall_ns > start_ns)
            and (end_ns is None or row.started_wall_ns < end_ns)
        ]
        return sorted(found, key=lambda row: (row.host, row.started_wall_ns, row.url))

    def select(
        self, start: datetime | str, end: datetime | str, hosts: str | Collection[str] | None = None
    ) -> xr.DataTree:
        """What was heard from `start` up to `end`: a Dataset for each take that has some of it, at
        HOST/NAME/TAKE.STARTED.

        Each has `audio` (channel, frame) as a lazy dask array whose blocks are whole chunks; `gap` (frame), the number
        of the cause of what is missing there, 0 for what is there; and the coordinates `time` (frame) and `time_bounds`
        (frame, bound), NaT where they are not known. Its attributes have `first_frame` of the take, `uri`, `url`, and
        `worst_time_error_s` (None: not known, `time_unknown` says why). Those of the root have
        `worst_alignment_error_s`: no two frames of different hosts with the same time were further apart than that;
        None where some host's clock is not known (`alignment_unknown` lists them); of the hosts that were asked for
        `hosts_without` have nothing of that time. MIDI has no samples and is in `left_out`.

        The ledger of a finished take is compared with the index, chunks with nothing but their length: an object that
        was changed since is found by `chaosctl verify URL`, which hashes it.

        Raises InvalidRequest, RecordingNotFound where nobody has any of it or a host is not in the index, and as
        `takes`.
        """
        import xarray as xr

        start_ns, end_ns = _ns(start), _ns(end)
        if end_ns <= start_ns:
            raise InvalidRequest(f"{end} is not after {start}", hint="give the earlier moment first")
        asked_for = {hosts} if isinstance(hosts, str) else set(hosts or ())
        if unknown := sorted(asked_for - set(self._state.hosts)):
            raise RecordingNotFound(
                f"the index of {self.url} has nothing of {', '.join(unknown)}",
                hint=f"fleet.takes() shows who is in it; what is new is taken in by: chaosctl fleet index {self.url}",
            )
        rows = self._rows(start_ns - _MARGIN_NS, end_ns + _MARGIN_NS, hosts)
        audio = [row for row in rows if row.sample_format != MIDI]
        try:
            stores = {day: _store(self.url, day) for day in sorted({row.day for row in audio})}
        except ImportError as error:
            raise needs_fleet(error) from None
        with ThreadPoolExecutor(_THREADS, "select") as pool:
            tried = pool.map(lambda row: _part(stores[row.day], row, start_ns, end_ns), audio)
            parts = [part for part in tried if part is not None]
        if not parts:
            asked = "" if hosts is None else f" of {hosts if isinstance(hosts, str) else ', '.join(sorted(hosts))}"
            raise RecordingNotFound(
                f"the index has no audio{asked} from {utc_text(start_ns)} to {utc_text(end_ns)}",
                hint=f"fleet.takes() shows what there is; what is new is taken in by: chaosctl fleet index {self.url}",
            )
        tree: dict[str, Any] = {part.row.path: part.data for part in parts}
        left_out = [row.url for row in rows if row.sample_format == MIDI
                    and row.started_wall_ns < end_ns and row.ended_wall_ns > start_ns]  # fmt: skip
        root = {"url": self.url, "start": utc_text(start_ns), "end": utc_text(end_ns), **_alignment(parts),
                "left_out": left_out,
                "hosts_without": sorted(asked_for - {part.row.host for part in parts})}  # fmt: skip
        return xr.DataTree.from_dict({"/": xr.Dataset(attrs=root), **tree})


def fleet(url: str) -> Fleet:
    """The recorders that upload below `url`, by the index that `chaosctl fleet index` keeps.

    Raises InvalidRequest, RecordingNotFound where there is no index, StorageFailed, Unauthorized.
    """
    try:
        import pandas  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise needs_fleet(error) from None
    return Fleet(url)


def _ns(moment: datetime | str) -> int:
    try:
        at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError:
        raise InvalidRequest(f"{moment!r} is not a moment", hint="write it as 2026-01-31T14:05:00Z") from None
    if at.tzinfo is None:
        raise InvalidRequest(f"{moment} has no time zone", hint="use datetime.now(UTC) and the like")
    return wall_ns_of(at.astimezone(UTC))


def _store(url: str, day: str) -> Any:
    from chaos.recorders.days import Day

    return Day(url, day).read()


def _part(store: Any, row: Row, start_ns: int, end_ns: int) -> _Part | None:
    """What a take has of it; None where that is nothing. On a thread of the pool."""
    import numpy as np
    import zarr

    from chaos.recorders.days import group_of, lost_reference
    from chaos.recorders.lazy import Timing, anchors_near
    from chaos.store.timeline import sorted_anchors

    group = group_of(store, row)
    definition = msgspec.convert(group.attrs["definition"], Definition)
    with lost_reference(row.url):
        audio, clock, gaps = group["audio"], group["clock"], group["gaps"]
        assert isinstance(audio, zarr.Array)
        anchors = sorted_anchors(definition, anchors_near(np.asarray(clock), start_ns, end_ns))
        timing = Timing(anchors, definition.sample_rate)
        first, last = timing.span(start_ns, end_ns, audio.shape[1])
        if first >= last:
            return None
        rows = np.asarray(gaps)
    _compare(row, rows)
    worst_ns, why = _worst(definition, anchors, first, last)
    data = _dataset(row, definition, audio, rows, timing, first, last)
    data.attrs |= {"worst_time_error_s": None if worst_ns is None else worst_ns / 1e9, "time_unknown": why}
    return _Part(row, data, worst_ns, why)


def _compare(row: Row, gaps: npt.NDArray[np.int64]) -> None:
    """Raises StorageFailed where a take's table of gaps is not the one that the index took in. Of a take that goes on
    the table may be newer than its row."""
    labels = {int(cause): cause.label for cause in Cause}
    found: dict[str, int] = {}
    for n_frames, cause in gaps[:, [GAP_COLUMNS.index("n_frames"), GAP_COLUMNS.index("cause")]].tolist():
        if n_frames:
            label = labels.get(cause, f"cause {cause}")
            found[label] = found.get(label, 0) + n_frames
    if row.state == "finished" and found != row.gaps:
        raise StorageFailed(
            f"the gaps of {row.url} are other than they were when it was indexed: {found or 'none'}, then"
            f" {row.gaps or 'none'}",
            hint=f"check it with: chaosctl verify {row.url}",
        )


def _worst(
    definition: Definition, anchors: Sequence[ClockAnchor], first: int, last: int
) -> tuple[float | None, str | None]:
    """By how many ns no frame's time is further off; None, and why, where nobody knows."""
    from chaos.recorders.relate import Clock

    clock = Clock(definition, anchors)
    try:
        for frame in (first, last - 1):
            clock.check_near(frame)
        worst_ns = clock.worst_ns(first, last - 1, is_wall=True)
    except InvalidRange as error:
        return None, error.message
    return worst_ns, None if worst_ns is not None else "the kernel did not know how far its clock was off"


def _dataset(
    row: Row, definition: Definition, audio: Any, gaps: Any, timing: Timing, first: int, last: int
) -> xr.Dataset:
    import dask.array as da
    import xarray as xr

    from chaos.recorders.lazy import Audio, Causes, Moments

    blocks = _blocks(first, last, audio.chunks[1], audio.chunks[0] * audio.chunks[1] * audio.dtype.itemsize)
    name, from_array = f"{row.url}#{first}-{last}", cast("Callable[..., Any]", da.from_array)

    def lazy(what: str, source: Any, chunks: tuple[Any, ...]) -> Any:
        return from_array(source, chunks=chunks, name=f"{what}-{name}", asarray=False, meta=_empty(source))

    labels = {"flag_values": [0, *(int(cause) for cause in Cause)],
              "flag_meanings": " ".join(["present", *(cause.label for cause in Cause)])}  # fmt: skip
    variables: dict[str, Any] = {
        "audio": (("channel", "frame"), lazy("audio", Audio(audio, row.url, first, last), ((audio.shape[0],), blocks)),
                  {"long_name": "audio samples", "units": dict(audio.attrs).get("units", "1")}),
        "gap": ("frame", lazy("gap", Causes(gaps, first, last), (blocks,)),
                {"long_name": "cause of what is missing; it is zeros in audio", **labels}),
    }  # fmt: skip
    coordinates: dict[str, Any] = {
        "time": ("frame", lazy("time", Moments(timing, first, last), (blocks,)), {"bounds": "time_bounds"}),
        "time_bounds": (("frame", "bound"), lazy("bounds", Moments(timing, first, last, bounds=True), (blocks, (2,)))),
    }
    attributes = {
        "host": row.host, "uri": row.uri, "url": row.url, "device": row.device, "identity": row.identity,
        "sample_rate": definition.sample_rate, "first_frame": first, "positions": definition.positions,
    }  # fmt: skip
    return xr.Dataset(variables, coordinates, attributes)


def _empty(source: Any) -> Any:
    import numpy as np

    return np.empty((0,) * source.ndim, source.dtype)


def _blocks(first: int, last: int, size: int, chunk_bytes: int) -> tuple[int, ...]:
    """The lengths of blocks of whole chunks, some MB each, so that no chunk is read for two."""
    step = size * max(1, _BLOCK_BYTES // max(1, chunk_bytes))
    edges = [first, *range(first - first % size + step, last, step), last]
    return tuple(end - begin for begin, end in pairwise(edges))


def _alignment(parts: Sequence[_Part]) -> dict[str, Any]:
    """How far two hosts' frames of one time may have been apart: the errors of the two worst hosts together, as
    `chaos.relate` adds them."""
    worst: dict[str, float | None] = {}
    for part in parts:
        so_far = worst.get(part.row.host, 0.0)
        worst[part.row.host] = None if so_far is None or part.worst_ns is None else max(so_far, part.worst_ns)
    known = sorted((each for each in worst.values() if each is not None), reverse=True)
    unknown = sorted(host for host, each in worst.items() if each is None)
    told = None if unknown and len(worst) > 1 else sum(known[:2]) / 1e9 if len(worst) > 1 else 0.0
    return {"hosts": sorted(worst), "worst_alignment_error_s": told, "alignment_unknown": unknown}
