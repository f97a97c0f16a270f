"""A device's clock jumps while no time passes, or stands still: the recording says from which frame on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from crashing import RATE, CrashingStream, fast_folder

from chaos.store.info import load
from chaos.store.verify import verify

JUMPED = 1 << 4
LABEL = "the device's clock jumped here, and its frames went on"


@pytest.fixture
def folder() -> Iterator[Path]:
    with fast_folder() as folder:
        yield folder


def test_it_is_a_mark_and_an_anchor_and_no_gap(folder: Path) -> None:
    stream = CrashingStream(folder / "store", folder / "slots", chunk_frames=4096)
    stream.write(1000)
    stream.tick()
    at_ns = stream.staging.slots.stats()["first_ns"] + 1000 * 10**9 // RATE
    stream.staging.slots.cycle(77, 500, bytes(2 * 4 * 500), rate=RATE, monotonic_ns=at_ns, clock_flags=JUMPED)
    stream.tick()
    assert [told for kind, told in stream.events if kind == "stream_mark"] == [{"frame": 1000, "label": LABEL}]
    assert stream.told("stream_gap") == []
    stream.stop()
    info = load(stream.recording)
    assert info.gaps == []
    assert [(mark.frame, mark.label) for mark in info.marks] == [(1000, LABEL)]
    assert [(anchor.frame, anchor.position) for anchor in info.anchors][:2] == [(0, 1000), (1000, 77)]
    assert verify(stream.recording).bad == []


def test_frames_counted_by_time_are_marked_from_the_first_to_the_last(folder: Path) -> None:
    stream = CrashingStream(folder / "store", folder / "slots", chunk_frames=4096)
    stream.write(1000)
    stream.tick()
    at_ns = stream.staging.slots.stats()["first_ns"] + 1000 * 10**9 // RATE

    def run(n_cycles: int, position: int, step: int) -> int:
        nonlocal at_ns
        for k in range(n_cycles):
            stream.staging.slots.cycle(
                position + k * step, 500, bytes(2 * 4 * 500), rate=RATE, monotonic_ns=at_ns, doubting=True
            )
            at_ns += 500 * 10**9 // RATE
        stream.tick()
        return stream.staging.slots.stats()["head_frame"]

    run(5, 2000, 500)
    head = run(20, 4000, 0)
    run(5, 9 * 10**6, 500)
    stream.stop()
    info = load(stream.recording)
    (begin, said), (end, said_after) = [(mark.frame, mark.label) for mark in info.marks]
    assert (said, said_after) == (
        "counted by time from here: the device's clock stands still",
        "counted by the device's clock from here",
    )
    assert [gap.end_frame for gap in info.gaps][-2:] == [begin, end]
    assert begin < head < end
    assert verify(stream.recording).bad == []
