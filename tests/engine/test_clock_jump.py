"""A device's clock jumps while no time passes: the recording says so, and has no gap."""

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
