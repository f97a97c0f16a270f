"""The hand-off's memory orders, as `chaos/_cycle.pyx` argues them, in all that C11 allows: also what x86 never shows.

Each case is run as it is in the code, and once with each of its orders left out: then it must fail, so that none of
them is idle, and none of these tests either. What orders a load before a store (`note_room`: no note is written over
that the rotator still reads) this model can't show, as its loads see nothing of the future.
"""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from weakmemory import FENCE, Load, Program, Step, Store, Unordered, outcomes

from chaos.terms.form import Record, records

NONE, OLD, NEW = 0, 1, 2
Orders = dict[str, bool]
"""Which orders are kept: a store that releases, a load that acquires, a fence."""


def fence(kept: bool) -> Iterator[Step]:
    if kept:
        yield FENCE


def a_ring_and_the_head(o: Orders) -> bool:
    """`give_full`, `take_full`: who finds the index finds entry and frames of the slot; who finds the head, those."""

    def callback() -> Program:
        yield Store("frames", NEW, releases=False)
        yield Store("head", 1, o["head is published"])
        yield Store("entry", NEW, releases=False)
        yield Store("write", 1, o["index is published"])

    def rotator() -> Program:
        if not (yield Load("write", o["index is found"])):
            return True
        return (yield Load("entry", acquires=False)) == NEW and (yield Load("frames", acquires=False)) == NEW

    def follower() -> Program:
        if not (yield Load("head", o["head is found"])):
            return True
        return (yield Load("frames", acquires=False)) == NEW

    return _holds({"frames": OLD, "head": 0, "entry": OLD, "write": 0}, callback, rotator, follower)


def a_slot_that_is_given_back(o: Orders) -> bool:
    """`give_back`, `take_free`, `read_chunk`: who copies anything of what was written since finds out."""

    def rotator() -> Program:
        yield Store("entry", NONE)
        yield from fence(o["fence before it is cleared"])
        yield Store("frames", NONE, releases=False)
        yield Store("free", 1, o["index is published"])

    def callback() -> Program:
        if (yield Load("free", o["index is found"])):
            yield Store("entry", NEW)
            yield from fence(o["fence before its frames"])
            yield Store("frames", NEW, releases=False)
        return True

    def follower() -> Program:
        if (yield Load("entry")) != OLD:
            return True
        copied = yield Load("frames", acquires=False)
        yield from fence(o["follower's fence"])
        return (yield Load("entry")) != OLD or copied == OLD

    return _holds({"entry": OLD, "frames": OLD, "free": 0}, rotator, callback, follower)


def notes_that_are_overwritten(o: Orders) -> bool:
    """`push_note`, `LiveEnd._new_notes`, in a ring of two: no note is taken that has words of a newer one."""
    size = 2

    def callback() -> Program:
        for index in (2, 3):
            yield from fence(o["fence before the words"])
            for word in ("a", "b"):
                yield Store(f"{word}{index % size}", index, releases=False)
            yield Store("write", index + 1, o["index is published"])
        return True

    def follower() -> Program:
        first = 1  # with one index of margin, as in `LiveEnd`
        end = yield Load("write", o["index is found"])
        read = []
        for index in range(first, end):
            a = yield Load(f"a{index % size}", acquires=False)
            b = yield Load(f"b{index % size}", acquires=False)
            read.append((index, a, b))
        yield from fence(o["follower's fence"])
        oldest = (yield Load("write")) - size + 1
        return all(index == a == b for index, a, b in read if index >= oldest)

    return _holds({"a0": 0, "b0": 0, "a1": 1, "b1": 1, "write": 2}, callback, follower)


def a_gap_and_its_cause(o: Orders) -> bool:
    """`close_gap`, `skip`, `open_gap`: who finds the same gap before and after its cause has that gap's own."""

    def callback() -> Program:
        yield Store("first", NONE)
        yield from fence(o["fence between gaps"])
        yield Store("cause", NEW, releases=False)
        yield Store("first", NEW, o["gap is published"])
        return True

    def follower() -> Program:
        first = yield Load("first", o["gap is found"])
        if first == NONE:
            return True
        cause = yield Load("cause", o["cause is found"])
        return (yield Load("first")) != first or cause == first

    return _holds({"first": OLD, "cause": OLD}, callback, follower)


def _holds(begin: dict[str, int], *threads: Callable[[], Program]) -> bool:
    found = outcomes(begin, *threads)
    assert found
    return all(False not in each for each in found)


CASES: dict[Callable[[Orders], bool], tuple[str, ...]] = {
    a_ring_and_the_head: ("head is published", "index is published", "index is found", "head is found"),
    a_slot_that_is_given_back: (
        "fence before it is cleared", "index is published", "index is found", "fence before its frames",
        "follower's fence",
    ),
    notes_that_are_overwritten: ("fence before the words", "index is published", "index is found", "follower's fence"),
    a_gap_and_its_cause: ("fence between gaps", "gap is published", "gap is found", "cause is found"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_it_holds_in_every_order(case: Callable[[Orders], bool]) -> None:
    assert case(dict.fromkeys(CASES[case], True))


@pytest.mark.parametrize(("case", "left_out"), [(case, order) for case, orders in CASES.items() for order in orders])
def test_each_of_its_orders_is_needed(case: Callable[[Orders], bool], left_out: str) -> None:
    orders = dict.fromkeys(CASES[case], True) | {left_out: False}
    try:
        holds = case(orders)
    except Unordered:
        return
    assert not holds


WRITER = """
import mmap, sys
from chaos import _layout
with open(sys.argv[1], "r+b") as file:
    chunk = mmap.mmap(file.fileno(), 64)
print("begins", flush=True)
while True:
    _layout.store(chunk, 0, 300 | 8 << 32 | 2 << 56)
    _layout.store(chunk, 0, 0)
"""


def test_an_event_that_is_being_written_is_there_as_it_will_be_or_not_at_all(tmp_path: Path) -> None:
    """Read by halves it was one at the chunk's first frame, thousands of times in this test."""
    path = tmp_path / "chunk"
    path.write_bytes(bytes(64))
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"begins\n"
            with path.open("r+b") as file, mmap.mmap(file.fileno(), 64) as chunk:
                found = {tuple(records(chunk)) for _ in range(150_000)}
        finally:
            writer.kill()
    assert found <= {(), (Record(0, 300, 2, 8),)}


IN_THE_CODE = {
    "_atomics.h": (
        "chaos_load(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }",
        "chaos_store(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }",
        "chaos_fence(void) { __atomic_thread_fence(__ATOMIC_ACQ_REL); }",
    ),
    "_cycle.pyx": (
        "chaos_store(&w.table[w.slot].chunk, head // w.definition.chunk_frames)\n    chaos_fence()\n",
        "    chaos_fence()\n    note.kind = kind\n",
        "    chaos_store(&w.rt.gap_first, NONE)\n    chaos_fence()\n",
    ),
    "_slots.pyx": ("chaos_store(&w.table[slot].chunk, NONE)\n        chaos_fence()\n",),
    "staging/live.py": ("acquire_fence()  # before the second look: see `chaos/_cycle.pyx`\n        overwritten =",),
    "staging/reader.py": (
        "acquire_fence()\n        return b\"\".join(pieces) if self._chunk_in(slot) == chunk else None",
        'cause = self._load("gap_cause")\n            before, first = first, self._load("gap_first")\n',
    ),
}  # fmt: skip


@pytest.mark.parametrize("file", IN_THE_CODE)
def test_what_x86_would_not_miss_is_in_the_code(file: str) -> None:
    """The orders above, where the code has them: no test that runs it here would see one of them go."""
    text = (Path(__file__).parents[2] / "chaos" / file).read_text()
    for line in IN_THE_CODE[file]:
        assert line in text, line
