"""How `chaosctl record` runs a recording: from its start to its end, which a time, a signal or an error brings."""

from __future__ import annotations

import datetime as dt
import itertools
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaos.cli.out import say
from chaos.cli.when import Times, words
from chaos.terms.errors import ChaosError, StreamNotFound, TimedOut, error_from_code

if TYPE_CHECKING:
    from chaos.cli.meter import Meter
    from chaos.client import Asking, Told

__all__ = ["Ending", "Pipe", "Take"]

_LOOK_S = 0.1
_LATE_S = 1.0  # how much longer than asked it waits for frames that do not come
_ENDING_S = 5.0  # a chaosd that is shut down no longer answers while it stores the rest
_MOST_BORNE = 2  # signals that ask for the end, before one that takes it
_NO_ROLL = "3650d"  # a pipe has one take


class Ending(threading.Event):
    """Set by the first Ctrl-C, SIGTERM or SIGHUP (or by `set`): the recording is to end.

    A second signal breaks off what is `breakable`, now or as soon as that begins, and never the end of the recording
    itself; a third raises KeyboardInterrupt wherever we are, or behind what is `whole`, which a fourth breaks off.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counting = itertools.count(1)
        self._n_asked = 0
        self._is_breakable = False
        self._n_borne = _MOST_BORNE

    def ask(self, _number: int, _frame: object) -> None:
        """The signals' handler. It sets the event once: that takes a lock, which an interrupted `set` holds."""
        self._n_asked = n_asked = next(self._counting)
        if n_asked == 1:
            self.set()
        elif n_asked > self._n_borne or self._is_breakable:
            raise KeyboardInterrupt

    @contextmanager
    def whole(self) -> Iterator[None]:
        """The third signal raises KeyboardInterrupt only when the body is done."""
        self._n_borne += 1
        try:
            yield
        finally:
            self._n_borne -= 1
        if self._n_asked > self._n_borne:
            raise KeyboardInterrupt

    @contextmanager
    def breakable(self) -> Iterator[None]:
        """Raises KeyboardInterrupt in the body, or instead of it, where a second signal has come."""
        self._is_breakable = True
        try:
            if self._n_asked > 1:
                raise KeyboardInterrupt
            yield
        finally:
            self._is_breakable = False


class Take:
    """One recording from its start to its end. `sample_rate` is 0 before the first frame; `is_begun` says whether
    there is a stream of ours of that URI, or was (None: a start was broken off, and nobody knows)."""

    def __init__(
        self,
        chaosd: Asking,
        store: Path,
        uri: str,
        stop: Ending,
        times: Times,
    ) -> None:
        self.uri = uri
        self.store = store
        self.sample_rate = 0
        self.is_begun: bool | None = False
        self.pipe: Pipe | None = None
        self.error: ChaosError | None = None  # why it ended by itself
        self.causes: set[str] = set()  # of its gaps
        self._chaosd = chaosd
        self._stop = stop
        self._begin_at = times.begin
        self._seconds = times.seconds
        self._end_at = times.end
        self._end_ns: int | None = None

    @property
    def has_daemon(self) -> bool:
        """Whether a chaosd records it, which goes on without us."""
        from chaos.client import Client

        return isinstance(self._chaosd, Client)

    @property
    def is_early(self) -> bool:
        """Whether the time that it is to begin at has not come."""
        return self._begin_at is not None and dt.datetime.now().astimezone() < self._begin_at

    @property
    def n_wanted(self) -> int | None:
        """How many frames were asked for; None without a length, and until the rate is known."""
        return None if self._seconds is None or not self.sample_rate else round(self._seconds * self.sample_rate)

    def is_finished(self, patience_s: float = _ENDING_S) -> bool:
        """Whether the recording is in the store with its end, also where no chaosd can be asked; waits for one that
        is just ending it."""
        from chaos.store.info import load
        from chaos.store.store import Store

        if not self.is_begun:  # the URI may be somebody else's
            return False
        deadline = time.monotonic() + patience_s
        with suppress(ChaosError, OSError):
            while (info := load(Store(self.store).path(self.uri))).state == "recording":
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_LOOK_S)
            return info.finish is not None
        return False

    def is_in_store(self) -> bool:
        """Whether there is a recording of it, with its end or without."""
        from chaos.store.store import Store

        try:
            return bool(self.is_begun) and Store(self.store).path(self.uri).is_dir()
        except (ChaosError, OSError):
            return False

    def run(self, request: dict[str, Any], *, pipes: bool) -> dict[str, Any]:
        """Records until it is to end; what `stream_stop` answers. `uri` is the next that is free from then on."""
        from chaos.terms.uri import of_free

        return of_free(self.uri, lambda uri: self._run(request | {"uri": uri}, pipes=pipes))

    def _run(self, request: dict[str, Any], *, pipes: bool) -> dict[str, Any]:
        from chaos.cli.meter import Meter

        self.uri = request["uri"]
        kinds = ("started", "gap", "error", "silent", "clipping", "not_finite")
        topics = [f"stream_{kind} {self.uri}" for kind in kinds]
        with self._chaosd.events(*topics, timeout_s=_LOOK_S) as told:
            started = self._started(request | ({"roll": _NO_ROLL} if pipes else {}))
            try:
                self._tell_start(started, request)
                with Meter() as meter:
                    self._watch(told, meter, pipes)
            except ChaosError as error:
                if not _hangs(self._chaosd, error):
                    raise
                say(f"{error.message}; waiting for it to end the recording: a third Ctrl-C gives up", err=True)
            finally:
                stopped = self._end()
        return stopped

    def _started(self, request: dict[str, Any]) -> dict[str, Any]:
        """Starts it. What can't be known to run is not left running behind our back."""
        try:
            with self._stop.whole():
                self.is_begun = None
                try:
                    started = self._chaosd.start(**request)
                except TimedOut as error:  # it neither runs nor waits, and would go on without us
                    self.is_begun = True
                    with suppress(ChaosError):
                        self._end()
                    raise TimedOut(error.message, hint="it was stopped; see: chaosctl doctor") from None
                except ChaosError as error:
                    self.is_begun = None if _hangs(self._chaosd, error) else False
                    raise
                self.is_begun = True
        except KeyboardInterrupt:
            if self.is_begun:
                with suppress(ChaosError):
                    self._end()
            raise
        return started

    def _tell_start(self, started: dict[str, Any], request: dict[str, Any]) -> None:
        what = started["device"]["description"] if started["device"] else request["device_identity"]
        now = dt.datetime.now().astimezone()
        told_times = [words("from", self._begin_at, now)] if self._begin_at is not None else []
        told_times += [words("until", self._end_at, now)] if self._end_at is not None else []
        when = f"recording {', '.join(told_times)}; " if told_times else ""
        say(f"{started['state']}: {what}, {when}Ctrl-C ends it", err=True)

    def _watch(self, told: Told, meter: Meter, pipes: bool) -> None:
        looked = 0.0
        while not self._stop.is_set() and self.error is None:
            try:
                self._hear(next(told), meter, pipes)
            except TimedOut:
                looked = 0.0
            if time.monotonic() - looked < _LOOK_S:
                continue
            looked = time.monotonic()
            try:
                status = self._chaosd.call("stream_status", uri=self.uri)
            except StreamNotFound:
                return
            meter.show(status, self.sample_rate)
            if self._is_over(status["head_frame"]):
                return

    def _is_over(self, head: int) -> bool:
        if self._end_at is not None and dt.datetime.now().astimezone() >= self._end_at:
            return True
        if self.n_wanted is None or self._end_ns is None:
            return False
        return head >= self.n_wanted or time.monotonic_ns() >= self._end_ns

    def _hear(self, event: dict[str, Any], meter: Meter, pipes: bool) -> None:
        if event["stream_uri"] != self.uri:
            return
        if event["type"] == "stream_started" and not self.sample_rate:
            self.sample_rate = event["sample_rate"]
            if self._seconds is not None:
                self._end_ns = time.monotonic_ns() + int((self._seconds + _LATE_S) * 1e9)
            if pipes:
                self.pipe = Pipe(self.uri, self.store, self.n_wanted, self._stop)
                self.pipe.start()
        elif event["type"] == "stream_error" and not event["recoverable"]:
            self.error = error_from_code(event["error"]["code"], event["error"]["message"], event["error"]["hint"])
        elif event["type"] != "stream_started":
            if event["type"] == "stream_gap":
                self.causes.add(str(event["cause"]))
            meter.tell(event, self.sample_rate)

    def _end(self) -> dict[str, Any]:
        try:
            return self._chaosd.call("stream_stop", uri=self.uri)
        except StreamNotFound:  # it ended by itself
            nothing = {"uri": self.uri, "recording": "", "n_frames": 0, "n_chunks": 0, "n_gaps": 0, "lost_frames": 0}
            found = self._chaosd.call("recording_list", uri=self.uri, limit=1)["recordings"]
            return {name: (found[0] if found else nothing)[name] for name in nothing} | {"clean": False}


def _hangs(chaosd: Asking, error: ChaosError) -> bool:
    """Whether it is a daemon that listens, and did not answer in time."""
    from chaos.client import Client, DaemonUnreachable

    return isinstance(error, DaemonUnreachable) and isinstance(chaosd, Client) and chaosd.reachable()


class Pipe(threading.Thread):
    """Writes frames to standard output as they come, interleaved; sets `stop` when nobody reads any more."""

    def __init__(self, uri: str, store: Path, n_frames: int | None, stop: threading.Event) -> None:
        super().__init__(name="chaosctl-pipe", daemon=True)
        self.n_written = 0
        self.error: Exception | None = None
        self._uri, self._store, self._left, self._stop_asked = uri, store, n_frames, stop

    def run(self) -> None:
        from chaos.read.recording import open as open_recording

        try:
            with open_recording(self._uri, self._store) as recording:
                for block in recording.follow(max(1, recording.sample_rate // 20), 0, lapped="catch_up"):
                    part = block if self._left is None else block[:, : self._left]
                    sys.stdout.buffer.write(part.T.tobytes())
                    sys.stdout.buffer.flush()
                    self.n_written += part.shape[1]
                    self._left = None if self._left is None else self._left - part.shape[1]
                    if self._left == 0:
                        return
        except Exception as error:
            self.error = error
        finally:
            self._stop_asked.set()
