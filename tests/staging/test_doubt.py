"""Cycles that may be made up in part are held behind the head until that is known: kept then, or made a gap."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chaos._audio import AudioSlots
from chaos._silence import looked
from chaos.staging.owner import Staging
from chaos.terms.form import AudioForm
from chaos.terms.ledger import Cause, Gap

CHUNK = 1024
CYCLE = 64


class Take:
    """A take of two channels, cycle by cycle."""

    def __init__(self, staging: Staging) -> None:
        self.staging = staging
        assert isinstance(staging.slots, AudioSlots)
        self.slots: AudioSlots = staging.slots
        self.at = 0

    def cycle(self, *, brings: bool = True, skipped: int = 0, **told: Any) -> None:
        self.at += skipped
        frames = np.full((CYCLE, 2), 1 + self.at, np.float32)
        self.slots.cycle(self.at, CYCLE, frames.tobytes() if brings else None, interleaved=True, linked=True, **told)
        self.at += CYCLE

    @property
    def head(self) -> int:
        return int(self.slots.stats()["head_frame"])

    @property
    def gaps(self) -> list[tuple[int, int, Cause]]:
        found = [note.gap() for note in self.staging.notes() if note.is_gap]
        return [(each.first_frame, each.n_frames, each.cause) for each in found if isinstance(each, Gap)]

    def samples(self) -> list[float]:
        """The second channel's, of the first slot."""
        with self.staging.slot(0) as data:
            return np.frombuffer(data, np.float32).reshape(2, CHUNK)[1].tolist()


@pytest.fixture
def take(tmp_path: Path) -> Iterator[Take]:
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    staging = Staging(
        tmp_path / "doubt.staging", uri="stream://t/1", recording="", run_id="0" * 32,
        form=AudioForm(2, CHUNK, "f32"), n_slots=4, sample_rate=48000, wake_fd=wake,
    )  # fmt: skip
    yield Take(staging)
    staging.close()
    os.close(wake)


def test_doubtful_frames_are_not_to_be_seen_before_they_are_known(take: Take) -> None:
    take.cycle()
    take.cycle(doubtful=True, asked=True)
    take.cycle(doubtful=True)
    assert take.head == CYCLE
    take.cycle()
    take.cycle(brings=False)
    take.cycle()
    assert take.gaps == [(4 * CYCLE, CYCLE, Cause.NO_DATA)]
    wanted = [1.0 + CYCLE * (k // CYCLE) for k in range(CHUNK)]
    wanted[4 * CYCLE : 5 * CYCLE] = [0.0] * CYCLE
    wanted[6 * CYCLE :] = [0.0] * (CHUNK - 6 * CYCLE)
    assert take.samples() == wanted
    assert take.slots.stats()["n_captured"] == 5 * CYCLE


def test_an_answer_is_of_what_was_asked_of_alone(take: Take) -> None:
    take.cycle()
    take.cycle(doubtful=True, asked=True)
    take.cycle(doubtful=True)
    take.cycle(doubtful=True, asked=True, answered=True)
    assert take.head == 2 * CYCLE
    take.cycle(doubtful=True, answered=True)
    assert take.head == 4 * CYCLE


@pytest.mark.parametrize("end", [{"brings": False}, {"skipped": CYCLE}, {"clock_id": 2}])
def test_what_is_not_known_when_the_cycles_end_is_a_gap(take: Take, end: dict[str, Any]) -> None:
    take.cycle()
    take.cycle(doubtful=True, asked=True)
    take.cycle(doubtful=True)
    take.cycle(**end)
    take.cycle()
    first, n_frames, cause = take.gaps[0]
    assert (first, n_frames >= 2 * CYCLE, cause) == (CYCLE, True, Cause.NO_DATA)
    assert not any(take.samples()[CYCLE : 3 * CYCLE])


def test_a_device_that_went_is_the_cause(take: Take) -> None:
    take.cycle()
    take.cycle(doubtful=True, asked=True)
    take.slots.set_hint(int(Cause.DEVICE_AWAY))
    take.cycle(brings=False)
    take.cycle()
    assert take.gaps == [(CYCLE, 2 * CYCLE, Cause.DEVICE_AWAY)]


def test_a_take_begins_with_no_doubtful_frame_and_ends_before_it(take: Take) -> None:
    take.cycle(doubtful=True, asked=True)
    assert take.slots.stats()["first_ns"] == 0
    take.cycle()
    take.cycle(doubtful=True, asked=True)
    n_frames, gap = take.staging.finish(None)
    assert n_frames == 2 * CYCLE
    assert gap is not None
    assert (gap.first_frame, gap.n_frames, gap.cause) == (CYCLE, CYCLE, Cause.NO_DATA)
    assert not any(take.samples()[CYCLE:])


def test_what_would_take_another_slot_is_not_held(take: Take) -> None:
    for _ in range(CHUNK // CYCLE - 2):
        take.cycle()
    take.cycle(doubtful=True, asked=True)
    take.cycle(doubtful=True)
    assert take.head == CHUNK
    take.cycle()
    assert take.gaps == [(CHUNK - 2 * CYCLE, 2 * CYCLE, Cause.NO_DATA)]


def test_a_doubtful_cycle_that_was_torn_is_missed(take: Take) -> None:
    take.cycle()
    take.cycle(doubtful=True, asked=True)
    take.cycle(doubtful=True, torn=True)
    take.cycle()
    assert take.gaps == [(CYCLE, CYCLE, Cause.NO_DATA), (2 * CYCLE, CYCLE, Cause.MISSED)]
    assert not any(take.samples()[CYCLE : 3 * CYCLE])


SURE, HELD = (False, False, False, False), (True, False, False, False)
ASKED, KNOWN = (True, True, False, False), (False, False, True, False)
ASKED_ON, DENIED = (True, True, True, False), (False, False, False, True)
LEFT, BOTH = 1, 3


@pytest.mark.parametrize(
    ("cycles", "told"),
    [
        ([(0, True, 0), (0, True, 0)], [SURE, SURE]),
        ([(LEFT, True, 0), (LEFT, True, 0), (LEFT, True, 0)], [ASKED, KNOWN, SURE]),
        (
            [(LEFT, True, 0), (LEFT, False, 0), (LEFT, True, 0), (LEFT, False, 0), (LEFT, True, 0), (LEFT, True, 0)],
            [ASKED, HELD, ASKED_ON, HELD, KNOWN, SURE],
        ),
        ([(LEFT, True, 0), (0, False, 0), (0, True, 0)], [ASKED, HELD, KNOWN]),
        ([(LEFT, True, 0), (LEFT, True, 0), (0, True, 0), (LEFT, True, 0)], [ASKED, KNOWN, SURE, ASKED]),
        ([(LEFT, True, 0), (BOTH, True, 0), (BOTH, True, 0)], [ASKED, ASKED_ON, KNOWN]),
        ([(LEFT, True, 0), (0, False, 1), (0, True, 1)], [ASKED, DENIED, SURE]),
        ([(LEFT, True, 0), (LEFT, True, 0), (LEFT, True, 1)], [ASKED, KNOWN, (True, True, False, True)]),
        ([(0, True, 2), (0, True, 2)], [DENIED, SURE]),
    ],
)
def test_a_channel_is_asked_of_when_it_falls_silent(
    cycles: list[tuple[int, bool, int]], told: list[tuple[bool, bool, bool, bool]]
) -> None:
    assert looked(cycles) == told


def test_a_link_that_ended_and_is_there_again_before_the_next_cycle_proves_nothing(take: Take) -> None:
    """The graph may stand still for the cycle in which it went, and go on when it has been made again."""
    take.cycle()
    take.cycle(doubtful=True, asked=True)
    take.cycle(denied=True)
    assert take.gaps == [(CYCLE, CYCLE, Cause.NO_DATA)]
    assert take.head == 3 * CYCLE
    assert not any(take.samples()[CYCLE : 2 * CYCLE])
