"""Who waits for a device, until it comes, time is up or nobody waits any more."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from chaos.engine.messages import Wait, refuse, settle
from chaos.graph.deviceinfo import DeviceKind
from chaos.graph.devices import DeviceMap
from chaos.protocol.answers import DeviceFound
from chaos.system.pump import Pump
from chaos.terms.errors import DeviceAmbiguous, DeviceNotFound, TimedOut

__all__ = ["Waits"]


class Waits:
    """Each wait is answered once. One whose future is cancelled is dropped at once, whatever else waits.

    Args:
        pump: for their timeouts.
        forget: called from any thread with the number of a wait that is over; it has to come back to `drop`.
    """

    def __init__(self, pump: Pump, forget: Callable[[int], object]) -> None:
        self._pump = pump
        self._forget = forget
        self._numbers = itertools.count()
        self._waits: dict[int, Wait] = {}
        self._by_name: dict[tuple[str, DeviceKind | None], dict[int, Wait]] = {}

    def __len__(self) -> int:
        return len(self._waits)

    def add(self, wait: Wait, devices: DeviceMap) -> None:
        """Answers at once where the device is there, else when it comes."""
        if self._answer(wait.name, wait.kind, [wait], devices):
            return
        number = next(self._numbers)
        self._waits[number] = wait
        self._by_name.setdefault((wait.name, wait.kind), {})[number] = wait
        self._pump.after(("wait", number), wait.timeout_s, lambda: self._forget(number))
        wait.future.add_done_callback(lambda done: self._forget(number) if done.cancelled() else None)

    def look(self, devices: DeviceMap) -> None:
        """Answers those whose device is there now. Each name is looked up once, however many wait for it."""
        for (name, kind), waits in list(self._by_name.items()):
            if self._answer(name, kind, list(waits.values()), devices):
                for number in list(waits):
                    self._take_out(number)

    def drop(self, number: int) -> None:
        """Time is up for this wait, or whoever asked has gone."""
        wait = self._take_out(number)
        if wait is not None:
            refuse(wait.future, TimedOut(f"no device {wait.name!r} within {abs(wait.timeout_s):g} s"))

    def close(self) -> None:
        """Refuses all."""
        for number in list(self._waits):
            wait = self._take_out(number)
            if wait is not None:
                refuse(wait.future, TimedOut("chaosd stopped before the device came"))

    def _take_out(self, number: int) -> Wait | None:
        wait = self._waits.pop(number, None)
        if wait is not None:
            self._pump.cancel(("wait", number))
            same = self._by_name[wait.name, wait.kind]
            del same[number]
            if not same:
                del self._by_name[wait.name, wait.kind]
        return wait

    @staticmethod
    def _answer(name: str, kind: DeviceKind | None, waits: list[Wait], devices: DeviceMap) -> bool:
        answer: Callable[[Future[Any]], None]
        try:
            device = devices.find(name, kind=kind)
        except DeviceNotFound:
            return False
        except DeviceAmbiguous as error:
            ambiguous = error
            answer = lambda future: refuse(future, ambiguous)  # noqa: E731
        else:
            found = DeviceFound(device.to_wire())
            answer = lambda future: settle(future, found)  # noqa: E731
        for wait in waits:
            answer(wait.future)
        return True
