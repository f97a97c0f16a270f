"""When a recording is to begin and end, as people say it: --at, --for and --until."""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

import click

from chaos.terms.errors import InvalidRequest

__all__ = ["Times", "chosen_times", "told", "until_when", "wire", "words"]


class Times(NamedTuple):
    """When to begin (None: now) and to end, each with its zone; or `seconds`, how long from the first frame on."""

    begin: dt.datetime | None
    end: dt.datetime | None
    seconds: float | None


def chosen_times(at: str | None, for_: str | None, until: str | None, now: dt.datetime) -> Times:
    """What --at, --for and --until mean. Raises InvalidRequest and UsageError."""
    from chaos.terms.units import parse_duration_s

    if for_ is not None and until is not None:
        raise click.UsageError("Use either --for or --until.")
    begin = None if at is None else until_when(at, now)
    end = None if until is None else until_when(until, begin or now)
    return Times(begin, end, None if for_ is None else parse_duration_s(for_))


def told(times: Times, for_: str | None, now: dt.datetime) -> list[str]:
    """What they mean, in words."""
    said = [] if times.begin is None else [words("from", times.begin, now)]
    said += [] if times.end is None else [words("until", times.end, now)]
    return said + ([] if times.begin is None or for_ is None else [f"for {for_} from its first frame on"])


def wire(moment: dt.datetime) -> str:
    """As chaosd is told it: RFC 3339 in UTC."""
    return f"{moment.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def until_when(text: str, now: dt.datetime) -> dt.datetime:
    """The next moment of that local time, or that moment. Raises InvalidRequest for what is neither, or over."""
    hint = "write it like 18:00, 18:00:30 or 2026-01-31T18:00"
    try:
        if "T" not in text and "-" not in text:
            return _next(dt.time.fromisoformat(text), now)
        then = dt.datetime.fromisoformat(text)
        then = then if then.tzinfo is not None else then.astimezone()
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{text[:40]!r} is not a time", hint=hint) from None
    if then <= now:
        raise InvalidRequest(f"{text} is over", hint=hint)
    return then


def _next(time: dt.time, now: dt.datetime) -> dt.datetime:
    """When it is that time next. Raises InvalidRequest at the calendar's end."""
    try:
        then = dt.datetime.combine(now.date(), time).astimezone()
        return then if then > now else dt.datetime.combine(now.date() + dt.timedelta(days=1), time).astimezone()
    except (OverflowError, ValueError):  # which of them is up to the version of Python
        raise InvalidRequest(
            f"there is no {time:%H:%M} after {now:%Y-%m-%dT%H:%M}: the calendar ends", hint="begin earlier: --at"
        ) from None


def words(what: str, then: dt.datetime, now: dt.datetime) -> str:
    """`until Fri 10:20 (in 23 h 47 min)`, both times with their zone; the date where the weekday might mislead."""
    then, seconds = then.astimezone(now.tzinfo), max(0, round((then - now).total_seconds()))
    day = "%a" if seconds < 6 * 86_400 else "%a %Y-%m-%d"
    hours, minutes = divmod(round(seconds / 60), 60)
    left = f"{seconds} s" if seconds < 60 else f"{hours} h {minutes} min" if hours else f"{minutes} min"
    return f"{what} {then:{day} %H:%M}{f':{then:%S}' if then.second else ''} (in {left})"
