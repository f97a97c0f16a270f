"""What retention takes again and again is one entry of the ledger, in the journal's reading and in the tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import zarr
from crashing import fast_folder
from hypothesis import given
from hypothesis import strategies as st
from recorded import Rotator, definition

from chaos.store import metadata
from chaos.store.documents import TABLE_ROWS
from chaos.store.info import load
from chaos.store.metadata import rebuild_metadata
from chaos.store.repair import repair
from chaos.store.retention import retire
from chaos.store.retired import gone_chunks, retired_gaps
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.store.writer import RecordingWriter
from chaos.terms.ledger import Cause, Confidence, Entries, Gap
from chaos.terms.units import Keep

SIZE = 16


@pytest.fixture
def store() -> Iterator[Store]:
    with fast_folder() as folder:
        yield Store(folder / "store")


def begin(store: Store) -> Rotator:
    return Rotator(RecordingWriter.create(store, definition()))


def take(rotator: Rotator, chunk: int) -> None:
    """As a live stream's writer is told to."""
    info = load(rotator.writer.path)
    sealed = [each for each in info.chunks if each.chunk == chunk]
    assert rotator.writer.retire(sealed, retired_gaps(sealed, info.gaps))


def rows(path: Path) -> list[list[int]]:
    table: Any = zarr.open_group(path, mode="r")["gaps"]
    return [[int(each) for each in row] for row in table[:]]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6), st.sampled_from([Cause.RETIRED, Cause.MISSED]))))
def test_no_frame_is_told_otherwise(told: list[tuple[int, int, Cause]]) -> None:
    gaps = [Gap(first, n, cause, Confidence.EXACT) for first, n, cause in told]
    entries, again = Entries(), Entries()
    for gap in gaps:
        at = entries.add(gap)
        assert entries.gaps[at].end_frame == gap.end_frame
    for gap in entries.gaps:
        again.add(gap)
    assert again.gaps == entries.gaps
    for cause in (Cause.RETIRED, Cause.MISSED):
        frames = [sorted(at for gap in all_ if gap.cause is cause for at in range(gap.first_frame, gap.end_frame))
                  for all_ in (gaps, entries.gaps)]  # fmt: skip
        assert frames[0] == frames[1]


def test_a_running_stream_has_one_row_for_all_that_is_retired(store: Store) -> None:
    rotator = begin(store)
    for chunk in range(40):
        if chunk == 30:
            rotator.gap(5, Cause.OVERRUN)
        rotator.write(SIZE)
        if chunk > 2:
            take(rotator, chunk - 3)
        assert verify(rotator.writer.path).bad == []
    rotator.stop()
    info = load(rotator.writer.path)
    retired = [gap for gap in info.gaps if gap.cause is Cause.RETIRED]
    assert [(gap.first_frame, gap.n_frames) for gap in retired] == [(0, 30 * SIZE), (30 * SIZE + 5, 7 * SIZE - 5)]
    assert rows(rotator.writer.path) == [list(gap.row()) for gap in info.gaps]
    assert len(gone_chunks(info)) == 37
    assert verify(rotator.writer.path).bad == []


def test_a_row_that_grows_in_a_chunk_of_the_table_that_is_full(store: Store) -> None:
    rotator = begin(store)
    for _ in range(6):
        rotator.write(SIZE)
    take(rotator, 0)
    for _ in range(TABLE_ROWS + 3):
        rotator.gap(1)
    rotator.writer.flush()
    for chunk in (1, 2, 3):
        take(rotator, chunk)
        assert verify(rotator.writer.path).bad == []
    rotator.stop()
    found = rows(rotator.writer.path)
    assert (len(found), found[0][:2]) == (TABLE_ROWS + 4, [0, 4 * SIZE])
    assert verify(rotator.writer.path).bad == []
    before = {path: path.read_bytes() for path in rotator.writer.path.glob("gaps/**/*") if path.is_file()}
    rebuild_metadata(rotator.writer.path)
    assert {path: path.read_bytes() for path in before} == before


def test_a_finished_take_has_one_row_after_many_passes(store: Store) -> None:
    rotator = begin(store)
    rotator.write(20 * SIZE)
    rotator.stop()
    size = rotator.writer.definition.form.chunk_bytes
    for left in range(19, -1, -1):
        retire(store, Keep(None, left * size))
        assert verify(rotator.writer.path).bad == []
    assert rows(rotator.writer.path) == [[0, 20 * SIZE, int(Cause.RETIRED), int(Confidence.EXACT)]]


def test_tables_of_the_first_versions_are_right_too(store: Store) -> None:
    """They have a row for each pass."""

    class Apart(Entries):
        def add(self, gap: Gap) -> int:
            self.gaps.append(gap)
            return len(self.gaps) - 1

    with mock.patch.object(metadata, "Entries", Apart):
        rotator = begin(store)
        for chunk in range(6):
            rotator.write(SIZE)
            if chunk:
                take(rotator, chunk - 1)
        rotator.writer.flush()
        assert verify(rotator.writer.path).bad == []
        rotator.stop()
    assert len(rows(rotator.writer.path)) == 5
    assert verify(rotator.writer.path).bad == []
    retire(store, Keep(None, 0))
    assert rows(rotator.writer.path) == [[0, 6 * SIZE, int(Cause.RETIRED), int(Confidence.EXACT)]]
    assert verify(rotator.writer.path).bad == []


@pytest.mark.parametrize("lost", range(5))
def test_a_lost_line_of_retention_is_found_in_the_row_of_all(store: Store, lost: int) -> None:
    rotator = begin(store)
    for chunk in range(8):
        rotator.write(SIZE)
        if chunk > 1:
            take(rotator, chunk - 2)
    rotator.stop()
    before = load(rotator.writer.path)
    journal = rotator.writer.path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    at = [number for number, line in enumerate(lines) if json.loads(line)["type"] == "gap"][lost]
    lines[at] = lines[at][:30] + b"?" + lines[at][31:]
    journal.write_bytes(b"".join(lines))
    repair(store.objects, rotator.writer.path)
    after = load(rotator.writer.path)
    assert [each.chunk for each in gone_chunks(after)] == [each.chunk for each in gone_chunks(before)]
    assert verify(rotator.writer.path).bad == []
