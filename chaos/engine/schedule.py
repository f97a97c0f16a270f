"""When a stream is to begin and to end by itself. Pure: the clocks are given to it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from chaos.protocol.requests import StreamStart
from chaos.terms.errors import InvalidRequest

__all__ = ["LATE", "LOOK_S", "Schedule", "check_moments"]

LATE = dt.timedelta(minutes=1)
"""A stream may be asked to begin so long ago: the request took its time, and the clock that it was written by may be
another one."""
LOOK_S = 30.0
"""So often the wall clock is looked at: somebody may set it, or the machine may sleep."""


def check_moments(request: StreamStart, now: dt.datetime) -> None:
    """Raises InvalidRequest for a stream that is to begin or to end at a moment that is over."""
    told = f"by chaosd's clock it is {now:%Y-%m-%dT%H:%M:%SZ}"
    if request.stop_at is not None and request.stop_at <= now:
        raise InvalidRequest(f"stop_at is over: {told}", hint="end it later: --until")
    if request.start_at is not None and request.start_at < now - LATE:
        raise InvalidRequest(f"start_at is over: {told}", hint="begin later (--at), or leave it out to begin at once")


class Schedule:
    """What a request says of begin and end. `now` is the wall clock, `monotonic_s` CLOCK_MONOTONIC in seconds.

    A length counts from the first frame, by CLOCK_MONOTONIC; moments are those of the wall clock.
    """

    def __init__(
        self, request: StreamStart, now: Callable[[], dt.datetime], monotonic_s: Callable[[], float]
    ) -> None:
        self._begin = request.start_at
        self._end = request.stop_at
        self._length_s = request.stop_after_s
        self._now = now
        self._monotonic_s = monotonic_s
        self._began_s: float | None = None

    @property
    def is_early(self) -> bool:
        return self._begin is not None and self._now() < self._begin

    @property
    def is_over(self) -> bool:
        return (left_s := self._left_s()) is not None and left_s <= 0

    def has_begun(self) -> None:
        """The first frame is there; later calls do nothing."""
        if self._began_s is None:
            self._began_s = self._monotonic_s()

    def look_in_s(self) -> float | None:
        """When to look again; None where there is nothing to wait for."""
        waits = [self._left_s()]
        if self._begin is not None and self.is_early:
            waits.append((self._begin - self._now()).total_seconds())
        due = [min(max(each, 0.0), LOOK_S) for each in waits if each is not None]
        return min(due) if due else None

    def reason(self) -> str:
        """Why it waits, in local time."""
        assert self._begin is not None
        return f"it is to begin at {self._begin.astimezone():%Y-%m-%d %H:%M:%S %Z}"

    def begins(self) -> dt.datetime | None:
        """When it is to begin; None once that is over."""
        return self._begin if self.is_early else None

    def ends(self) -> dt.datetime | None:
        """When it is to end, as far as that is known. A length counts from the first frame, so not before that."""
        if self._end is not None or (left_s := self._left_s()) is None:
            return self._end
        return self._now() + dt.timedelta(seconds=left_s)

    def _left_s(self) -> float | None:
        if self._end is not None:
            return (self._end - self._now()).total_seconds()
        if self._length_s is None or self._began_s is None:
            return None
        return self._length_s - (self._monotonic_s() - self._began_s)
