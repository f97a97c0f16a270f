"""The faulty driver of the rig: each of its commands does to clock and buffers what it says, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from rig import Cycle, FaultyDriver, RigError, Session, Witness, check, decode

QUANTUM = 1024
DISCONT = 1 << 4
SPEED = 20.0

Scene = Callable[..., tuple[FaultyDriver, Witness]]


@pytest.fixture
def scene(session: Session) -> Iterator[Scene]:
    """A faulty driver with these options whose two channels a witness sees; it has begun."""
    with ExitStack() as stack:

        def make(
            linger_ms: int = 0, led_by: FaultyDriver | None = None, **options: Any
        ) -> tuple[FaultyDriver, Witness]:
            driver = stack.enter_context(FaultyDriver(session, speed=SPEED, hold=True, **options))
            witness = stack.enter_context(Witness(session, driver.node_id, ["audio"] * 2, linger_ms=linger_ms))
            (led_by or driver).begin()
            witness.await_first()
            return driver, witness

        session.force_quantum(QUANTUM)
        yield make


def at(cycles: list[Cycle], position: int) -> int:
    """The place of the cycle that begins at this position."""
    return [cycle.position for cycle in cycles].index(position)


def is_right(cycle: Cycle, n_frames: int = QUANTUM) -> bool:
    """Whether its frames, so many, carry the numbers that its position gives them."""
    samples = cycle.samples
    return samples.shape == (2, n_frames) and check(samples, first=cycle.position % (1 << 30)).ok


def told(driver: FaultyDriver, witness: Witness, command: str) -> tuple[list[Cycle], int]:
    """What was seen, and the place of the cycle in which the command took effect; two follow it at least."""
    position = driver.do(command)[0]
    driver.do("go")
    driver.do("go")
    cycles = witness.see()
    return cycles, at(cycles, position)


def test_without_commands_it_keeps_the_rules(scene: Scene) -> None:
    driver, witness = scene()
    for _ in range(20):
        driver.do("go")
    cycles = witness.see()
    assert len(cycles) >= 20  # the first, and those of the commands; the last may not have come to an end
    assert all(map(is_right, cycles))
    for before, after in itertools.pairwise(cycles):
        assert after.position == before.position + QUANTUM
        assert after.nsec > before.nsec
        assert (after.clock_id, after.xrun, after.flags) == (before.clock_id, 0, 0)


@pytest.mark.parametrize("quantum", [32, 256, 8192])
def test_it_keeps_them_at_every_quantum(session: Session, quantum: int) -> None:
    session.force_quantum(quantum)
    with (
        FaultyDriver(session, hold=True, speed=0) as driver,
        Witness(session, driver.node_id, ["audio"] * 2) as witness,
    ):
        driver.begin()
        witness.await_first()
        for _ in range(5):
            driver.do("go")
        cycles = witness.see()
    assert all(is_right(cycle, quantum) for cycle in cycles)
    assert [c.position for c in cycles] == list(range(cycles[0].position, cycles[-1].position + 1, quantum))


def test_an_overrun_of_the_hardware_is_counted(scene: Scene) -> None:
    cycles, here = told(*scene(), "xrun 7")
    assert [cycle.xrun for cycle in cycles] == [0] * here + [7] * (len(cycles) - here)
    assert all(map(is_right, cycles))


def test_a_discontinuity_is_flagged_once(scene: Scene) -> None:
    cycles, here = told(*scene(), "discont")
    assert [bool(cycle.flags & DISCONT) for cycle in cycles].count(True) == 1
    assert cycles[here].flags & DISCONT


@pytest.mark.parametrize("jump", [100, -5000, 10**6])
def test_its_position_jumps(scene: Scene, jump: int) -> None:
    cycles, here = told(*scene(), f"jump {jump}")
    assert cycles[here].position == cycles[here - 1].position + QUANTUM + jump
    assert cycles[here + 1].position == cycles[here].position + QUANTUM
    assert all(map(is_right, cycles))


def test_its_position_can_be_any(scene: Scene) -> None:
    cycles, here = told(*scene(), f"position {10**14}")
    assert (cycles[here].position, cycles[here + 1].position) == (10**14, 10**14 + QUANTUM)
    assert cycles[here].clock_id == cycles[here - 1].clock_id


def test_its_position_stands_still_while_cycles_go_on(scene: Scene) -> None:
    driver, witness = scene()
    stood = driver.do("stand")[0]
    driver.do("xrun 0")
    driver.do("xrun 0")
    went = driver.do("go")[0]
    driver.do("go")
    driver.do("go")
    cycles = witness.see()
    assert went == stood
    places = [place for place, cycle in enumerate(cycles) if cycle.position == stood]
    assert len(places) >= 4
    assert places == list(range(places[0], places[-1] + 1))
    assert all(cycles[a].nsec < cycles[a + 1].nsec for a in places)
    assert cycles[places[-1] + 1].position == stood + QUANTUM


def test_a_cycle_comes_late(scene: Scene) -> None:
    cycles, here = told(*scene(), "late 80")
    assert cycles[here].nsec - cycles[here - 1].nsec >= 80_000_000
    assert cycles[here].position == cycles[here - 1].position + QUANTUM


@pytest.mark.parametrize("n_frames", [0, 1, 1000, QUANTUM + 1, 3 * QUANTUM])
def test_a_buffer_is_shorter_or_longer_than_its_cycle(scene: Scene, n_frames: int) -> None:
    cycles, here = told(*scene(), f"frames {n_frames}")
    assert [len(cycle.ports[0].samples) for cycle in cycles].count(QUANTUM) == len(cycles) - 1
    assert {port.size for port in cycles[here].ports} == {4 * n_frames}
    assert n_frames == 0 or is_right(cycles[here], n_frames)
    assert cycles[here + 1].position == cycles[here].position + QUANTUM


def test_a_buffer_is_torn_under_its_readers_hands(scene: Scene) -> None:
    driver, witness = scene(linger_ms=40)
    position = driver.do("torn 5")[0]
    driver.wait_for("torn", position=position + QUANTUM)
    driver.do("go")
    driver.do("go")
    cycles = witness.see()
    here = at(cycles, position)
    torn = cycles[here]
    numbers = decode(torn.samples)
    half = QUANTUM // 2
    assert numbers[:half].tolist() == list(range(torn.position, torn.position + half))
    rest = list(range(torn.position + half, torn.position + QUANTUM))
    # From PipeWire 1.6 on the mixer before a port has copied the buffer by then.
    assert numbers[half:].tolist() in ([number + QUANTUM for number in rest], rest)
    assert cycles[here + 1].position == torn.position + 2 * QUANTUM


@pytest.mark.parametrize(("command", "offset"), [("offset 400", 400), ("wrap", 2**32 - 4 * QUANTUM)])
def test_a_chunk_begins_elsewhere(scene: Scene, command: str, offset: int) -> None:
    cycles, here = told(*scene(), command)
    for port in cycles[here].ports:
        if port.offset:
            assert (port.offset, port.size) == (offset, 4 * QUANTUM)
        else:  # from PipeWire 1.6 on the mixer before a port brings it into line
            assert port.size == min(4 * QUANTUM, max(0, port.room - offset))
    assert command == "wrap" or is_right(cycles[here])
    assert all(map(is_right, cycles[:here] + cycles[here + 1 :]))


def test_a_buffer_is_flagged_empty(scene: Scene) -> None:
    cycles, here = told(*scene(), "empty 2")
    for cycle in cycles[here : here + 2]:
        assert all(port.is_empty for port in cycle.ports)
        assert not np.any(cycle.samples)
    others = cycles[:here] + cycles[here + 2 :]
    assert all(is_right(cycle) and not cycle.ports[0].is_empty for cycle in others)


def test_a_cycle_brings_nothing(scene: Scene) -> None:
    cycles, here = told(*scene(), "nothing")
    assert not any(np.any(port.samples) for port in cycles[here].ports)
    assert all(map(is_right, cycles[:here] + cycles[here + 1 :]))


def test_commands_of_one_cycle_take_effect_together(scene: Scene) -> None:
    driver, witness = scene()
    driver.hold()
    for command in ("xrun 3", "jump 50", "frames 10"):
        driver.say(command)
    driver.begin()
    positions = {driver.wait_for("done", command=command)["position"] for command in ("xrun 3", "jump 50")}
    driver.do("go")
    cycles = witness.see()
    assert len(positions) == 1
    here = at(cycles, positions.pop())
    assert cycles[here].position == cycles[here - 1].position + QUANTUM + 50
    assert (cycles[here].xrun, cycles[here].ports[0].size) == (3, 40)


def test_it_follows_another_driver_at_its_own_rate(session: Session, scene: Scene) -> None:
    group = {"node.group": "one-graph"}
    with FaultyDriver(
        session, name="leader", speed=SPEED, hold=True, properties={**group, "priority.driver": "50000"}
    ) as leader:
        _, witness = scene(properties=group, ppm=2000, led_by=leader)
        for _ in range(5):
            leader.do("go")
        cycles = witness.see()
    numbers = np.concatenate([decode(cycle.samples) for cycle in cycles])
    places = np.concatenate([cycle.position + np.arange(QUANTUM) for cycle in cycles])
    assert np.all(numbers == 480_000 + ((places - 480_000) * (1 + 2000e-6)).astype(np.int64))
    assert np.any(np.diff(numbers) == 2)


def test_what_it_does_not_know_it_says(scene: Scene) -> None:
    driver, _ = scene()
    with pytest.raises(RigError, match="wobble 3: there is no such command"):
        driver.do("wobble 3")


def test_another_sources_frames_are_told_apart(scene: Scene) -> None:
    driver, witness = scene(source_id=9)
    driver.do("go")
    samples = witness.see()[0].samples
    assert driver.check(samples).ok
    assert not check(samples).ok
