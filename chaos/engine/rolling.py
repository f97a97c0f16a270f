"""When a stream goes on into its next take."""

from __future__ import annotations

from datetime import datetime, timedelta

from chaos.protocol.requests import StreamStart
from chaos.terms.errors import InvalidURI
from chaos.terms.units import parse_duration_s
from chaos.terms.uri import check_uri

__all__ = ["ROLL_S", "next_roll_s", "roll_period_s"]

ROLL_S = 86_400.0
_SOONEST_S = 0.5


def roll_period_s(request: StreamStart) -> float | None:
    """How long each take of the stream is to last: a day, where nothing was said. None for one that can't roll: its
    chunks go to a controller's files, or there is no room in its URI for the number of a take."""
    if request.roll is not None:
        return parse_duration_s(request.roll)
    try:
        check_uri(f"{request.uri}.0002")
    except InvalidURI:
        return None
    return None if request.chunk_path is not None else ROLL_S


def next_roll_s(period_s: float, align: bool, now: datetime) -> float:
    """Seconds until the next roll. Aligned, it is a whole number of periods after midnight, by the clock of `now`'s
    time zone, and midnight itself."""
    if not align:
        return period_s
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    passed_s = (now - midnight).total_seconds()
    to_midnight_s = (midnight + timedelta(days=1) - now).total_seconds()
    wait_s = period_s - passed_s % period_s
    if wait_s < _SOONEST_S:  # the timer was early
        wait_s += period_s
    return min(wait_s, to_midnight_s if to_midnight_s >= _SOONEST_S else to_midnight_s + period_s)
