"""Waiting for a device: answered once, forgotten with whoever asked, and cheap however many wait."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, cast

import pytest
from lone import StillPump
from world import World, map_of

from chaos.engine.messages import Wait
from chaos.engine.waits import Waits
from chaos.graph.devices import DeviceMap
from chaos.system.pump import Pump
from chaos.terms.errors import DeviceAmbiguous, TimedOut


class Desk:
    """Waits that are dropped as soon as they ask to be."""

    def __init__(self) -> None:
        self.pump = StillPump()
        self.waits = Waits(cast(Pump, self.pump), lambda number: self.waits.drop(number))

    def wait(self, name: str, devices: DeviceMap) -> Future[Any]:
        future: Future[Any] = Future()
        self.waits.add(Wait(name, 5.0, future), devices)
        return future


def test_a_wait_is_answered_when_the_device_comes() -> None:
    desk, world = Desk(), World()
    first, other = desk.wait("mic", DeviceMap()), desk.wait("other", DeviceMap())
    desk.waits.look(DeviceMap())
    assert not first.done()
    world.node("mic")
    desk.waits.look(map_of(world))
    assert first.result(0).device["name"] == "mic"
    assert desk.wait("mic", map_of(world)).done()
    assert not other.done()
    assert (len(desk.waits), len(desk.pump.timers)) == (1, 1)


def test_one_that_becomes_ambiguous_is_told_so() -> None:
    desk, world = Desk(), World()
    future = desk.wait("Twin", DeviceMap())
    world.node("a", description="Twin")
    world.node("b", description="Twin")
    desk.waits.look(map_of(world))
    with pytest.raises(DeviceAmbiguous):
        future.result(0)


def test_time_runs_out() -> None:
    desk = Desk()
    future = desk.wait("mic", DeviceMap())
    [ring] = desk.pump.timers.values()
    ring()
    with pytest.raises(TimedOut, match="5 s"):
        future.result(0)
    assert (len(desk.waits), desk.pump.timers) == (0, {})


def test_a_cancelled_wait_is_gone_at_once() -> None:
    desk = Desk()
    kept = desk.wait("mic", DeviceMap())
    futures = [desk.wait("mic", DeviceMap()) for _ in range(1000)]
    for future in futures:
        assert future.cancel()
    assert (len(desk.waits), len(desk.pump.timers)) == (1, 1)
    assert not kept.done()


def test_each_name_is_looked_up_once_however_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, asked = Desk(), []
    for number in range(2000):
        desk.wait(f"mic {number % 2}", DeviceMap())
    devices = map_of(World())
    find = devices.find
    monkeypatch.setattr(devices, "find", lambda name, kind: (asked.append(name), find(name, kind=kind)))
    desk.waits.look(devices)
    assert asked == ["mic 0", "mic 1"]


def test_all_are_refused_at_the_end() -> None:
    desk = Desk()
    futures = [desk.wait("mic", DeviceMap()) for _ in range(3)]
    desk.waits.close()
    assert all(isinstance(future.exception(0), TimedOut) for future in futures)
    assert desk.pump.timers == {}
