"""tools/scale: its stores are what a capture leaves, and its section of the report is put in its place."""

from __future__ import annotations

from pathlib import Path

from proof.growth import write_section
from proof.report import _scale_section
from proof.years import DAY_URI, LONG_URI, Shape, make_store

from chaos.store.catalog import Catalog
from chaos.store.store import Store
from chaos.store.verify import verify


def test_its_stores_are_sound(tmp_path: Path) -> None:
    make_store(tmp_path, Shape(takes=12, chunks=2, day_chunks=30, long_chunks=40))
    store = Store(tmp_path)
    with Catalog(store) as catalog:
        entries = catalog.entries()
    assert len(entries) == 14
    assert {entry.state for entry in entries} == {"finished"}
    assert [entry.digest.n_chunks for entry in entries if entry.digest and entry.uri == LONG_URI] == [40]
    for entry in entries:
        assert entry.uri == LONG_URI or verify(entry.path).bad == []
    assert verify(store.path(DAY_URI)).n_chunks == 30


def test_its_section_is_written_behind_the_others_and_replaced(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n\nfigures\n")
    write_section("## A store of years\n\nfirst", page)
    write_section("## A store of years\n\nsecond", page)
    text = page.read_text()
    assert text.startswith("# Benchmarks\n\nfigures\n\n<!-- scale: ")
    assert ("first" in text, text.count("second"), text.count("<!-- scale: ")) == (False, 1, 1)
    (kept,) = _scale_section(page)
    assert text.endswith(f"{kept}\n")
