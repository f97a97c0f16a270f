"""The engine as one object: it captures, stores and accounts in the process that makes it, without a socket."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Self, TypeAlias

import pykka

from chaos.engine.daemon import DaemonActor
from chaos.engine.messages import Command, End, HeadsWanted, refuse, settle, tell, when_all
from chaos.engine.streams import Running, stop_all
from chaos.engine.view import StreamView
from chaos.protocol.config import Config
from chaos.protocol.events import Published
from chaos.protocol.requests import Request
from chaos.system.pump import Pump
from chaos.terms.counting import counted
from chaos.terms.errors import TimedOut

__all__ = ["Engine", "Sink"]

log = logging.getLogger(__name__)

HANGS_AFTER_S = 5.0

Sink: TypeAlias = Callable[[Published], object]
"""Is given each event, in order, on a thread of the engine's; it must not wait."""


class Engine:
    """Unborn until `start`, alive until `close`; `with Engine(config) as engine` does both. Once only.

    Doors (sockets, browsers) and programs use the same four things: `submit`, sinks, `start`, `close`. `on_end` is
    called, from any thread, when a client has asked for the engine's end, or `defect` says why it can't go on; it is
    then up to the owner to `close` it.
    """

    defect: BaseException | None = None

    def __init__(self, config: Config, on_end: Callable[[], object] = lambda: None) -> None:
        self.run_id = os.urandom(16).hex()
        self._config = config
        self._on_end = on_end
        self._lock = threading.Lock()
        self._sinks: dict[Sink, bool] = {}
        self._pending: set[Future[Any]] = set()
        self._pump: Pump | None = None
        self._daemon: pykka.ActorRef[Any] | None = None
        self._running: Running = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> None:
        """Connects to PipeWire as soon as that is there, and brings in what a dead engine has left.

        Raises StorageFailed or InvalidRequest where a folder can't be made or belongs to somebody else.
        """
        if self._pump is not None:
            raise RuntimeError("an engine is started once")
        self._config.prepare()
        self._pump = Pump()
        try:
            self._pump.start()
            self._daemon = DaemonActor.start(
                self._config, self.run_id, self._pump, self._publish, self._running, self._on_end, self._on_defect
            )
        except BaseException:
            self._pump.close()
            raise
        self._tell_heads()

    def submit(self, request: Request) -> Future[Any]:
        """Gives a future of the answer: a struct of `chaos.protocol.answers`, or the ChaosError.

        From any thread, never waiting. Each future is answered once, at the latest when the engine has ended.
        """
        future: Future[Any] = Future()
        with self._lock:
            daemon = self._daemon
            if daemon is not None:
                self._pending.add(future)
        future.add_done_callback(self._forget)
        if daemon is None or not tell(daemon, Command(request, future)):
            refuse(future, _over())
        return future

    def add_sink(self, sink: Sink, *, heads: bool = False) -> None:
        """Has `sink` told of each event from now on; of heads (`stream_head_position`), which are many, if any sink
        wants them."""
        with self._lock:
            self._sinks = {**self._sinks, sink: heads}
        self._tell_heads()

    def remove_sink(self, sink: Sink) -> None:
        """One that isn't there does no harm."""
        with self._lock:
            self._sinks = {each: heads for each, heads in self._sinks.items() if each != sink}
        self._tell_heads()

    def close(self, within_s: float | None = None) -> bool:
        """Stops every stream cleanly, and stores all they have. Twice is harmless.

        What has not ended after `within_s` (the config's `stop_within_s`) is left behind and named in the log: a disk
        that hangs must not keep a process alive. Its frames are in staging, for the next start. False then, where
        storage refuses some of it, and where a defect has ended it.
        """
        with self._lock:
            daemon, self._daemon = self._daemon, None
        if self._pump is None or daemon is None:
            return True
        within_s = self._config.stop_within_s if within_s is None else within_s
        deadline = time.monotonic() + within_s
        ended: Future[bool] = Future()
        if tell(daemon, End(ended)) and _is_done(ended, deadline - within_s / 2):
            is_clean = ended.result()
            if not is_clean:
                log.error("storage did not take all frames; those that wait are in staging, for the next start")
        else:
            is_clean = self._stop_streams(deadline)
        try:
            daemon.stop(timeout=max(HANGS_AFTER_S, deadline - time.monotonic()))
        except pykka.Timeout:
            log.error("the daemon's thread hangs and is left behind")
            is_clean = False
        self._pump.close()
        with self._lock:
            pending = list(self._pending)
        for future in pending:
            refuse(future, _over())
        return is_clean and self.defect is None

    def describe(self) -> list[str]:
        """How each stream stands, a line each: for a log, from any thread, without waiting for anything."""
        return [_described(stream.view) for stream in list(self._running.values())]

    def _stop_streams(self, deadline: float) -> bool:
        """Stops them without the daemon, which hangs, or waits for one that does."""
        log.error("the streams have not ended yet; asking each of them")
        everything: Future[None] = Future()
        when_all(stop_all(self._running), lambda: settle(everything, None))
        if _is_done(everything, deadline):
            return True
        for line in self.describe():
            log.error("left behind, with its frames in staging for the next start: %s", line)
        return False

    def _on_defect(self, error: BaseException) -> None:
        self.defect = error
        self._on_end()

    def _publish(self, made: Published) -> None:
        for sink in self._sinks:
            try:
                sink(made)
            except Exception:
                log.exception("a sink failed at %s", made.topic.decode())

    def _tell_heads(self) -> None:
        if self._daemon is not None:
            tell(self._daemon, HeadsWanted(any(self._sinks.values())))

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            self._pending.discard(future)


def _is_done(future: Future[Any], deadline: float) -> bool:
    try:
        future.result(max(0.0, deadline - time.monotonic()))
    except Exception:
        return False
    return True


def _described(view: StreamView) -> str:
    stats, n_chunks = view.stats(), view.progress.n_chunks_sealed
    return (
        f"{view.uri} {view.state} ({view.reason or 'no reason'}), head {stats['head_frame']}, "
        f"{counted(n_chunks, 'chunk')} sealed, slots {stats['slots_free']} free and {stats['slots_full']}"
        f" full of {stats['slots_total']}, {counted(stats['n_gaps'], 'gap')},"
        f" {counted(stats['lost_frames'], 'frame')} lost, recording {view.recording or 'none yet'}"
    )


def _over() -> TimedOut:
    return TimedOut("chaosd stopped before this was done", hint="start it again with: chaosd")
