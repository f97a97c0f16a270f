"""Answers: PROTOCOL.md has every op's result with the fields that it has, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from chaos.export.report import SaveReport
from chaos.protocol import answers
from chaos.protocol.requests import REQUESTS
from chaos.store.kept import Kept
from chaos.store.retention import Retired
from chaos.store.slices import ChunkSpan
from chaos.store.summary import RecordingSummary
from chaos.store.verify import Defect, VerifyReport

PROTOCOL = (Path(__file__).parents[2] / "docs" / "PROTOCOL.md").read_text()
ROWS = {
    cells[1].strip(" `"): cells[3].strip()
    for line in PROTOCOL.partition("\n## Operations\n")[2].partition("\n## ")[0].splitlines()
    if line.startswith("| `") and len(cells := re.split(r"(?<!\\)\|", line)) == 5
}
OF_RECORDINGS = {
    "recording_list": ("recordings",),
    "slice": ("first_frame", "n_frames", "chunks", "gaps"),
    "verify": VerifyReport.__struct_fields__,
    "retire": ("retired", "kept", "keep", "stream_keeps"),
}
"""The results that store and export make."""


def fields(text: str) -> tuple[str, ...]:
    """The names at the top of `a, b: {c, d}, e: [F]`."""
    flat = text
    while (inner := re.sub(r"\{[^{}]*\}|\[[^][]*\]", "", flat)) != flat:
        flat = inner
    return tuple(part.partition(":")[0].strip() for part in flat.split(",") if part.strip())


def inside(text: str, name: str) -> tuple[str, ...]:
    """Those within `name: {...}` or `name: [{...}]`."""
    found = re.search(rf"\b{name}: \[?\{{([^{{}}]*)\}}", text)
    assert found is not None, f"{name} in {text}"
    return fields(found[1])


def result_of(op: str) -> str:
    """What the table of ops has in backticks first, without the backticks."""
    said = re.search(r"`([^`]*)`", ROWS[op])
    return said[1] if said and said[1] != "{}" else ""


def paragraph(start: str) -> str:
    said = re.search(rf"{re.escape(start)} `([^`]*)`", PROTOCOL)
    assert said is not None, start
    return said[1]


def test_every_op_has_its_row_and_its_result() -> None:
    assert sorted(ROWS) == sorted(REQUESTS)
    assert sorted(REQUESTS) == sorted([*answers.RESULTS, *OF_RECORDINGS])


@pytest.mark.parametrize("op", sorted(set(REQUESTS) - {"stream_status"}))
def test_the_page_has_the_fields_of_the_result(op: str) -> None:
    kind = answers.RESULTS.get(op)
    expected = kind.__struct_fields__ if kind is not None else OF_RECORDINGS[op]
    assert fields(result_of(op)) == expected


@pytest.mark.parametrize(
    ("op", "name", "kind"),
    [
        ("status", "pipewire", answers.PipeWireStatus),
        ("status", "staging", answers.StagingStatus),
        ("status", "store", answers.StoreStatus),
        ("recording_list", "recordings", RecordingSummary),
        ("slice", "chunks", ChunkSpan),
        ("verify", "bad", Defect),
        ("retire", "retired", Retired),
        ("retire", "kept", Kept),
    ],
)
def test_the_page_has_the_fields_of_what_is_inside(op: str, name: str, kind: type[msgspec.Struct]) -> None:
    assert sorted(inside(result_of(op), name)) == sorted(kind.__struct_fields__)


def test_the_page_has_the_fields_of_a_stream() -> None:
    said = paragraph("**StreamStatus:**")
    assert sorted(fields(said)) == sorted(answers.StreamStatus.__struct_fields__)
    assert inside(said, "slots") == answers.Slots.__struct_fields__
    assert inside(said, "levels") == answers.Level.__struct_fields__
    assert inside(said, "activity") == answers.MidiActivity.__struct_fields__
    assert inside(said, "callback_ns") == answers.CallbackTimes.__struct_fields__


def test_the_page_has_the_fields_of_a_written_slice() -> None:
    assert fields(paragraph("Its result is")) == (*SaveReport.__struct_fields__, "chunks")


def test_the_page_has_the_fields_of_a_device() -> None:
    said = PROTOCOL.partition("**Device:**")[2].partition("\n\n")[0]
    plain = re.sub(r"\([^()]*\)", "", said.replace("Also: ", ", ").replace("**", ""))
    named = re.findall(r"(?:^|,) *`(\w+)[`:]", plain)
    assert sorted(named) == sorted(answers.Device.__struct_fields__)
