"""Stores as they are after years, made by the project's own writer in a minute or two.

Audio is small (mono, 8 frames a second), and nothing is synced while a store is made: both change no figure that is
measured afterwards, as none of them reads samples. Everything else is what a capture leaves.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from chaos.store.journal import Journal
from chaos.store.lines import AnchorLine, ChunkLine, Definition, Finish
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.ledger import Cause, ClockAnchor, Confidence, Gap

__all__ = ["DAY_URI", "LONG_URI", "Shape", "definition", "make_store"]

RATE = 8
DAY_URI = "stream://day/1"
LONG_URI = "stream://long/1"
_S = 1_000_000_000


@dataclass(frozen=True)
class Shape:
    """A store of `takes` takes of `take_s` seconds, one after the other up to now, `chunks` chunks each; a take of
    `day_chunks` chunks of 10 s, a day if need be; and, with `long_chunks`, the journal of one take of so many."""

    takes: int = 10_000
    chunks: int = 6
    take_s: int = 3600
    day_chunks: int = 8640
    long_chunks: int = 0


def definition(uri: str, started_wall_ns: int, chunk_s: int, keep: str | None = None) -> Definition:
    return Definition(
        uri=uri,
        channels=1,
        sample_rate=RATE,
        sample_format="s16",
        chunk_frames=chunk_s * RATE,
        device={"identity": f"usb:0d8c:0014:{uri.partition('//')[2]}", "description": "USB audio"},
        positions=["MONO"],
        started_wall_ns=started_wall_ns,
        started_monotonic_ns=started_wall_ns // 2,
        software="chaosd",
        run_id="0" * 32,
        keep=keep,
    )


def make_store(store: Path, shape: Shape, progress: Callable[[int, int], None] | None = None) -> None:
    """Makes the store in a folder that is empty or not there. Raises what the writer raises."""
    began_ns = time.time_ns() - shape.takes * shape.take_s * _S
    chance = random.Random(1)
    with _nothing_synced():
        for number in range(shape.takes):
            uri = f"stream://stream-{number % 10}/{number // 10:05}"
            started_ns = began_ns + number * shape.take_s * _S
            take = definition(uri, started_ns, shape.take_s // shape.chunks)
            _record(store, take, shape.chunks, chance)
            if progress is not None:
                progress(number + 1, shape.takes)
        _record(store, definition(DAY_URI, time.time_ns() - 90_000 * _S, 10), shape.day_chunks, chance)
        if shape.long_chunks:
            _journal(store, definition(LONG_URI, time.time_ns() - shape.long_chunks * 10 * _S, 10), shape.long_chunks)


def _record(store: Path, what: Definition, n_chunks: int, chance: random.Random) -> None:
    """A finished take; one chunk in twenty has a gap in it."""
    writer = RecordingWriter.create(Store(store), what)
    for chunk in range(n_chunks):
        first = chunk * what.chunk_frames
        if chance.random() < 0.05:
            writer.gap(Gap(first + 1, 7, Cause.MISSED, Confidence.EXACT))
        writer.anchor(_anchor(what, first))
        data = memoryview(bytearray(chance.randbytes(8).ljust(what.form.chunk_bytes, b"\1")))
        writer.seal(chunk, data, first, what.chunk_frames)
    writer.finish(n_chunks * what.chunk_frames, clean=True)


def _journal(store: Path, what: Definition, n_chunks: int) -> None:
    """A finished take's journal alone."""
    name, _, take = what.uri.removeprefix("stream://").partition("/")
    folder = store / "recordings" / name / f"{take}.zarr"
    folder.mkdir(parents=True)
    journal = Journal.create(folder / "journal.jsonl", what)
    for chunk in range(n_chunks):
        first = chunk * what.chunk_frames
        journal.append(AnchorLine.of(_anchor(what, first)))
        journal.append(ChunkLine(chunk, first, what.chunk_frames, f"{chunk:064x}"))
        if chunk % 100 == 0:
            journal.flush()
    journal.append(Finish(n_chunks * what.chunk_frames, clean=True))
    journal.flush()
    journal.close()


def _anchor(what: Definition, frame: int) -> ClockAnchor:
    elapsed_ns = frame * _S // RATE
    return ClockAnchor(
        frame, frame, what.started_monotonic_ns + elapsed_ns, what.started_wall_ns + elapsed_ns, clock_id=1
    )


@contextmanager
def _nothing_synced() -> Iterator[None]:
    with mock.patch.object(os, "fsync"), mock.patch.object(os, "fdatasync"):
        yield
