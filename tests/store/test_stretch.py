"""A stretch of a stream that has rolled: frames, chunks and gaps are those of its one timeline."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from crashing import fast_folder
from recorded import START_NS, Rotator, definition

from chaos.export.jobs import Slicer
from chaos.store.store import Store
from chaos.store.stretch import resolve_in, virtual_in
from chaos.store.takes import takes_of
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import InvalidRange
from chaos.terms.moments import Moment

URI = "stream://mic/1"


@pytest.fixture
def store() -> Iterator[Store]:
    """40 frames, and 40 of the next take after 48 in which the engine was down."""
    with fast_folder() as folder:
        found = Store(folder / "store")
        for take, begins_at, more in (("1", 0, {}), ("1.0002", 88, {"follows": URI, "away_ns": 1_000_000})):
            started_ns = START_NS + begins_at * 1_000_000_000 // 48000
            shape = definition(f"stream://mic/{take}", started_wall_ns=started_ns, **more)  # type: ignore[arg-type]
            stream = Rotator(RecordingWriter.create(found, shape), begins_at)
            stream.write(20)
            stream.gap(4)
            stream.write(16)
            stream.stop()
        yield found


def test_places_are_on_one_timeline(store: Store) -> None:
    takes = takes_of(store, URI)
    assert resolve_in(takes, "start", "head", 128) == (0, 128)
    assert resolve_in(takes, Moment(seconds_ago=10 / 48000), "head", 128) == (118, 128)
    at = datetime.fromtimestamp((START_NS + 100 * 1_000_000_000 / 48000) / 1e9, UTC)
    begin, _ = resolve_in(takes, Moment(utc=at), "head", 128)
    assert begin == pytest.approx(100, abs=1)
    between = datetime.fromtimestamp((START_NS + 60 * 1_000_000_000 / 48000) / 1e9, UTC)
    begin, _ = resolve_in(takes, Moment(utc=between), "head", 128)
    assert begin == pytest.approx(60, abs=1)
    with pytest.raises(InvalidRange):
        resolve_in(takes, Moment(frame=129), "head", 128)


def test_a_virtual_slice_names_the_chunks_of_all_takes(store: Store) -> None:
    found = virtual_in(takes_of(store, URI), Moment(frame=30), Moment(frame=110))
    assert (found["first_frame"], found["n_frames"]) == (30, 80)
    spans = [(Path(span.path).parents[3].name, span.chunk, span.first_frame, span.n_frames) for span in found["chunks"]]
    assert spans == [("1.zarr", 1, 30, 2), ("1.zarr", 2, 32, 8), ("1.0002.zarr", 0, 88, 16), ("1.0002.zarr", 1, 104, 6)]
    gaps = [(gap["first_frame"], gap["n_frames"], gap["cause"]) for gap in found["gaps"]]
    assert gaps == [(40, 48, "engine_down"), (108, 4, "missed")]


def test_a_slice_is_written_across_takes(store: Store) -> None:
    slicer = Slicer(store.slices)
    report = slicer.materialize_stream(store, URI, Moment(frame=30), "head", container="raw")
    assert (report["first_frame"], report["n_frames"], report["n_written"]) == (30, 98, 98)
    assert Path(report["path"]).stat().st_size == 98 * 2 * 4
    assert len(report["chunks"]) == 5
    slicer.close()
