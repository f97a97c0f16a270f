"""What the callback makes of clocks that jump, stand still, run away or tell of losses of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prepared import await_ready

from chaos._audio import AudioSlots
from chaos._rt import begun, judged
from chaos.staging.layout import Note
from chaos.staging.owner import Staging
from chaos.terms.form import AudioForm
from chaos.terms.ledger import Cause, Confidence

N = 1024
RATE = 48000
CYCLE_NS = N * 10**9 // RATE
FREEWHEELS, JUMPED = 1 << 0, 1 << 4
EMPTY, CORRUPTED = 1 << 1, 1 << 0

GapTuple = tuple[int, int, Cause, Confidence]


class Device:
    """A mono device and its clock; each `run` is a cycle, as the process callback sees it."""

    def __init__(self, slots: AudioSlots) -> None:
        self.slots = slots
        self.position = 0
        self.ns = 10**12

    def run(self, cycles: int = 1, *, data: bool = True, moves: bool = True, time_ns: int = CYCLE_NS,
            flags: int = 0, xrun: int = 0, torn: bool = False, linked: bool = True,
            clock_id: int = 1, frames: int = N, other: int = 0, whole: bool = False) -> None:  # fmt: skip
        for _ in range(cycles):
            self.slots.cycle(
                self.position, frames, bytes(4 * frames) if data else None, monotonic_ns=self.ns, clock_flags=flags,
                xrun=xrun, torn=torn, doubting=True, linked=linked, clock_id=clock_id,
                other_frames=other, whole=whole,
            )  # fmt: skip
            self.position += frames if moves else 0
            self.ns += time_ns

    def miss(self, frames: int, seconds: float) -> None:
        """The clock moves on by `frames` while `seconds` pass."""
        self.position += frames
        self.ns += int(seconds * 10**9)

    def gaps(self) -> list[GapTuple]:
        """All gaps so far; an open one ends here."""
        _, last = self.slots.finish()
        found = [(note[4], note[5], note[1], note[2]) for note in self.slots.take_notes() if note[0] == 1]
        if last is not None:
            found.append(last)
        return [(first, n, Cause(cause), Confidence(sure)) for first, n, cause, sure in found]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    staging = Staging(
        tmp_path / "s.staging", uri="stream://t/1", recording="", run_id="0" * 32, form=AudioForm(1, 1 << 20, "f32"),
        n_slots=3, sample_rate=0, wake_fd=wake,
    )  # fmt: skip
    await_ready(staging)
    yield Device(staging.slots)
    staging.close()
    os.close(wake)


def head(device: Device) -> int:
    return device.slots.stats()["head_frame"]


def test_missed_cycles_are_exact(device: Device) -> None:
    device.run(5)
    device.miss(7 * N, 7 * N / RATE)
    device.run(5)
    assert device.gaps() == [(4 * N, 8 * N, Cause.MISSED, Confidence.EXACT)]


@pytest.mark.parametrize("jump", [10**14, 10**9, 48000 * 5])
def test_a_clock_that_runs_away_costs_only_the_time_that_passed(device: Device, jump: int) -> None:
    device.run(5)
    device.miss(jump, 0)
    device.run(5)
    assert device.gaps() == [(4 * N, N, Cause.CLOCK_JUMP, Confidence.CLOCK)]
    assert head(device) == 9 * N


def test_a_driver_that_was_late_may_make_up_for_it(device: Device) -> None:
    device.run(5)
    device.miss(0, 0.5)  # late it was, and then it runs eight cycles at once
    device.run(1)
    device.miss(7 * N, 0)
    device.run(5)
    assert device.gaps() == [(5 * N, 8 * N, Cause.MISSED, Confidence.EXACT)]


def test_not_for_more_than_two_seconds(device: Device) -> None:
    device.run(5)
    device.miss(0, 10)
    device.run(1)
    device.miss(3 * RATE, 0)
    device.run(5)
    ((first, n, cause, _),) = device.gaps()
    assert (first, cause) == (5 * N, Cause.CLOCK_JUMP)
    assert n <= N


def test_a_pause_that_the_clock_shows_may_be_long(device: Device) -> None:
    device.run(5)
    device.miss(3600 * RATE, 3600)
    device.run(5)
    assert device.gaps() == [(4 * N, 3600 * RATE + N, Cause.MISSED, Confidence.EXACT)]


def test_a_graph_faster_than_time_may_miss_more_than_time_had(device: Device) -> None:
    device.run(1200, time_ns=CYCLE_NS // 200)
    first = head(device)
    device.miss(500 * N, 0.06)
    device.run(1000, time_ns=CYCLE_NS // 200)
    ((at, n, cause, sure),) = device.gaps()
    assert (at, cause, sure) == (first, Cause.MISSED, Confidence.EXACT)
    assert (500 + 100) * N < n < (500 + 1000) * N, "and it is believed after 100 ms again"


def test_also_a_faster_one_has_its_bound(device: Device) -> None:
    device.run(100, time_ns=CYCLE_NS // 200, flags=FREEWHEELS)
    device.miss(10**14, 0.06)
    device.run(5, time_ns=CYCLE_NS // 200, flags=FREEWHEELS)
    ((first, n, cause, _),) = device.gaps()
    assert (first, cause) == (99 * N, Cause.CLOCK_JUMP)
    assert n < RATE
    assert device.slots.stats()["freewheeled"] == 103


def test_a_clock_that_says_it_jumped_is_believed(device: Device) -> None:
    device.run(5)
    device.miss(300 * N, 1.0)
    device.run(1, flags=JUMPED)
    device.run(4)
    assert device.gaps() == [(4 * N, RATE + N, Cause.CLOCK_JUMP, Confidence.CLOCK)]


@contextmanager
def fresh_slots() -> Iterator[AudioSlots]:
    """Those of a staging file of their own, for one example."""
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    path = Path(f"/dev/shm/test-{os.getpid()}-{os.urandom(4).hex()}.staging")
    staging = Staging(
        path, uri="stream://t/1", recording="", run_id="0" * 32, form=AudioForm(1, 1 << 18, "f32"),
        n_slots=3, sample_rate=0, wake_fd=wake,
    )  # fmt: skip
    await_ready(staging)
    try:
        yield staging.slots
    finally:
        staging.close()
        os.close(wake)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 10**10)), max_size=12))
def test_no_clock_stretches_a_take_beyond_its_time(jumps: list[tuple[int, int]]) -> None:
    with fresh_slots() as slots:
        device = Device(slots)
        device.run(20)
        for position, time_ns in jumps:
            device.position = position
            device.ns += time_ns
            for _ in range(3):
                device.position %= 1 << 64
                device.run()
        passed = (device.ns - 10**12) * RATE // 10**9
        assert head(device) <= passed * 9 // 8 + 8 * N * (len(jumps) + 1)


def test_what_the_driver_lost_itself_is_a_gap_of_its_own(device: Device) -> None:
    device.run(5, xrun=100)
    device.ns += 300 * 10**9 // RATE
    device.run(5, xrun=400)
    assert device.gaps() == [(4 * N, 300, Cause.HARDWARE_XRUN, Confidence.ESTIMATED)]
    assert head(device) == 9 * N + 300


def test_both_losses_at_once_stay_apart(device: Device) -> None:
    device.run(5)
    device.miss(2 * N, 2 * N / RATE)
    device.ns += 300 * 10**9 // RATE
    device.run(5, xrun=300)
    assert device.gaps() == [
        (4 * N, 3 * N, Cause.MISSED, Confidence.EXACT),
        (7 * N, 300, Cause.HARDWARE_XRUN, Confidence.ESTIMATED),
    ]


def test_a_driver_cannot_have_lost_more_than_there_was_time_for(device: Device) -> None:
    device.run(5)
    device.run(5, xrun=10**15)
    ((first, n, cause, _),) = device.gaps()
    assert (first, cause) == (4 * N, Cause.HARDWARE_XRUN)
    assert n <= 5 * N


def test_the_count_of_another_driver_is_no_loss(device: Device) -> None:
    device.run(5, xrun=100)
    device.slots.cycle(device.position, N, bytes(4 * N), monotonic_ns=device.ns, clock_id=2, xrun=9999)
    assert device.gaps() == [(4 * N, 0, Cause.DRIVER_SWITCH, Confidence.CLOCK)]


def test_a_clock_that_stands_still_is_counted_by_time(device: Device) -> None:
    device.run(14, moves=False)
    assert head(device) > 0
    before = head(device)
    device.run(40, moves=False)
    assert head(device) == before + 40 * N
    assert device.slots.stats()["stands"] == 1
    device.ns += 10 * CYCLE_NS
    device.run(5, moves=False)
    ((first, n, cause, sure),) = device.gaps()
    assert (first, n, cause, sure) == (before + 40 * N, 13 * N, Cause.MISSED, Confidence.CLOCK)


def test_late_and_early_calls_under_a_clock_that_stands_lose_nothing(device: Device) -> None:
    device.run(14, moves=False)
    before = head(device)
    for early in range(40):
        device.run(1, moves=False, time_ns=CYCLE_NS * (6 if early % 2 else 14) // 10)
    assert head(device) == before + 40 * N
    assert device.gaps() == []


STOPS = st.lists(st.tuples(st.integers(1, 100), st.integers(10, 120)), min_size=1, max_size=25)  # ms: runs, is stopped


@given(STOPS, st.booleans())
def test_cycles_of_a_clock_that_stands_keep_their_place_or_are_in_a_gap(
    stops: list[tuple[int, int]], waits: bool
) -> None:
    """chaosd is stopped again and again. A device that `waits` begins no cycle before it has been called for the last
    one, then makes up for the time; one that doesn't goes on, and after a stop shows a later cycle than it was called
    for."""
    ms, origin = 10**6, 10**12
    with fresh_slots() as slots:
        stopped, at = list[tuple[int, int]](), origin + 500 * ms
        for runs_ms, stopped_ms in stops:
            stopped.append((at + runs_ms * ms, at + (runs_ms + stopped_ms) * ms))
            at = stopped[-1][1]
        places = dict[int, int]()  # of each believed cycle: where its first frame is

        def call(cycle: int, shown_ns: int, call_ns: int) -> None:
            before = slots.stats()
            slots.cycle(0, N, bytes(4 * N), monotonic_ns=shown_ns, now_ns=call_ns, doubting=True, linked=True)
            after = slots.stats()
            if after["n_captured"] > before["n_captured"]:
                assert cycle not in places
                places[cycle] = after["head_frame"] - N

        def runs_at(ns: int) -> int:
            return next((end for begin, end in stopped if begin <= ns < end), ns)

        last_call = 0
        for cycle in range((at - origin) // CYCLE_NS + 60):
            due = origin + cycle * CYCLE_NS
            begun = max(due, last_call + ms // 10) if waits else due
            last_call = runs_at(begun + ms // 10)
            shown = begun if waits else due + (last_call - due) // CYCLE_NS * CYCLE_NS
            if not waits and shown > due:
                if runs_at(due - CYCLE_NS + ms // 10) < last_call:  # woken once, however many cycles have passed
                    call(cycle, shown, last_call)
            else:
                call(cycle, begun, last_call)
        assert len(places) > 30
        (first, begin), *_ = places.items()
        assert places == {cycle: begin + (cycle - first) * N for cycle in places}
        assert slots.stats()["head_frame"] == begin + (max(places) - first + 1) * N


def test_a_call_for_the_same_cycle_again_is_no_clock_that_stands(device: Device) -> None:
    device.run(5)
    for _ in range(20):
        device.run(1, moves=False, time_ns=0)
    assert device.slots.stats()["stands"] == 0


def test_after_a_torn_cycle_the_next_is_not_believed(device: Device) -> None:
    device.run(5)
    device.run(1, torn=True)
    device.run(3)
    assert device.gaps() == [(4 * N, 2 * N, Cause.MISSED, Confidence.EXACT)]


def test_a_device_that_does_not_run_at_first_begins_with_its_first_frame(device: Device) -> None:
    device.ns += 5 * 10**9
    device.run(1, data=False)
    device.run(3)
    assert device.gaps() == []


def test_a_device_that_brings_nothing_begins_with_a_gap_of_its_cycles(device: Device) -> None:
    device.run(47, data=False)  # the first is not believed
    assert (head(device), device.slots.stats()["first_ns"]) == (0, 0)
    device.run(1, data=False)
    stats = device.slots.stats()
    assert (stats["head_frame"], stats["gap_first"], stats["gap_cause"]) == (47 * N, 0, Cause.NO_DATA)
    assert stats["first_position"] == N
    assert stats["first_ns"] == pytest.approx(10**12 + CYCLE_NS, abs=100)
    device.run(10, data=False)
    device.run(3)
    assert device.gaps() == [(0, 57 * N, Cause.NO_DATA, Confidence.EXACT)]
    assert head(device) == 60 * N
    assert device.slots.stats()["first_position"] + head(device) == device.position


@pytest.mark.parametrize("how", ["clock", "position", "flag", "unlinked"])
def test_only_cycles_in_a_row_on_one_clock_are_such_a_gap(device: Device, how: str) -> None:
    """What came before a break belongs to another clock, or is of unknown length."""
    device.run(40, data=False, clock_id=2 if how == "clock" else 1, linked=how != "unlinked")
    device.miss(5 * N if how == "position" else 0, 0)
    device.run(1, data=False, flags=JUMPED if how == "flag" else 0)
    device.run(45, data=False)
    assert head(device) == 0
    device.run(3, data=False)
    device.run(1)
    ((first, n, cause, sure),) = device.gaps()
    assert (first, cause, sure) == (0, Cause.NO_DATA, Confidence.EXACT)
    assert 47 * N <= n <= 49 * N
    assert device.slots.stats()["first_position"] + head(device) == device.position


def test_a_clock_that_changes_after_such_a_beginning_is_a_switch(device: Device) -> None:
    device.run(60, data=False)
    device.position = 7 * RATE
    device.run(3, clock_id=2)
    assert [(cause, sure) for _, _, cause, sure in device.gaps()] == [
        (Cause.NO_DATA, Confidence.EXACT),
        (Cause.DRIVER_SWITCH, Confidence.CLOCK),
    ]


def test_a_device_that_is_a_little_slow_begins_with_its_first_frame(device: Device) -> None:
    device.run(40, data=False)
    device.run(3)
    assert device.gaps() == []
    assert head(device) == 3 * N


def test_only_its_own_clocks_frames_are_kept_where_that_is_asked(device: Device) -> None:
    device.slots.set_own_clock(1)
    device.run(5)
    device.run(20, clock_id=2)
    assert (head(device), device.slots.stats()["other_clock"]) == (4 * N, 0), "links may just be made"
    device.run(10, clock_id=2)
    assert (head(device), device.slots.stats()["other_clock"]) == (4 * N, 2)
    device.run(5)
    assert device.slots.stats()["other_clock"] == 0
    assert device.gaps() == [(4 * N, 31 * N, Cause.MISSED, Confidence.EXACT)]


def test_a_stall_is_an_open_gap_that_the_clock_measures(device: Device) -> None:
    device.run(5)
    before = device.slots.stats()
    device.slots.set_stalled()
    stalled = device.slots.stats()
    assert (stalled["gap_first"], stalled["gap_cause"], stalled["n_gaps"]) == (4 * N, Cause.MISSED, 1)
    device.ns += 3 * 10**9  # its clock stands meanwhile
    device.run(1)
    assert device.slots.stats()["gap_first"] == -1
    assert device.slots.stats()["n_gaps"] == before["n_gaps"] == 0
    device.slots.set_stalled()
    device.miss(3 * RATE, 3)  # and now it goes on
    device.run(3)
    assert device.slots.stats()["n_gaps"] == 1
    assert device.gaps() == [(5 * N, 3 * RATE + N, Cause.MISSED, Confidence.EXACT)]


def test_a_take_begins_at_the_time_that_it_is_told_and_not_before(device: Device) -> None:
    device.slots.begin_at(device.ns + 5 * CYCLE_NS - 3)
    device.run(5)
    assert head(device) == 0
    device.run(2)
    assert head(device) == 2 * N
    assert device.slots.stats()["first_position"] == 5 * N
    device.slots.begin_at((1 << 64) - 1)
    device.run(1)
    assert head(device) == 3 * N, "one that has begun goes on"
    assert device.gaps() == []


@pytest.mark.parametrize(
    ("offset", "size", "flags", "linked", "verdict"),
    [
        (0, 4096, 0, True, "usable"),
        (4096, 4096, 0, True, "usable"),
        (0, 4092, 0, True, "spoilt"),
        (0, 4100, 0, True, "spoilt"),
        (0, 8192, 0, True, "spoilt"),
        (32768 - 4092, 4096, 0, True, "spoilt"),
        (0xFFFFF000, 4096, 0, True, "spoilt"),
        (0, 4096, CORRUPTED, True, "spoilt"),
        (0, 4096, EMPTY, True, "usable"),
        (0, 4096, EMPTY, False, "unfed"),
        (0, 32768, EMPTY, True, "unfed"),
    ],
)
def test_a_buffer_is_taken_for_what_it_is(offset: int, size: int, flags: int, linked: bool, verdict: str) -> None:
    assert judged(offset, size, flags, 32768, 4096, linked=linked) == verdict


def test_at_the_largest_quantum_only_the_links_tell_silence_from_nothing() -> None:
    assert judged(0, 32768, EMPTY, 32768, 32768) == "usable"
    assert judged(0, 32768, EMPTY, 32768, 32768, linked=False) == "unfed"


@pytest.mark.parametrize("size", [4096, 32768])
def test_silence_that_a_ports_mixer_makes_up_is_none_of_the_devices(size: int) -> None:
    assert judged(0, size, EMPTY, 32768, size, made_up=True) == "unfed"
    assert judged(0, size, 0, 32768, size, made_up=True) == "usable"  # mixed, or a copy


@pytest.mark.parametrize("n", [1, 5, 7])
def test_cycles_during_which_the_clock_stood_are_lost_by_time(device: Device, n: int) -> None:
    device.run(20)
    before = head(device)
    device.position -= N
    device.run(n, moves=False)
    device.position += N
    device.run(20)
    assert head(device) == before + (20 + n) * N
    ((_, n_frames, cause, sure),) = device.gaps()
    assert (n_frames % N, cause, sure) == (0, Cause.MISSED, Confidence.CLOCK)
    assert device.slots.stats()["n_captured"] + n_frames == before + (20 + n) * N


@pytest.mark.parametrize("back", [N // 2, N, 2 * N, 3 * N])
def test_a_clock_that_goes_back_a_little_loses_no_time(device: Device, back: int) -> None:
    device.run(20)
    before = head(device)
    device.position -= back
    device.run(20)
    assert abs(head(device) - before - 20 * N) <= N // 2
    assert len(device.gaps()) == 1


def test_a_clock_that_stands_and_makes_up_for_it_is_booked_once(device: Device) -> None:
    device.run(20)
    before = head(device)
    device.position -= N
    device.run(5, moves=False)
    device.position += 6 * N
    device.run(20)
    assert head(device) == before + 25 * N


def test_a_clock_that_comes_to_a_stand_loses_no_cycle(device: Device) -> None:
    device.run(20)
    before = head(device)
    device.position -= N
    device.run(40, moves=False)
    assert head(device) == before + 40 * N
    device.position += N
    device.run(20)
    assert abs(head(device) - before - 60 * N) <= N


@pytest.mark.parametrize("position", [(1 << 62) - N // 2, (1 << 63) - 1, 1 << 63, (1 << 64) - 30 * N])
def test_positions_fit_64_bits_with_a_sign(device: Device, position: int) -> None:
    device.run(20)
    device.position = position
    device.run(20)
    assert abs(head(device) - 40 * N) <= N
    notes = device.slots.take_notes()
    assert len(notes) == 3
    assert all(note[6] < 1 << 62 for note in notes)
    stats = device.slots.stats()
    assert stats["position"] == (position + 20 * N) % (1 << 62)


def test_a_clock_that_says_it_jumped_while_no_time_passed_costs_nothing(device: Device) -> None:
    """The frames go on: no gap, but an anchor that says so, where the recording has a mark."""
    device.run(5)
    device.run(1, flags=JUMPED)
    device.run(4)
    stats = device.slots.stats()
    assert (stats["n_gaps"], stats["head_frame"], stats["n_captured"]) == (0, 9 * N, 9 * N)
    device.slots.finish()
    notes = [Note(*note) for note in device.slots.take_notes()]
    assert [(note.first_frame, note.has_jumped) for note in notes] == [(0, False), (4 * N, True)]


OTHERS = [(N, 64), (64, N), (N, N // 2), (N // 2, N), (32, 8192), (8192, 32)]


@pytest.mark.parametrize("counts_by", ["its frames", "the new quantum"])
@pytest.mark.parametrize(("before", "after"), OTHERS)
def test_another_quantum_costs_nothing(device: Device, before: int, after: int, counts_by: str) -> None:
    """Before 0.3.80 the device has filled the cycle by then: it is as long as the one before, and its clock goes on by
    the one or by the other."""
    ns = {n: n * 10**9 // RATE for n in (before, after)}
    device.run(20, frames=before, time_ns=ns[before])
    left_out = device.slots.stats()["first_position"]
    device.run(1, frames=before, other=after, whole=True, time_ns=ns[before])
    if counts_by == "the new quantum":
        device.position += after - before
    device.run(20, frames=after, time_ns=ns[after])
    assert head(device) == 21 * before + 20 * after - left_out
    assert device.gaps() == []


def test_what_a_converter_cut_off_is_missed(device: Device) -> None:
    device.run(5)
    device.run(1, frames=64, other=N)  # the device had filled N
    device.position += N - 64
    device.run(50, frames=64, time_ns=64 * 10**9 // RATE)
    assert device.gaps() == [(4 * N + 64, N - 64, Cause.MISSED, Confidence.EXACT)]


@pytest.mark.parametrize("skipped", [1, 3])
def test_a_cycle_that_is_left_out_after_another_quantum_is_not_taken_for_it(device: Device, skipped: int) -> None:
    """Where the clock counts by the new quantum, a later cycle begins where the longer one would have ended."""
    before, after = (skipped + 1) * 256, 256
    device.run(20, frames=before, time_ns=before * 10**9 // RATE)
    device.run(1, frames=before, other=after, whole=True, time_ns=before * 10**9 // RATE)
    device.position += after - before
    device.miss(skipped * after, skipped * after / RATE)
    kept = device.slots.stats()["n_captured"]
    device.run(1, frames=after, time_ns=after * 10**9 // RATE)
    assert device.slots.stats()["n_captured"] == kept, "its buffers may be the last one's"
    device.run(20, frames=after, time_ns=after * 10**9 // RATE)
    assert len(device.gaps()) == 1


@pytest.mark.parametrize("stood", [1, 2])
def test_a_clock_that_stood_while_the_device_was_away_is_booked_by_time(device: Device, stood: int) -> None:
    device.run(20)
    before = head(device)
    device.slots.set_hint(Cause.DEVICE_AWAY)
    device.run(10, data=False, linked=False)
    device.position -= N
    device.run(stood, data=False, linked=False, moves=False)
    device.position += N
    device.run(20)
    assert head(device) == before + (30 + stood) * N
    ((_, n, cause, sure),) = device.gaps()
    assert (n, cause, sure) == ((10 + stood) * N, Cause.DEVICE_AWAY, Confidence.CLOCK)


@pytest.mark.parametrize(("stood", "sure"), [(0, Confidence.EXACT), (1, Confidence.CLOCK)])
def test_a_stand_that_nobody_saw_is_not_called_exact(device: Device, stood: int, sure: Confidence) -> None:
    device.run(20)
    device.slots.set_hint(Cause.DEVICE_AWAY)
    device.miss(10 * N, (10 + stood) * N / RATE)  # no cycle called
    device.run(20)
    assert [gap[2:] for gap in device.gaps()] == [(Cause.DEVICE_AWAY, sure)]


@pytest.mark.parametrize(
    ("says_s", "seen_s", "is_believed"),
    [
        (99.9, 0, True),
        (97, 96.9, True),  # chaosd was stopped since, and the cycle waited
        (97, 97.1, False),
        (97, 0, False),
        (101.5, 96, False),
        (0, 96, False),
    ],
)
def test_a_cycles_time_is_its_drivers_where_that_can_be(says_s: float, seen_s: float, is_believed: bool) -> None:
    says, seen, now = (int(s * 10**9) for s in (says_s, seen_s, 100))
    assert begun(says, now, seen) == (says if is_believed else now)


@pytest.mark.parametrize(("offset", "verdict"), [(0, "usable"), (4, "usable"), (1, "spoilt"), (2, "spoilt")])
def test_samples_begin_where_a_sample_can(offset: int, verdict: str) -> None:
    assert judged(offset, 4 * N, 0, 8 * N, 4 * N) == verdict
