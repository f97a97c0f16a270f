"""Which cycles the callback believes: not the first after a jump, nor one that comes twice; the very first where its
links tell whose it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos._slots import Slots
from chaos.staging.owner import Staging
from chaos.terms.form import AudioForm


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[Slots]:
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    staging = Staging(
        tmp_path / "trust.staging", uri="stream://t/1", recording="", run_id="0" * 32,
        form=AudioForm(1, 1024, "f32"), n_slots=3, sample_rate=48000, wake_fd=wake,
    )  # fmt: skip
    yield staging.slots
    staging.close()
    os.close(wake)


def test_a_steady_clock_is_believed_from_the_second_cycle_on(slots: Slots) -> None:
    assert [slots.trusts(1024 * k, 1024) for k in range(4)] == [False, True, True, True]
    assert slots.stats()["distrusted"] == 1


def test_short_cycles_wait_for_five_milliseconds(slots: Slots) -> None:
    assert [slots.trusts(64 * k, 64) for k in range(7)] == [False] * 4 + [True] * 3


def test_the_quantum_may_change_on_the_way(slots: Slots) -> None:
    assert [slots.trusts(at, n) for at, n in ((0, 1024), (1024, 512), (1536, 2048), (3584, 64))] == [
        *(False, True, True, True)
    ]


@pytest.mark.parametrize(
    ("position", "clock_id"),
    [(4096, 1), (3072 + 5 * 1024, 1), (2048, 1), (0, 1), (3072, 2)],
    ids=["missed", "missed more", "twice", "back", "another clock"],
)
def test_a_jump_is_believed_only_once_the_clock_runs_on(slots: Slots, position: int, clock_id: int) -> None:
    for k in range(3):
        slots.trusts(1024 * k, 1024)
    assert not slots.trusts(position, 1024, clock_id=clock_id)
    assert slots.trusts(position + 1024, 1024, clock_id=clock_id)


def test_a_late_call_and_the_right_one_for_the_same_cycle_are_both_left_out(slots: Slots) -> None:
    calls = [0, 1, 2, 5, 5, 6, 7]
    assert [slots.trusts(1024 * k, 1024) for k in calls] == [False, True, True, False, False, True, True]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([64, 256, 1024])), max_size=60))
def test_what_is_believed_follows_what_was_seen(cycles: list[tuple[int, int]]) -> None:
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    path = Path(f"/dev/shm/test-{os.getpid()}-{os.urandom(4).hex()}.staging")
    staging = Staging(
        path, uri="stream://t/1", recording="", run_id="0" * 32,
        form=AudioForm(1, 64, "f32"), n_slots=3, sample_rate=48000, wake_fd=wake,
    )  # fmt: skip
    end: int | None = None
    try:
        for jump, n_frames in cycles:
            position = (end or 0) + 64 * jump
            believed = staging.slots.trusts(position, n_frames)
            assert not believed or position == end
            end = position + n_frames
    finally:
        staging.close()
        os.close(wake)


MS = 1_000_000
CYCLE_NS = 1024 * 1_000_000_000 // 48000


def first(slots: Slots, *, linked_ms: float, late_ms: float = 0.1, lacks: int = 0) -> bool:
    """Whether a first call is believed: its cycle began at 1 s, links were asked for at `linked_ms` before that, and
    the callback began `late_ms` after that."""
    began = 1000 * MS
    return slots.trusts(
        48000, 1024, monotonic_ns=began, linked_ns=began - int(linked_ms * MS), now_ns=began + int(late_ms * MS),
        lacks=lacks,
    )  # fmt: skip


def test_a_first_call_of_the_first_cycle_after_its_links_is_believed(slots: Slots) -> None:
    assert first(slots, linked_ms=3)
    assert slots.stats()["distrusted"] == 0
    assert slots.trusts(49024, 1024, linked_ns=997 * MS)


@pytest.mark.parametrize(
    "how",
    [
        {"linked_ms": 16.1},  # the links may have come into the cycle before while that had no frames yet
        {"linked_ms": 40},  # there was a whole cycle between
        {"linked_ms": -0.2, "late_ms": 0.5},  # asked for in this cycle: where the call comes from is not known
        {"linked_ms": 3, "late_ms": CYCLE_NS / MS + 0.1},  # the next cycle must have begun
        {"linked_ms": 3, "late_ms": -0.1},  # the driver's time makes no sense
        {"linked_ms": 3, "lacks": 2},
        {"linked_ms": 1000},  # not known
    ],
)
def test_a_first_call_that_may_be_another_cycles_is_not(slots: Slots, how: dict[str, float]) -> None:
    assert not first(slots, **how)  # type: ignore[arg-type]
    assert slots.trusts(49024, 1024)


def test_only_the_first_call_is_believed_by_its_links(slots: Slots) -> None:
    assert not slots.trusts(48000 - 4096, 1024)
    assert not first(slots, linked_ms=3)


class Calls:
    """Calls of cycles some time apart, whose content PipeWire's mixer has copied, or not."""

    def __init__(self, slots: Slots, n_frames: int, *, mixed: bool = True) -> None:
        self._slots = slots
        self._mixed = mixed
        self._n_frames = n_frames
        self._position = 480_000
        self._now_ns = 1000 * MS

    def missed(self, n_cycles: int) -> None:
        self._position += n_cycles * self._n_frames

    def believed(self, n_calls: int, apart_ns: int, *, resized: bool = False) -> list[bool]:
        found = []
        for _ in range(n_calls):
            self._now_ns += apart_ns
            found.append(
                self._slots.trusts(
                    self._position, self._n_frames, now_ns=self._now_ns, mixed=self._mixed, resized=resized
                )
            )
            self._position += self._n_frames
        return found


def test_mixed_cycles_are_believed_after_three_that_keep_pace(slots: Slots) -> None:
    calls = Calls(slots, 1024)
    assert calls.believed(6, CYCLE_NS) == [False] * 3 + [True] * 3
    calls.missed(1)
    assert calls.believed(6, CYCLE_NS) == [False] * 3 + [True] * 3


def test_mixed_cycles_of_a_driver_that_makes_up_for_lost_time_are_not(slots: Slots) -> None:
    calls = Calls(slots, 1024)
    assert not any(calls.believed(46, 100_000))
    assert calls.believed(4, CYCLE_NS) == [False, False, True, True]
    assert all(calls.believed(46, 100_000)), "what is believed stays so for as long as no position is left out"
    calls.missed(1)
    assert not any(calls.believed(46, 100_000))


def test_mixed_cycles_of_a_clock_that_is_faster_than_time_are_believed_later(slots: Slots) -> None:
    calls = Calls(slots, 256)
    assert calls.believed(110, MS) == [False] * 100 + [True] * 10
    calls.missed(1)
    assert calls.believed(20, 4 * MS) == [False] * 3 + [True] * 17, "these keep pace"
    calls.missed(1)
    assert calls.believed(17, 2 * MS) == [False] * 17, "not yet 100 ms"


def test_a_cycle_that_may_have_another_length_begins_the_wait_anew(slots: Slots) -> None:
    calls = Calls(slots, 1024)
    assert calls.believed(5, CYCLE_NS) == [False] * 3 + [True] * 2
    assert calls.believed(1, CYCLE_NS, resized=True) == [False]
    assert calls.believed(4, CYCLE_NS) == [False] * 2 + [True] * 2


def test_few_mixed_cycles_of_a_fast_clock_are_not_believed_however_long_they_take(slots: Slots) -> None:
    assert Calls(slots, 8192).believed(20, 80 * MS) == [False] * 16 + [True] * 4


def test_frames_of_a_driver_that_makes_up_for_lost_time_are_not_believed_until_it_keeps_pace(slots: Slots) -> None:
    calls = Calls(slots, 256, mixed=False)
    ns = 256 * 1_000_000_000 // 48000
    assert calls.believed(3, ns) == [False, True, True]
    assert all(calls.believed(40, 100_000)), "as long as no position is left out"
    calls.missed(1)
    assert not any(calls.believed(40, 100_000))
    assert calls.believed(2, ns) == [True, True]


def test_frames_of_a_clock_that_is_faster_than_time_are_believed_later(slots: Slots) -> None:
    calls = Calls(slots, 1024, mixed=False)
    assert calls.believed(110, MS) == [False] * 100 + [True] * 10


QUANTUM = 64


def counted(slots: Slots, cycle: int, count: int, *, n_frames: int = QUANTUM, clock_id: int = 1) -> bool:
    """Whether the call is believed that sees this cycle's position and that count."""
    return slots.trusts(cycle * n_frames, n_frames, count=count % (1 << 32), clock_id=clock_id)


def in_step(slots: Slots, first: int, *, offset: int = 0) -> None:
    assert [counted(slots, k, k + offset) for k in range(first, first + 8)][-1]


@pytest.mark.parametrize("offset", [0, 7, (1 << 32) - 25], ids=["", "any count", "over its end"])
def test_a_call_that_is_steadily_a_cycle_behind_is_not_believed(slots: Slots, offset: int) -> None:
    in_step(slots, 0, offset=offset)
    assert not any(counted(slots, k, k - 1 + offset) for k in range(20, 320))
    assert not counted(slots, 319, 319 + offset), "in step from here on, by the position that comes twice"
    assert [counted(slots, k, k + offset) for k in range(320, 325)] == [False] * 3 + [True] * 2


def test_what_is_a_cycle_behind_goes_on_being_it_after_each_jump(slots: Slots) -> None:
    in_step(slots, 0)
    for first in range(20, 320, 10):
        assert not any(counted(slots, k, k - 1) for k in range(first, first + 6))


def test_a_clock_that_left_out_a_cycle_is_believed_after_a_second(slots: Slots) -> None:
    in_step(slots, 0)
    believed = [counted(slots, k, k - 1) for k in range(20, 1000)]
    waited = believed.index(True)
    assert waited - 4 in (750, 751), "cycles of a second, from the one on that would have been believed"
    assert all(believed[waited:])
    in_step(slots, 2000, offset=-1)  # and from then on it costs nothing more


@pytest.mark.parametrize("left_out", [-1, 0, 2, 5])
def test_a_clock_that_left_out_something_else_is_believed_as_ever(slots: Slots, left_out: int) -> None:
    in_step(slots, 0)
    assert [counted(slots, k, k - left_out) for k in range(20, 25)] == [False] * 4 + [True]


def test_another_clock_and_another_length_have_no_count_to_compare(slots: Slots) -> None:
    in_step(slots, 0)
    assert [counted(slots, k, k - 1, clock_id=2) for k in range(20, 25)] == [False] * 4 + [True]
    slots.trusts(0, 1024, count=0, clock_id=2)
    assert counted(slots, 1, 15, n_frames=1024, clock_id=2)
