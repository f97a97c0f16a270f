"""What chaosd writes down as it runs, a line each, with the time: streams that start, stop or wait, takes by level, and
gaps in sum."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from dataclasses import dataclass

from chaos.protocol import events
from chaos.protocol.events import Published
from chaos.terms.counting import counted

__all__ = ["Logbook"]

GATHER_S = 60.0
_TOLD_STATES = ("waiting", "stalled", "error")


def _source(event: events.StreamStarted | events.StreamStandby) -> str:
    device = event.device.get("description") or event.device.get("name") or "a device"
    shape = f"{event.channels} ch {event.sample_rate} Hz {event.sample_format}"
    return f"{device}, {shape if event.sample_format != 'midi' else 'midi'}"


def _all_counts(total: events.TakesTotal) -> str:
    return f"{counted(total.n_takes, 'take')}, {_counts(total)}"


def _counts(event: events.StreamStopped | events.StreamTriggerEnded | events.TakesTotal) -> str:
    gaps, lost = counted(event.n_gaps, "gap"), counted(event.lost_frames, "frame")
    return f"{counted(event.n_frames, 'frame')}, {gaps}, {lost} lost"


@dataclass
class _Gaps:
    """Those of one stream that have not been told yet."""

    n_gaps: int = 0
    n_frames: int = 0
    causes: tuple[str, ...] = ()


class Logbook:
    """A sink of an engine (`Engine.add_sink`). `say` is given each line.

    A stream's first gap is told at once; those that follow within a minute are told in sum, so that a device that
    breaks up doesn't fill a disk with lines.
    """

    def __init__(self, say: Callable[[str], object], gather_s: float = GATHER_S) -> None:
        self._say = say
        self._gather_s = gather_s
        self._lock = threading.Lock()
        self._gaps: dict[str, _Gaps] = {}  # of the streams that had a gap within the last minute
        self._flowed: set[str] = set()  # streams that frames have come from
        self._troubled: set[str] = set()  # those of them that wait, stall or fail
        self._held: dict[str, int] = {}  # those in standby, with how many takes they have made
        self._timers: dict[str, threading.Timer] = {}

    def hear(self, made: Published) -> None:
        """What does not belong in the log is passed over."""
        if (uri := made.stream_uri) is None:
            return
        event = made.event
        with self._lock:
            if isinstance(event, events.StreamGap):
                self._on_gap(made, uri, event)
            elif (line := self._line(uri, event)) is not None:
                if isinstance(event, events.StreamStopped):
                    self._forget(made.wall_ns, uri)
                self._write(made.wall_ns, f"{uri} {line}")

    def close(self) -> None:
        """What has been gathered is told now."""
        now_ns = int(dt.datetime.now().timestamp() * 1e9)
        with self._lock:
            for uri in list(self._gaps):
                self._forget(now_ns, uri)

    def _line(self, uri: str, event: events.Event) -> str | None:
        match event:
            case events.StreamStarted():
                self._flowed.add(uri)
                self._held.pop(uri, None)
                return f"started: {_source(event)}"
            case events.StreamStandby():
                self._held[uri] = 0
                if event.above_dbfs is None:
                    return f"in standby: {_source(event)}, holds the last {event.standby_s:g} s in memory"
                return f"in standby: {_source(event)}, records what is above {event.above_dbfs:g} dBFS"
            case events.StreamTriggered():
                self._held[uri] = self._held.get(uri, 0) + 1
                short = " (no earlier frames were in memory)" if event.is_short else ""
                return f"take started: {event.take}{short}"
            case events.StreamTriggerEnded():
                return f"take stopped: {event.take}, {_counts(event)}"
            case events.StreamState() if event.state in _TOLD_STATES:
                if uri in self._flowed:
                    self._troubled.add(uri)
                return f"{event.state}: {event.reason or 'no reason is known'}"
            case events.StreamState() if event.state == "streaming":
                self._flowed.add(uri)  # the first time *started* tells of it
                if uri in self._troubled:
                    self._troubled.discard(uri)
                    return "streaming again"
            case events.StreamRolled():
                return f"goes on as {event.take}"
            case events.StreamError():
                return f"error: {event.error.get('message')}" + ("" if event.recoverable else "; it has ended")
            case events.StreamStopped():
                self._troubled.discard(uri)
                self._flowed.discard(uri)
                n_takes = self._held.pop(uri, None)
                if n_takes is not None and event.total is None:
                    counts = counted(n_takes, "take") if n_takes else "nothing was recorded"
                else:
                    counts = _counts(event) if event.total is None else _all_counts(event.total)
                return f"stopped: {counts}" + ("" if event.clean else "; not clean")
        return None

    def _on_gap(self, made: Published, uri: str, gap: events.StreamGap) -> None:
        if gap.n_frames is None:
            return
        gaps = self._gaps.get(uri)
        if gaps is None:
            missing = counted(gap.n_frames, "frame")
            self._write(made.wall_ns, f"{uri} gap: {missing} from {gap.first_frame} on, {gap.cause}")
            self._gaps[uri] = _Gaps()
            self._time(uri)
            return
        gaps.n_gaps += 1
        gaps.n_frames += gap.n_frames
        gaps.causes = tuple(dict.fromkeys((*gaps.causes, gap.cause)))

    def _time(self, uri: str) -> None:
        timer = self._timers[uri] = threading.Timer(self._gather_s, self._on_time, [uri])
        timer.daemon = True
        timer.start()

    def _on_time(self, uri: str) -> None:
        with self._lock:
            gaps = self._gaps.pop(uri, None)
            self._timers.pop(uri, None)
            if gaps is not None and gaps.n_gaps:
                self._tell(int(dt.datetime.now().timestamp() * 1e9), uri, gaps)
                self._gaps[uri] = _Gaps()
                self._time(uri)

    def _forget(self, wall_ns: int, uri: str) -> None:
        gaps, timer = self._gaps.pop(uri, None), self._timers.pop(uri, None)
        if timer is not None:
            timer.cancel()
        if gaps is not None and gaps.n_gaps:
            self._tell(wall_ns, uri, gaps)

    def _tell(self, wall_ns: int, uri: str, gaps: _Gaps) -> None:
        more, missing = counted(gaps.n_gaps, "more gap"), counted(gaps.n_frames, "frame")
        self._write(wall_ns, f"{uri} {more}: {missing}, {', '.join(gaps.causes)}")

    def _write(self, wall_ns: int, line: str) -> None:
        moment = dt.datetime.fromtimestamp(wall_ns // 1_000_000_000)
        self._say(f"chaosd: {moment:%Y-%m-%d %H:%M:%S} {line}")
