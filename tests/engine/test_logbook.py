"""What chaosd writes down: starts, stops and waits, and gaps in sum."""

from __future__ import annotations

import threading

import msgspec

from chaos.engine.logbook import Logbook
from chaos.protocol import events
from chaos.protocol.codec import make_event
from chaos.terms.errors import StorageFull

URI = "stream://a/1"


class Written:
    def __init__(self, gather_s: float = 3600.0) -> None:
        self.lines: list[str] = []
        self.came = threading.Semaphore(0)
        self.book = Logbook(self._say, gather_s)

    def _say(self, line: str) -> None:
        self.lines.append(line.split(" ", 3)[3])
        self.came.release()

    def hear(self, event: events.Event, uri: str | None = URI) -> None:
        self.book.hear(make_event(event, seq=1, topic_seq=1, run_id="r", stream_uri=uri))

    def gap(self, first: int, n: int | None, cause: str = "missed") -> None:
        self.hear(events.StreamGap(first_frame=first, n_frames=n, cause=cause, confidence="exact"))


def stopped(n_gaps: int = 0, lost: int = 0, *, clean: bool = True) -> events.StreamStopped:
    return events.StreamStopped(
        recording="/r", n_frames=480, n_chunks=1, n_gaps=n_gaps, lost_frames=lost, clean=clean
    )


def test_a_streams_life_is_told() -> None:
    written = Written()
    started = events.StreamStarted(
        recording="/r", device={"description": "Mic"}, sample_rate=48000, channels=2, sample_format="f32",
        chunk_frames=480, started_wall_ns=1, started_utc="",
    )  # fmt: skip
    written.hear(events.StreamState(state="streaming", reason=""))
    written.hear(started)
    written.hear(events.StreamHeadPosition(frame=1, byte_position=8))
    written.hear(events.StreamState(state="waiting", reason="Mic is away"))
    written.hear(events.StreamState(state="streaming", reason=""))
    written.hear(events.StreamRolled(take="stream://a/1.0002", continues=URI))
    written.hear(events.StreamError.of(StorageFull("disk full"), recoverable=True))
    written.hear(stopped(clean=False))
    total = events.TakesTotal(2, 960, 1, 7)
    written.hear(msgspec.structs.replace(stopped(), total=total))
    written.hear(events.DaemonStopping(), None)
    assert written.lines == [
        f"{URI} started: Mic, 2 ch 48000 Hz f32",
        f"{URI} waiting: Mic is away",
        f"{URI} streaming again",
        f"{URI} goes on as stream://a/1.0002",
        f"{URI} error: disk full",
        f"{URI} stopped: 480 frames, 0 gaps, 0 frames lost; not clean",
        f"{URI} stopped: 2 takes, 960 frames, 1 gap, 7 frames lost",
    ]


def test_what_has_only_waited_is_not_streaming_again() -> None:
    """As with `--at`, or where the device was away at the start; whether *started* comes before the state or after."""
    for begins_with_state in (True, False):
        written = Written()
        started = events.StreamStarted(
            recording="/r", device={"name": "mic"}, sample_rate=48000, channels=1, sample_format="f32",
            chunk_frames=480, started_wall_ns=1, started_utc="",
        )  # fmt: skip
        streaming = events.StreamState(state="streaming", reason="")
        waiting = events.StreamState(state="waiting", reason="it is to begin at 18:00")
        for event in (waiting, *((streaming, started) if begins_with_state else (started, streaming)), stopped()):
            written.hear(event)
        written.hear(waiting)
        written.hear(streaming)
        assert [line.removeprefix(f"{URI} ") for line in written.lines] == [
            "waiting: it is to begin at 18:00",
            "started: mic, 1 ch 48000 Hz f32",
            "stopped: 480 frames, 0 gaps, 0 frames lost",
            "waiting: it is to begin at 18:00",
        ]


def standby(above_dbfs: float | None) -> events.StreamStandby:
    return events.StreamStandby(
        device={"description": "Mic"}, sample_rate=48000, channels=2, sample_format="f32", standby_s=60.0,
        above_dbfs=above_dbfs,
    )  # fmt: skip


def test_what_is_in_standby_is_told_too() -> None:
    written = Written()
    written.hear(standby(None))
    written.hear(stopped())
    written.hear(standby(None))
    written.hear(events.StreamStarted(
        recording="/r", device={"name": "mic"}, sample_rate=48000, channels=1, sample_format="midi",
        chunk_frames=480, started_wall_ns=1, started_utc="",
    ))  # fmt: skip
    written.hear(stopped())
    assert written.lines == [
        f"{URI} in standby: Mic, 2 ch 48000 Hz f32, holds the last 60 s in memory",
        f"{URI} stopped: nothing was recorded",
        f"{URI} in standby: Mic, 2 ch 48000 Hz f32, holds the last 60 s in memory",
        f"{URI} started: mic, midi",
        f"{URI} stopped: 480 frames, 0 gaps, 0 frames lost",
    ]


def test_takes_by_level_are_told_one_by_one() -> None:
    written = Written()
    written.hear(standby(-40.0))
    for number, is_short in ((1, True), (2, False)):
        take = f"{URI}-{number}"
        written.hear(
            events.StreamTriggered(take=take, recording="/r", first_frame=9, n_before=0, is_short=is_short)
        )
        written.hear(
            events.StreamTriggerEnded(take=take, recording="/r", n_frames=480, n_gaps=1, lost_frames=7)
        )
    written.hear(stopped())
    assert written.lines == [
        f"{URI} in standby: Mic, 2 ch 48000 Hz f32, records what is above -40 dBFS",
        f"{URI} take started: {URI}-1 (no earlier frames were in memory)",
        f"{URI} take stopped: {URI}-1, 480 frames, 1 gap, 7 frames lost",
        f"{URI} take started: {URI}-2",
        f"{URI} take stopped: {URI}-2, 480 frames, 1 gap, 7 frames lost",
        f"{URI} stopped: 2 takes",
    ]


def test_gaps_after_the_first_are_told_in_sum() -> None:
    written = Written()
    written.gap(100, None)
    written.gap(100, 7)
    for first in range(1000, 2000):
        written.gap(first, 2)
    written.gap(3000, 5, "overrun")
    assert written.lines == [f"{URI} gap: 7 frames from 100 on, missed"]
    written.hear(stopped(1002, 2012))
    assert written.lines[1:] == [
        f"{URI} 1001 more gaps: 2005 frames, missed, overrun",
        f"{URI} stopped: 480 frames, 1002 gaps, 2012 frames lost",
    ]


def test_the_sum_is_told_when_time_is_up_and_at_the_end() -> None:
    written = Written(gather_s=0.05)
    written.gap(100, 7)
    written.gap(200, 1)
    for _ in range(2):
        assert written.came.acquire(timeout=60)
    assert written.lines[1] == f"{URI} 1 more gap: 1 frame, missed"
    later = Written()
    later.gap(100, 7)
    later.gap(200, 1)
    later.book.close()
    later.book.close()
    assert len(later.lines) == 2
