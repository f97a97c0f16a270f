"""Streams and sessions that a configuration has run from the start on."""

from __future__ import annotations

import datetime as dt
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from chaos.protocol import events
from chaos.protocol.configfile import ConfiguredSession, ConfiguredStream
from chaos.protocol.events import Published
from chaos.protocol.requests import Request, SessionStart, StreamStart
from chaos.terms.errors import ChaosError

__all__ = ["Standing"]

log = logging.getLogger(__name__)

SOONEST_S = 1.0  # takes are named by the second
LATEST_S = 60.0
_DEVICE_EVENTS = tuple(events.DEVICE_EVENTS.values())


@dataclass
class _Wanted:
    """One that is to run. `due`: when it is started (time.monotonic), None while it runs or is being started.
    `wait_s`: how long after a failure it is started again."""

    what: ConfiguredStream | ConfiguredSession
    due: float | None = 0.0
    wait_s: float = field(default_factory=lambda: SOONEST_S)
    told: str = ""
    begun: float = 0.0


class Standing:
    """Starts them; one that ends by itself is started again, as its next take. One that somebody stops stays stopped,
    until chaosd starts again.

    `hear` is a sink of the engine's. A start that is refused is tried again, soon after a device has come or changed,
    else after up to a minute. A stream of a session that ends by itself goes on as a stream of its own.
    """

    def __init__(
        self,
        submit: Callable[[Request], Future[Any]],
        streams: Sequence[ConfiguredStream],
        sessions: Sequence[ConfiguredSession],
    ) -> None:
        self._submit = submit
        self._wanted = [*map(_Wanted, sessions), *map(_Wanted, streams)]
        self._running: dict[str, _Wanted] = {}  # by URI
        self._n_asked = 0  # starts that are not answered yet
        self._early: set[str] = set()  # streams that ended meanwhile
        self._heard: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="standing", daemon=True)

    def start(self) -> None:
        if self._wanted:
            self._thread.start()

    def close(self) -> None:
        """Nothing is started any more."""
        self._heard.put(None)

    def hear(self, made: Published) -> None:
        event, uri = made.event, made.stream_uri
        if isinstance(event, events.StreamError) and not event.recoverable and uri is not None:
            self._heard.put(partial(self._on_failure, uri))
        elif isinstance(event, _DEVICE_EVENTS):
            self._heard.put(self._on_device)
        elif isinstance(event, events.DaemonStopping):
            self._heard.put(None)

    def _run(self) -> None:
        while True:
            now = time.monotonic()
            for each in self._wanted:
                if each.due is not None and each.due <= now:
                    self._begin(each)
            due = [each.due for each in self._wanted if each.due is not None]
            try:
                step = self._heard.get(timeout=max(0.0, min(due) - time.monotonic()) if due else None)
            except queue.Empty:
                continue
            if step is None:
                return
            try:
                step()
            except Exception:
                log.exception("a configured stream could not be looked after")

    def _begin(self, wanted: _Wanted) -> None:
        wanted.due, wanted.begun = None, time.monotonic()
        try:
            request = wanted.what.start(dt.datetime.now(dt.UTC))
        except ChaosError as error:
            self._put_off(wanted, error)
            return
        self._n_asked += 1
        asked = self._submit(request)
        asked.add_done_callback(lambda done: self._heard.put(partial(self._on_begun, wanted, request, done)))

    def _members(self, wanted: _Wanted, request: StreamStart | SessionStart) -> list[tuple[str, _Wanted]]:
        """Whom to start again should that stream end by itself: of a session the one stream."""
        if isinstance(request, StreamStart) or isinstance(wanted.what, ConfiguredStream):
            return [(request.uri, wanted)] if isinstance(request, StreamStart) else []
        pairs = zip(request.streams, wanted.what.streams, strict=True)
        return [(asked.uri, _Wanted(each, None)) for asked, each in pairs]

    def _on_begun(self, wanted: _Wanted, request: StreamStart | SessionStart, done: Future[Any]) -> None:
        self._n_asked -= 1
        if (error := done.exception()) is not None:
            self._put_off(wanted, error)
        else:
            wanted.told = ""
            for uri, each in self._members(wanted, request):
                each.begun = time.monotonic()
                self._running[uri] = each
        early = self._early & self._running.keys()
        if not self._n_asked:
            self._early.clear()
        for uri in early:
            self._on_failure(uri)

    def _on_failure(self, uri: str) -> None:
        wanted = self._running.pop(uri, None)
        if wanted is None:
            if self._n_asked:  # a session's stream may end before all of it has begun
                self._early.add(uri)
            return
        if wanted not in self._wanted:
            self._wanted.append(wanted)
        if time.monotonic() - wanted.begun > LATEST_S:
            wanted.wait_s = SOONEST_S
        self._again(wanted)
        log.warning("%s ended by itself: its next take begins", uri)

    def _put_off(self, wanted: _Wanted, error: BaseException) -> None:
        """It is told once why."""
        self._again(wanted)
        if str(error) != wanted.told:
            wanted.told = str(error)
            hint = f" ({error.hint})" if isinstance(error, ChaosError) and error.hint else ""
            log.warning("%s can't start: %s%s; it is tried again", wanted.what.name, error, hint)

    def _again(self, wanted: _Wanted) -> None:
        wanted.due = time.monotonic() + wanted.wait_s
        wanted.wait_s = min(LATEST_S, 2 * wanted.wait_s)

    def _on_device(self) -> None:
        soon = time.monotonic() + SOONEST_S
        for each in self._wanted:
            if each.due is not None:
                each.due = min(each.due, soon)
