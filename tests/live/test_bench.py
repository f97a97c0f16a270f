"""The bench's own instruments measure something: short windows, no figures held against each other."""

from __future__ import annotations

import time
from itertools import pairwise

from proof.bare import bare
from proof.recorders import usage
from proof.speed import measure_callback
from proof.starting import STEPS, measure_starts
from proof.storing import measure_storing
from rig import CountingSource, Session


def test_the_bare_client_copies(session: Session) -> None:
    with CountingSource(session, name="bare-source", channels=3, driver=True) as source:
        with bare(session, source) as client:
            before = usage(client.pid)
            source.wait_for("streaming")
            while usage(client.pid).switches < before.switches + 20:
                time.sleep(0.01)
        assert 0 < client.copy_us < client.callback_us


def test_callback_and_memcpy_are_timed_in_turns(session: Session) -> None:
    found = measure_callback(session, 2, 1024, interleaved=False, rounds=2, window_s=0.2)
    assert len(found.callback_us) == len(found.memcpy_us) == len(found.bare_us) == 2
    assert found.ratio > 0
    assert found.limit > 1


def test_starts_are_timed_step_by_step(session: Session) -> None:
    found = measure_starts(session, 256, rounds=2)
    assert len(found.to_frame) == len(found.to_answer) == 2
    assert list(found.steps) == list(STEPS)
    # Links are noted once they are asked for, and the first frame may come while they are.
    for steps in ([each for each in STEPS if each != "first_frame"], ["node_made", "first_frame", "recording_made"]):
        for before, after in pairwise(steps):
            assert found.steps[before][0] <= found.steps[after][0]


def test_storing_is_more_than_hashing() -> None:
    found = measure_storing(64, 2)
    assert found.all > found.hashing > 0
    assert found.turns > 0
