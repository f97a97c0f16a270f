"""Each thing the ledger knows is declared once; whoever writes it down elsewhere is held to that here."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import msgspec
import pytest

from chaos import _layout
from chaos.staging.layout import NOTE, Note
from chaos.store.documents import TABLE_ROWS, table_chunk, table_document, table_rows
from chaos.store.lines import AnchorLine, GapLine
from chaos.terms.form import AudioForm
from chaos.terms.formats import SAMPLES
from chaos.terms.ledger import (
    CLOCK_COLUMNS,
    FIRST_CLOCK_COLUMNS,
    GAP_COLUMNS,
    Cause,
    ClockAnchor,
    ClockState,
    Confidence,
    Gap,
)

DOCS = Path(__file__).parents[2] / "docs"
GAP = Gap(7, 5, Cause.DEVICE_AWAY, Confidence.ESTIMATED)
ANCHOR = ClockAnchor(1, 2, 3, 4, 5)


def test_the_callback_numbers_causes_and_confidences_as_the_ledger_does() -> None:
    assert {name: Cause.from_label(name) for name in _layout.CAUSES} == _layout.CAUSES
    assert {name: Confidence.from_label(name) for name in _layout.CONFIDENCES} == _layout.CONFIDENCES


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_is_in_the_protocol_and_says_how_sure_its_length_is(cause: Cause) -> None:
    causes = (DOCS / "PROTOCOL.md").read_text().split("A gap's `cause` is one of")[1].split("its `confidence` is")[0]
    assert f"`{cause.label}`" in causes
    assert f"*{cause.label.replace('_', ' ')}*" in (DOCS.parent / "README.md").read_text()
    assert cause.confidence in Confidence
    assert Gap.open(3, 10, cause) == Gap(3, 7, cause, cause.confidence)


def test_what_our_own_counters_or_the_graphs_clock_tell_is_exact_before_it_ends() -> None:
    exact = {cause for cause in Cause if cause.confidence is Confidence.EXACT}
    assert exact == {
        Cause.MISSED,
        Cause.OVERRUN,
        Cause.NO_DATA,
        Cause.RETIRED,
        Cause.FOREIGN,
        Cause.MIDI_OVERFLOW,
    }


def test_the_columns_of_gaps_are_a_gaps_fields_everywhere() -> None:
    assert GAP_COLUMNS == ("first_frame", "n_frames", "cause", "confidence")
    assert GAP.row() == (7, 5, Cause.DEVICE_AWAY, Confidence.ESTIMATED)
    assert Gap.from_row(GAP.row()) == GAP
    assert tuple(GAP.to_wire()) == GAP_COLUMNS == GapLine.__struct_fields__
    assert GapLine.of(GAP).gap() == GAP


def test_the_columns_of_the_clock_are_an_anchors_fields_everywhere() -> None:
    assert FIRST_CLOCK_COLUMNS == ("frame", "position", "monotonic_ns", "wall_ns")
    assert (*FIRST_CLOCK_COLUMNS, "max_error_ns", "est_error_ns", "clock_state", "step_ns") == CLOCK_COLUMNS
    assert ANCHOR.row() == (1, 2, 3, 4, -1, -1, 0, 0)
    assert ANCHOR.row(FIRST_CLOCK_COLUMNS) == (1, 2, 3, 4)
    known = ClockAnchor(1, 2, 3, 4, None, 250_000, 90_000, ClockState.SYNCHRONIZED, -7)
    for anchor in (ClockAnchor(1, 2, 3, 4), known):
        assert ClockAnchor.from_row(anchor.row()) == anchor
        assert AnchorLine.of(anchor).anchor() == anchor
    assert ClockAnchor.from_row((1, 2, 3, 4)) == ClockAnchor(1, 2, 3, 4)
    for row in ((1, 2, 3), (1, 2, 3, 4, 5), (1, 2, 3, 4, -1, -1, 9, 0)):
        with pytest.raises(ValueError):  # noqa: PT011
            ClockAnchor.from_row(row)
    assert ClockAnchor.__struct_fields__ == AnchorLine.__struct_fields__
    assert AnchorLine.of(ANCHOR).anchor() == ANCHOR


@pytest.mark.parametrize(
    ("name", "columns"), [("gaps", GAP_COLUMNS), ("clock", CLOCK_COLUMNS), ("clock", FIRST_CLOCK_COLUMNS)]
)
def test_a_table_is_as_wide_as_its_columns(name: str, columns: tuple[str, ...]) -> None:
    document = msgspec.json.decode(table_document(name, 3, columns))
    assert document["shape"] == [3, len(columns)]
    assert document["chunk_grid"]["configuration"]["chunk_shape"] == [TABLE_ROWS, len(columns)]
    assert document["attributes"]["columns"] == list(columns)
    row = tuple(range(1, len(columns) + 1))
    assert table_rows(columns, table_chunk(columns, [row]))[:2] == [row, (0,) * len(columns)]


def test_a_note_has_the_fields_of_the_callbacks_struct() -> None:
    layout = (Path(_layout.__file__).parent / "_layout.pxd").read_text()
    fields = re.findall(r"uint(32|64)_t (\w+)", layout.split("cdef struct Note:")[1].split("\n\n")[0])
    assert tuple(name for _, name in fields if name != "pad") == Note._fields
    assert struct.calcsize(NOTE) + 8 == _layout.NOTE_BYTES
    assert NOTE == "<4I5Q"
    assert [size for size, _ in fields] == ["32"] * 4 + ["64"] * 6


def test_notes_become_gaps_and_anchors() -> None:
    gap = Note(_layout.NOTE_KINDS["gap"], GAP.cause, GAP.confidence, 48000, 7, 5, 100, 200, 1)
    assert (gap.is_gap, gap.is_anchor, gap.gap()) == (True, False, GAP)
    anchor = Note(_layout.NOTE_KINDS["anchor"], 0, 0, 48000, 1, 0, 2, 3, 5)
    assert (anchor.is_gap, anchor.is_anchor, anchor.anchor(1)) == (False, True, ANCHOR)


@pytest.mark.parametrize("sample_format", list(SAMPLES))
def test_the_spans_of_all_frames_are_the_chunk(sample_format: str) -> None:
    form = AudioForm(3, 10, sample_format)  # type: ignore[arg-type]
    data = bytes(range(form.chunk_bytes))
    assert b"".join(data[span] for span in form.spans(0, 10)) == data
    kept = form.whole(data, 4)
    assert len(kept) == len(data)
    assert b"".join(kept[span] for span in form.spans(0, 4)) == b"".join(data[span] for span in form.spans(0, 4))
    assert not any(b"".join(kept[span] for span in form.spans(4, 10)))
