"""What a take's counters show, by the callback's own code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from crashing import RATE, CrashingStream, fast_folder

from chaos.engine.watch import NO_CYCLE, NO_DATA, NOTHING_YET, STALLED_NS, Watch
from chaos.terms.ledger import Cause, Confidence, Gap


@pytest.fixture
def stream() -> Iterator[CrashingStream]:
    with fast_folder() as folder:
        made = CrashingStream(folder / "store", folder, chunk_frames=RATE, n_slots=4)
        yield made
        made.stop()


def stats(stream: CrashingStream) -> dict[str, int]:
    return dict(stream.staging.slots.stats())


def test_nothing_is_said_while_frames_come(stream: CrashingStream) -> None:
    watch = Watch()
    for _ in range(3):
        stream.write(480)
        assert watch.flow(stats(stream), stats(stream)["end_ns"] + 10 * STALLED_NS) is None


def test_before_the_first_frame_it_is_told_why_there_is_none(stream: CrashingStream) -> None:
    watch = Watch()
    assert watch.flow(stats(stream), STALLED_NS) is None
    watch.await_frames(stats(stream), 0)
    assert watch.flow(stats(stream), STALLED_NS - 1) is None
    idle: Any = watch.flow(stats(stream), STALLED_NS)
    assert (idle.flows, idle.reason, idle.is_idle) == (False, NO_CYCLE, False)
    stream.staging.slots.cycle(0, 480, None)
    told: Any = watch.flow(stats(stream), STALLED_NS + 1)
    assert (told.flows, told.reason, told.is_idle) == (False, NOTHING_YET, False)
    assert watch.flow(stats(stream), STALLED_NS + 2) == idle
    stream.write(480)
    told = watch.flow(stats(stream), STALLED_NS + 3)
    assert told.flows


def test_a_take_that_begins_without_a_frame_is_stalled_from_its_start(stream: CrashingStream) -> None:
    """Also where it was told late that frames are due: whoever asked for the start is told so in the answer."""
    watch, ten_ms = Watch(), 10_000_000
    for cycle in range(101):
        stream.staging.slots.cycle(cycle * 480, 480, None, monotonic_ns=(cycle + 1) * ten_ms, linked=True)
    assert stats(stream)["first_ns"]
    end_ns = stats(stream)["end_ns"]
    watch.await_frames(stats(stream), end_ns - STALLED_NS // 2)
    told: Any = watch.flow(stats(stream), end_ns)
    assert (told.flows, told.reason) == (False, NO_DATA)


def test_a_graph_that_stands_still_is_told_while_it_does_and_its_end_once(stream: CrashingStream) -> None:
    watch = Watch()
    stream.write(480)
    watch.flow(stats(stream), 0)
    end_ns = stats(stream)["end_ns"]
    assert watch.flow(stats(stream), end_ns + STALLED_NS - 1) is None
    for later in (1, 2):
        told: Any = watch.flow(stats(stream), end_ns + later * STALLED_NS)
        assert (told.flows, told.reason, told.is_idle) == (False, NO_CYCLE, True)
    stream.write(480)
    told = watch.flow(stats(stream), end_ns + 2 * STALLED_NS)
    assert told.flows
    stream.write(480)
    assert watch.flow(stats(stream), end_ns + 2 * STALLED_NS) is None


def test_cycles_without_the_devices_frames_are_a_stall_after_a_second(stream: CrashingStream) -> None:
    watch = Watch()
    stream.write(480)
    watch.flow(stats(stream), 0)
    stream.no_data(RATE - 480)
    assert watch.flow(stats(stream), stats(stream)["end_ns"]) is None
    stream.no_data(480)
    told: Any = watch.flow(stats(stream), stats(stream)["end_ns"])
    assert not told.flows


def test_frames_that_are_awaited_are_told_though_they_never_stopped_for_long(stream: CrashingStream) -> None:
    watch = Watch()
    stream.write(480)
    assert watch.flow(stats(stream), 0) is None
    stream.write(480)  # came before it was asked for
    watch.await_frames(stats(stream), end_ns := stats(stream)["end_ns"])
    assert watch.flow(stats(stream), end_ns) is None
    stream.write(480)
    told: Any = watch.flow(stats(stream), end_ns)
    assert told.flows
    stream.write(480)
    assert watch.flow(stats(stream), end_ns) is None


def test_a_device_that_is_back_has_a_second_before_it_is_stalled(stream: CrashingStream) -> None:
    watch = Watch()
    stream.write(480)
    watch.flow(stats(stream), 0)
    back_ns = stats(stream)["end_ns"] + 10 * STALLED_NS
    for since_ns in (back_ns, back_ns + 10 * STALLED_NS):
        watch.await_frames(stats(stream), since_ns)
        assert watch.flow(stats(stream), since_ns + STALLED_NS - 1) is None
        told: Any = watch.flow(stats(stream), since_ns + STALLED_NS)
        assert not told.flows


def test_an_overrun_is_no_stall() -> None:
    with fast_folder() as folder:
        stream = CrashingStream(folder / "store", folder, chunk_frames=16, n_slots=3)
        watch = Watch()
        stream.write(48)
        watch.flow(stats(stream), 0)
        stream.write(2 * RATE)
        assert stats(stream)["overruns"] == 1
        assert watch.flow(stats(stream), stats(stream)["end_ns"]) is None
        stream.crash()


def test_another_rate_is_told_once_each_time(stream: CrashingStream) -> None:
    watch, ours = Watch(), {"sample_rate": 48000, "seen_rate": 48000}
    assert watch.wrong_rate(ours) is None
    assert watch.wrong_rate({**ours, "seen_rate": 44100}) == 44100
    assert watch.wrong_rate({**ours, "seen_rate": 44100}) is None
    assert watch.wrong_rate(ours) is None
    assert watch.wrong_rate({**ours, "seen_rate": 44100}) == 44100
    assert watch.wrong_rate({"sample_rate": 0, "seen_rate": 0}) is None


def test_drift_is_measured_on_one_clock() -> None:
    watch = Watch()
    watch.anchor(1, 1000, 0, RATE)
    watch.anchor(1, 1000 + RATE // 2, 500_000_000, RATE)
    assert watch.drift_ppm is None
    watch.anchor(1, 1000 + 10 * RATE, 10_001_000_000, RATE)
    assert watch.drift_ppm == pytest.approx(-99.99, abs=0.01)
    watch.anchor(2, 0, 11_000_000_000, RATE)
    assert watch.drift_ppm is None


def test_drift_is_measured_anew_after_a_gap_that_the_clock_did_not_count() -> None:
    watch, second = Watch(), 1_000_000_000

    def drift_at(seconds: int, position: int) -> float | None:
        watch.anchor(1, position, seconds * second, RATE)
        return watch.drift_ppm

    assert drift_at(0, 0) is None
    assert drift_at(2, 2 * RATE) == 0
    watch.gap(Gap(2 * RATE, 480, Cause.MISSED, Confidence.EXACT))
    assert drift_at(3, 3 * RATE) == 0
    for gap in (Gap(0, 9, Cause.MISSED, Confidence.CLOCK), Gap(0, 9, Cause.DEVICE_AWAY, Confidence.EXACT)):
        watch.gap(gap)
        assert watch.drift_ppm is None
        assert drift_at(30, 4 * RATE) is None
        assert drift_at(32, 6 * RATE) == 0
    watch.measure_anew()
    assert drift_at(33, 900 * RATE) is None
    assert drift_at(35, 902 * RATE) == 0
    assert drift_at(40, 0) is None
