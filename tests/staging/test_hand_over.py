"""When one take may go on from another: only where the last frame and the first are neighbours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chaos import _layout
from chaos._audio import AudioSlots
from chaos.staging.owner import Staging
from chaos.terms.form import AudioForm


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[AudioSlots, AudioSlots]]:
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    stagings = [
        Staging(
            tmp_path / name,
            uri=f"stream://t/{name}",
            recording="",
            run_id="0" * 32,
            form=AudioForm(1, 64, "f32"),
            n_slots=3,
            sample_rate=48000,
            wake_fd=wake,
        )
        for name in ("1", "2")
    ]
    yield stagings[0].slots, stagings[1].slots
    for staging in stagings:
        staging.close()
    os.close(wake)


def frames(n_frames: int) -> bytes:
    return np.ones((1, n_frames), "<f4").tobytes()


def test_the_next_take_goes_on_where_the_last_cycle_ended(both: tuple[AudioSlots, AudioSlots]) -> None:
    one, other = both
    assert not one.hands_over(other, 0, 32), "nothing has begun"
    one.cycle(0, 32, frames(32))
    assert one.hands_over(other, 32, 32)
    other.cycle(32, 32, frames(32))
    assert one.finish() == (32, None)
    assert (other.stats()["first_position"], other.stats()["head_frame"]) == (32, 32)


def test_the_next_take_begins_with_its_first_frame_however_long_the_device_is_linked(
    both: tuple[AudioSlots, AudioSlots],
) -> None:
    one, other = both
    linked_ns, now_ns = 1_000_000_000, 61_000_000_000
    one.cycle(0, 32, frames(32), monotonic_ns=linked_ns)
    assert one.hands_over(other, 32, 32)
    other.cycle(32, 32, frames(32), monotonic_ns=now_ns)
    stats = other.stats()
    assert (stats["head_frame"], stats["lost_frames"], stats["first_ns"]) == (32, 0, now_ns)


@pytest.mark.parametrize(
    ("position", "changed"), [(64, {}), (0, {}), (32, {"clock_id": 2}), (32, {"rate": 44100})]
)
def test_no_take_begins_at_a_seam_of_the_clock(
    both: tuple[AudioSlots, AudioSlots], position: int, changed: dict[str, int]
) -> None:
    one, other = both
    one.cycle(0, 32, frames(32))
    assert not one.hands_over(other, position, 32, **changed)


def test_no_take_begins_inside_of_a_gap(both: tuple[AudioSlots, AudioSlots]) -> None:
    one, other = both
    one.cycle(0, 32, frames(32))
    one.cycle(32, 32, None)
    assert not one.hands_over(other, 64, 32)
    one.cycle(64, 32, frames(32))
    assert one.hands_over(other, 96, 32)
    one.set_hint(_layout.CAUSES["device_away"])
    assert not one.hands_over(other, 96, 32)


def test_what_was_trusted_stays_trusted(both: tuple[AudioSlots, AudioSlots]) -> None:
    one, other = both
    at = 0
    while not one.trusts(at, 64):
        at += 64
    one.cycle(at, 64, frames(64))
    assert one.trusts(at + 64, 64)
    assert one.hands_over(other, at + 64, 64)
    other.cycle(at + 64, 64, frames(64))
    assert other.trusts(at + 128, 64)
    assert not other.trusts(at + 999, 64)
