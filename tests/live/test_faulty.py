"""chaosd beside a device that breaks the rules of clocks and buffers: each frame is right or in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from harness import RawClient, is_pipewire_from
from rig import FaultyDriver, Session, decode

import chaos

QUANTUM = 1024
RATE = 48000
URI = "stream://faulty/1"
# From 1.7 on a port's mixer gives of a longer buffer what the cycle needs: what is cut off never reaches us.
CUTS_LONG_BUFFERS = is_pipewire_from(1, 7)

Make = Callable[..., FaultyDriver]


@pytest.fixture
def driver(session: Session) -> Iterator[Make]:
    """Makes the driver, held; it ends with the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(FaultyDriver(session, hold=True, **options))


def begin(session: Session, client: RawClient, device: FaultyDriver, quantum: int = QUANTUM) -> None:
    session.force_quantum(quantum)
    client.call("device_wait", name="faulty-driver", timeout_s=50)
    client.call("stream_start", uri=URI, device_identity="faulty-driver", format={"type": "audio"}, wait=True)
    device.begin()
    run(client, RATE // 4)


def run(client: RawClient, n_frames: int) -> None:
    """Lets the head move on by so many frames."""
    until = client.call("stream_status", uri=URI)["head_frame"] + n_frames
    while client.event("stream_head_position", stream_uri=URI)["frame"] < until:
        pass


def end(client: RawClient) -> tuple[dict[str, Any], list[tuple[str, int]]]:
    """Stops, checks that each frame outside of gaps is the one that its anchor says, and gives the gaps."""
    stopped = client.call("stream_stop", uri=URI)
    assert stopped["clean"]
    with chaos.open(stopped["recording"]) as recording:
        samples = recording.read(0, stopped["n_frames"])
        gaps, anchors = recording.gaps, recording.anchors
    frames = np.arange(stopped["n_frames"])
    starts = np.array([anchor.frame for anchor in anchors])
    offsets = np.array([anchor.position - anchor.frame for anchor in anchors])
    numbers = frames + offsets[np.searchsorted(starts, frames, side="right") - 1]
    lost = np.zeros(frames.size, bool)
    for gap in gaps:
        lost[gap.first_frame : gap.end_frame] = True
    assert np.array_equal(decode(samples)[~lost], numbers[~lost] % (1 << 30))
    assert not samples[:, lost].any()
    assert stopped["lost_frames"] == lost.sum()
    return stopped, [(gap.cause.label, gap.n_frames) for gap in gaps]


@pytest.mark.parametrize(
    ("command", "gaps"),
    [
        ("frames 500", [("no_data", QUANTUM)]),
        ("frames 2000", [("no_data", QUANTUM)]),
        ("wrap", [("no_data", QUANTUM)]),
        ("nothing 3", [("no_data", 3 * QUANTUM)]),
        ("empty 3", []),
        ("jump 4000", [("missed", 4000 + QUANTUM)]),
        ("late 60", []),
    ],
)
def test_a_fault_costs_what_it_broke(
    session: Session, driver: Make, client: RawClient, command: str, gaps: list[tuple[str, int]]
) -> None:
    device = driver()
    begin(session, client, device)
    device.do(command)
    run(client, RATE // 4)
    if command.startswith("empty"):  # the device's own silence: frames like any others, without numbers
        stopped = client.call("stream_stop", uri=URI)
        assert (stopped["clean"], stopped["n_gaps"]) == (True, 0)
        return
    if command == "frames 2000" and CUTS_LONG_BUFFERS:
        gaps = []
    assert end(client)[1] == gaps


def test_a_device_silent_at_the_largest_quantum_is_not_without_data(
    session: Session, driver: Make, client: RawClient
) -> None:
    device = driver()
    begin(session, client, device, 8192)
    device.do("empty 3")
    run(client, 8 * 8192)
    stopped = client.call("stream_stop", uri=URI)
    assert (stopped["clean"], stopped["n_gaps"]) == (True, 0)


def test_a_torn_cycle_and_the_one_after_it_are_missed(session: Session, driver: Make, client: RawClient) -> None:
    device = driver()
    begin(session, client, device)
    for _ in range(5):
        device.do("torn 0")
        run(client, 8 * QUANTUM)
    gaps = end(client)[1]
    assert {cause for cause, _ in gaps} == {"missed"}


@pytest.mark.parametrize(
    "command", ["position 100000000000000", "position 9223372036854775807", "jump -200000"]
)
def test_a_clock_that_leaps_costs_the_time_it_took(
    session: Session, driver: Make, client: RawClient, command: str
) -> None:
    device = driver()
    begin(session, client, device)
    device.do(command)
    run(client, RATE // 4)
    stopped, gaps = end(client)
    assert [cause for cause, _ in gaps] == ["clock_jump"]
    assert gaps[0][1] <= 4 * QUANTUM
    assert stopped["n_frames"] < 20 * RATE


def test_another_quantum_costs_the_driver_nothing(session: Session, driver: Make, client: RawClient) -> None:
    device = driver()
    begin(session, client, device)
    for quantum in (64, 1024, 32, 2048, 256):
        session.force_quantum(quantum)
        while client.call("stream_status", uri=URI)["quantum"] != quantum:
            client.event("stream_head_position", stream_uri=URI)
    run(client, 4 * QUANTUM)
    causes = {cause for cause, _ in end(client)[1]}
    # Newer servers suspend the device and its clients for that: nobody gets a cycle that runs at that moment.
    assert causes <= ({"missed"} if is_pipewire_from(1, 0) else set())


def test_a_clock_that_comes_to_a_stand_goes_on_by_time(session: Session, driver: Make, client: RawClient) -> None:
    device = driver()
    begin(session, client, device)
    device.do("stand")
    run(client, RATE)
    assert any("stands still" in note for note in client.call("stream_status", uri=URI)["notes"])
    device.do("go")
    run(client, RATE // 4)
    assert client.call("stream_stop", uri=URI)["clean"]


def test_a_clock_that_repeats_a_position_costs_the_time_of_it(
    session: Session, driver: Make, client: RawClient
) -> None:
    device = driver()
    begin(session, client, device)
    device.do("jump -1024")
    run(client, RATE // 4)
    _, gaps = end(client)
    assert [cause for cause, _ in gaps] == ["missed"]


@pytest.mark.skipif(not is_pipewire_from(1, 0), reason="the clock's count of losses came after 0.3.65")
def test_what_the_driver_lost_is_in_the_ledger(session: Session, driver: Make, client: RawClient) -> None:
    device = driver()
    begin(session, client, device)
    device.do("xrun 700")
    run(client, RATE // 4)
    assert end(client)[1] == [("hardware_xrun", 700)]


@pytest.mark.skipif(not is_pipewire_from(1, 0), reason="links became asynchronous after 0.3.65")
def test_frames_that_come_a_cycle_late_stay_in_their_place(session: Session, driver: Make, client: RawClient) -> None:
    """An asynchronous node's buffers are the last cycle's; each frame is still the one that its anchor says."""
    group = {"node.group": "late"}
    with FaultyDriver(session, name="leader", hold=True, properties={**group, "priority.driver": "30000"}) as leader:
        device = driver(properties={**group, "node.async": "true"})
        session.force_quantum(QUANTUM)
        client.call("device_wait", name="faulty-driver", timeout_s=50)
        client.call("stream_start", uri=URI, device_identity="faulty-driver", format={"type": "audio"}, wait=True)
        device.begin()
        leader.begin()
        run(client, RATE // 2)
        assert end(client)[1] == []


@pytest.mark.parametrize(("layout", "later"), [("planar", (64, 100)), ("interleaved", (100, 100))])
def test_how_late_its_ports_are_is_in_the_status_and_the_recording(
    session: Session, driver: Make, client: RawClient, layout: str, later: tuple[int, int]
) -> None:
    """The latest port counts (a converter tells of one only); while the device is away nothing is told."""
    device = driver(delay=64)
    session.force_quantum(QUANTUM)
    client.call("device_wait", name="faulty-driver", timeout_s=50)
    audio = {"type": "audio", "layout": layout}
    client.call("stream_start", uri=URI, device_identity="faulty-driver", format=audio, wait=True)
    device.begin()
    run(client, RATE // 4)
    assert late(client, 64)
    device.delay(*later)
    assert late(client, 100)
    device.stop()
    client.event("stream_state", stream_uri=URI, state="waiting")
    device = driver(delay=100)
    device.begin()
    client.event("stream_state", stream_uri=URI, state="streaming")
    run(client, RATE // 2)
    assert late(client, 100)
    device.delay(-70, 0)  # early: not late, that is
    assert late(client, 0)
    stopped, _ = end(client)
    with chaos.open(stopped["recording"]) as recording:
        assert [(each.quanta, each.frames, each.ns) for _, each in recording.latencies] == [
            (0.0, frames, 0) for frames in (64, 100, 0)
        ]


def late(client: RawClient, n_frames: int) -> bool:
    """Waits until the status says that the device is so late."""
    while client.call("stream_status", uri=URI)["latency"] != {"quanta": 0.0, "frames": n_frames, "ns": 0}:
        client.event("stream_head_position", stream_uri=URI)
    return True
