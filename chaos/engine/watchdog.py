"""Tells the service manager that the engine is alive, as long as it is: see `Watchdog`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from chaos.protocol.answers import StreamStatus
from chaos.protocol.requests import Request, StreamList
from chaos.system.notify import Notify
from chaos.terms.counting import counted

__all__ = ["Heads", "Watchdog", "summary"]

log = logging.getLogger(__name__)

_LOOKS = 3  # in the time within which the manager wants to hear of us


class Heads:
    """Whether the heads of streams go on, from one look to the next."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, int]] = {}

    def frozen(self, streams: Sequence[StreamStatus]) -> list[str]:
        """The streams that say *streaming* and have brought no frame since the last look.

        One that waits, or is stalled, says why: that is known, and starting chaosd anew would not change it.
        """
        seen = {each.uri: (each.recording, each.head_frame) for each in streams if each.state == "streaming"}
        before, self._seen = self._seen, seen
        return [uri for uri, head in seen.items() if before.get(uri) == head]


class Watchdog:
    """Looks three times in the time that the manager gives, and speaks up unless the engine doesn't answer or the head
    of a stream stands still for no reason. Then it keeps silent, and the manager ends chaosd and starts it anew; what
    was captured is in staging until then."""

    def __init__(self, submit: Callable[[Request], Future[Any]], notify: Notify) -> None:
        self._submit = submit
        self._notify = notify
        self._heads = Heads()
        self._over = threading.Event()
        self._period_s = (notify.watchdog_s or 0.0) / _LOOKS
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Does nothing where no manager wants to hear of us."""
        if self._period_s:
            self._thread.start()

    def close(self) -> None:
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(self._period_s):
            self._look()

    def _look(self) -> None:
        try:
            streams = self._submit(StreamList()).result(self._period_s).streams
        except Exception as error:
            log.error("the watchdog isn't told that all is well: %s", error or "the engine doesn't answer")
            return
        if frozen := self._heads.frozen(streams):
            log.error("the watchdog isn't told that all is well: no frame of %s comes", ", ".join(frozen))
            return
        self._notify.tell(WATCHDOG="1", STATUS=summary(streams))


def summary(streams: Sequence[StreamStatus]) -> str:
    """How the streams stand, in a line: "3 streams: 2 streaming, 1 waiting"."""
    if not streams:
        return "no stream is running"
    counts: dict[str, int] = {}
    for each in streams:
        counts[each.state] = counts.get(each.state, 0) + 1
    told = ", ".join(f"{n} {state}" for state, n in counts.items())
    return f"{counted(len(streams), 'stream')}: {told}"
