"""Events through the very code that the RT callback runs: each at its frame, or the whole cycle a gap."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prepared import await_ready
from sequences import EVENTS_AT, MIDI1, UMP, sequence

from chaos import _layout
from chaos._midi import MidiSlots
from chaos.staging.owner import Staging
from chaos.staging.reader import StagingReader
from chaos.terms.form import MidiForm, records
from chaos.terms.ledger import Cause

GAP = _layout.NOTE_KINDS["gap"]
NOTE_ON = b"\x90\x40\x7f"
Event = tuple[int, int, bytes]


class Rig:
    """The callback's side in one hand and a rotator that keeps all it is given in the other."""

    def __init__(self, staging: Staging) -> None:
        self.staging = staging
        assert isinstance(staging.slots, MidiSlots)
        self.slots = staging.slots
        self.events: list[Event] = []
        self.gaps: list[tuple[int, int, Cause]] = []
        self.position = 1000

    def cycle(self, n_frames: int, controls: Sequence[tuple[int, int, bytes]] | None = (), **told: object) -> None:
        data = None if controls is None else sequence(controls)
        self.slots.cycle(self.position, n_frames, data, **told)  # type: ignore[arg-type]
        self.position += n_frames

    def rotate(self) -> None:
        for kind, cause, _, _, first, n, _, _, _ in self.slots.take_notes():
            if kind == GAP:
                self.gaps.append((first, n, Cause(cause)))
        while (full := self.slots.take_full()) is not None:
            slot, chunk = full
            with self.staging.slot(slot) as view:
                raw = bytes(view)
            end = 0
            origin = chunk * self.staging.form.chunk_frames
            for record in records(raw):
                self.events.append((origin + record.frame, record.kind, raw[record.data]))
                end = record.end
            assert not any(raw[end:]), "what lies behind the last record is zero"
            self.slots.give_back(slot)

    def finish(self) -> int:
        n_frames, gap = self.slots.finish()
        self.rotate()
        if gap is not None:
            self.gaps.append((gap[0], gap[1], Cause(gap[2])))
        return n_frames


@contextmanager
def rig(chunk_frames: int = 100, chunk_bytes: int = 4096, n_slots: int = 4) -> Iterator[Rig]:
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    staging = Staging(
        Path(f"/dev/shm/test-{os.getpid()}-{os.urandom(4).hex()}.staging"), uri="stream://t/1", recording="",
        run_id="0" * 32, form=MidiForm(chunk_frames, chunk_bytes), n_slots=n_slots, sample_rate=48000, wake_fd=wake,
    )  # fmt: skip
    await_ready(staging)
    try:
        yield Rig(staging)
    finally:
        staging.close()
        os.close(wake)


@given(
    events=EVENTS_AT,
    quanta=st.lists(st.integers(1, 128), min_size=1, max_size=5),
    chunk_frames=st.integers(8, 300),
)
def test_any_events_come_back_at_their_frames(
    events: list[tuple[int, tuple[int, bytes]]], quanta: list[int], chunk_frames: int
) -> None:
    """However they are cut into cycles and chunks, and in the order in which a cycle has them."""
    offered = [(frame, kind, data) for frame, (kind, data) in sorted(events, key=lambda event: event[0])]
    n_slots = max(quanta) // chunk_frames + 3
    with rig(chunk_frames, 1 << 14, n_slots) as r:
        at = k = 0
        while at <= 500:
            n = quanta[k % len(quanta)]
            r.cycle(n, [(frame - at, kind, data) for frame, kind, data in offered if at <= frame < at + n])
            r.rotate()
            at, k = at + n, k + 1
        assert r.finish() == at
        assert r.gaps == []
        assert r.events == offered
        assert r.slots.stats()["n_events"] == len(offered)


@given(
    data=st.binary(max_size=400),
    size=st.integers(0, 500),
    offset=st.integers(0, 500),
    maxsize=st.integers(0, 400),
    torn=st.booleans(),
)
def test_any_bytes_never_crash(data: bytes, size: int, offset: int, maxsize: int, torn: bool) -> None:
    with rig() as r:
        r.slots.cycle(1000, 64, data, size=size, offset=offset, maxsize=maxsize, torn=torn)
        r.position += 64
        r.cycle(64, [(3, MIDI1, NOTE_ON)])
        r.finish()
        assert (r.events[-1][1:]) == (MIDI1, NOTE_ON)


@given(controls=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 6), st.binary(max_size=40))), at=st.data())
def test_a_sequence_with_any_word_changed_never_crashes(
    controls: list[tuple[int, int, bytes]], at: st.DataObject
) -> None:
    raw = bytearray(sequence(controls))
    place = at.draw(st.integers(0, len(raw) // 4 - 1)) * 4
    raw[place : place + 4] = at.draw(st.binary(min_size=4, max_size=4))
    with rig() as r:
        r.slots.cycle(1000, 64, bytes(raw))
        r.finish()
        assert r.slots.stats()["head_frame"] in (0, 64)


def test_other_controls_are_left_out() -> None:
    with rig() as r:
        r.cycle(64, [(1, 1, b"property"), (2, MIDI1, NOTE_ON), (3, 3, b"osc"), (4, UMP, bytes(4))])
        r.finish()
        assert r.events == [(2, MIDI1, NOTE_ON), (4, UMP, bytes(4))]


def test_an_event_behind_its_cycle_stands_at_its_end_and_is_counted() -> None:
    with rig() as r:
        r.cycle(64, [(0, MIDI1, NOTE_ON), (0, MIDI1, NOTE_ON), (64, MIDI1, b"\xf8"), (1 << 31, MIDI1, b"\xfa")])
        r.finish()
        assert [event[0] for event in r.events] == [0, 0, 63, 63]
        stats = r.slots.stats()
        assert (stats["n_events"], stats["n_at_zero"], stats["n_beyond"]) == (4, 2, 2)


def test_events_are_counted_on_where_the_recording_begins_later() -> None:
    with rig(chunk_frames=100) as r:
        r.cycle(100, [(0, MIDI1, NOTE_ON), (500, MIDI1, NOTE_ON)])
        r.cycle(50, [(1, MIDI1, NOTE_ON)])
        r.staging.keep(1, 1, n_lost=0, n_gaps=0)
        stats = r.slots.stats()
        assert stats["head_frame"] == 50
        assert (stats["n_events"], stats["n_at_zero"], stats["n_beyond"]) == (3, 1, 1)
        r.finish()
        assert [event[0] for event in r.events[-1:]] == [1]


def test_a_cycle_in_any_order_is_kept_in_that_order() -> None:
    with rig() as r:
        r.cycle(64, [(50, MIDI1, b"\xf8"), (10, MIDI1, b"\xfa")])
        r.finish()
        assert [event[0] for event in r.events] == [50, 10]


@pytest.mark.parametrize("size", [0, 200])
def test_what_did_not_fit_into_the_buffer_is_a_gap_of_that_cycle(size: int) -> None:
    with rig() as r:
        r.cycle(64, [(5, MIDI1, NOTE_ON)])
        r.slots.cycle(r.position, 64, b"", size=size, maxsize=128)
        r.position += 64
        r.cycle(64, [(7, MIDI1, NOTE_ON)])
        assert r.finish() == 192
        assert r.gaps == [(64, 64, Cause.MIDI_OVERFLOW)]
        assert [event[0] for event in r.events] == [5, 135]


def test_what_does_not_fit_into_the_chunk_is_a_gap_up_to_the_next_quiet_cycle() -> None:
    with rig(chunk_frames=200, chunk_bytes=4096) as r:
        r.cycle(64, [(1, MIDI1, bytes(3000))])
        r.cycle(64, [(2, MIDI1, bytes(3000))])
        r.cycle(64, [])
        r.cycle(64, [(7, MIDI1, bytes(900)), (8, MIDI1, bytes(3000))])
        r.finish()
        assert r.gaps == [(64, 64, Cause.MIDI_OVERFLOW)]
        assert [(event[0], len(event[2])) for event in r.events] == [(1, 3000), (199, 900), (200, 3000)]


def test_a_cycle_that_fits_into_neither_of_its_chunks_is_one_gap() -> None:
    with rig(chunk_frames=32, chunk_bytes=4096) as r:
        r.cycle(32, [])
        r.cycle(64, [(1, MIDI1, bytes(5000)), (40, MIDI1, bytes(5000))])
        r.cycle(32, [(1, MIDI1, NOTE_ON)])
        r.finish()
        assert r.gaps == [(32, 64, Cause.MIDI_OVERFLOW)]
        assert r.events == [(97, MIDI1, NOTE_ON)]


def test_a_cycle_that_the_next_one_overtook_leaves_nothing() -> None:
    with rig() as r:
        r.cycle(64, [(1, MIDI1, NOTE_ON)])
        r.cycle(64, [(1, MIDI1, b"\x80\x40\x00")], torn=True)
        r.cycle(64, [(2, MIDI1, NOTE_ON)])
        r.finish()
        assert r.gaps == [(64, 64, Cause.MISSED)]
        assert [event[0] for event in r.events] == [1, 130]
        assert r.slots.stats()["n_events"] == 2


def test_no_buffer_is_no_data_and_foreign_links_keep_all_out() -> None:
    with rig() as r:
        r.cycle(64, [])
        r.cycle(64, None)
        r.cycle(64, [(1, MIDI1, NOTE_ON)], foreign=True)
        r.cycle(64, [])
        r.finish()
        assert r.gaps == [(64, 64, Cause.NO_DATA), (128, 64, Cause.FOREIGN)]
        assert r.events == []


def test_another_process_reads_what_is_committed() -> None:
    with rig(chunk_frames=1000) as r:
        r.cycle(64, [(3, MIDI1, NOTE_ON)])
        with StagingReader(r.staging.path) as reader:
            assert reader.form == r.staging.form
            raw = reader.read_chunk(0, 0, 64)
            assert raw is not None
            assert [(each.frame, raw[each.data]) for each in records(raw)] == [(3, NOTE_ON)]
            r.cycle(64, [(0, MIDI1, b"\xf8")])
            assert reader.read_chunk(0, 0, 64) == raw
            later = reader.read_chunk(0, 64, 128)
            assert later is not None
            assert [(each.frame, later[each.data]) for each in records(later)] == [(64, b"\xf8")]
