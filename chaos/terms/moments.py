"""Places on a recording's timeline as programs name them: its ends, a frame, seconds before the head, a time of day."""

from __future__ import annotations

import datetime as dt
import math
from typing import Annotated, Literal, TypeAlias

import msgspec

from chaos.terms.errors import InvalidRange

__all__ = ["TIME_HINT", "Moment", "Time", "utc_if_any", "utc_text", "wall_ns_of"]

TIME_HINT = 'a time is "start", "head", {"frame": N}, {"seconds_ago": s} or {"utc": "2026-01-31T12:00:00Z"}'


class Moment(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Exactly one of the three. `seconds_ago` counts back from the head. Raises InvalidRange."""

    frame: int | None = None
    seconds_ago: float | None = None
    utc: Annotated[dt.datetime, msgspec.Meta(tz=True)] | None = None

    def __post_init__(self) -> None:
        given = [name for name in self.__struct_fields__ if getattr(self, name) is not None]
        if not given:
            raise InvalidRange("the time is empty", hint=TIME_HINT)
        if len(given) > 1:
            raise InvalidRange(f"a time can't have both {' and '.join(given)}", hint=TIME_HINT)
        if self.frame is not None and not 0 <= self.frame < 2**63:
            raise InvalidRange(f"frame {self.frame} is not in any stream", hint="frames count from 0 to 2^63 - 1")
        if self.seconds_ago is not None and not 0 <= self.seconds_ago < math.inf:
            raise InvalidRange(f"seconds_ago is {self.seconds_ago}", hint="use 0 (the head) or more")


Time: TypeAlias = Literal["start", "head"] | Moment


def utc_text(wall_ns: int) -> str:
    """RFC 3339 in UTC with all nine digits of the nanoseconds: "2026-01-31T12:00:00.123456789Z"."""
    seconds, rest_ns = divmod(wall_ns, 1_000_000_000)
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns:09d}Z"


def utc_if_any(wall_ns: int) -> str | None:
    """None for what is in no calendar: a journal may say anything."""
    try:
        return utc_text(wall_ns)
    except (ValueError, OverflowError, OSError):
        return None


def wall_ns_of(moment: dt.datetime) -> int:
    """The moment in ns since 1970-01-01 UTC, to the last microsecond. The datetime has a time zone."""
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000_000 + moment.microsecond * 1000
