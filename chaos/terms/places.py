"""Places and ranges in a recording, as people write them: one rule for all commands.

A number alone is a frame, a duration has a unit and counts from the start (`30s`) or back from the head (`-30s`), and a
time of day (`14:05`, or with its day `yesterday 14:05`) or a date without a zone is local. What lies outside of the
recording is moved to its start or head, and that is said.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import NamedTuple

from chaos.terms.counting import counted
from chaos.terms.errors import InvalidRange, InvalidRequest
from chaos.terms.units import parse_duration_s

__all__ = ["PLACE_HINT", "Range", "Timeline", "parse_place", "parse_range", "shown_moment"]

PLACE_HINT = (
    "use a frame (480000), a time from the start (30s) or before the end (-30s), start, head, a local time"
    " (14:05, yesterday 14:05, 2026-01-31T14:05) or one with a zone (2026-01-31T14:05:00Z)"
)
_CLOCK = re.compile(r"(?:(today|yesterday)[ T]+)?(\d{1,2}):(\d\d)(?::(\d\d)(\.\d{1,6})?)?", re.IGNORECASE | re.ASCII)
_DAY = dt.timedelta(days=1)


class Timeline(NamedTuple):
    """A recording as places need it: its length, the frame at a moment (it may lie outside), the moment of a frame."""

    n_frames: int
    frame_of: Callable[[float | dt.datetime], int]
    moment_of: Callable[[int], dt.datetime]


class Range(NamedTuple):
    """Frames [first, end); None where nothing was said. `notes` are for the person: what was moved, and which times
    were meant."""

    first: int | None
    end: int | None
    notes: tuple[str, ...] = ()


def parse_range(last: str | None, first: str | None, end: str | None, timeline: Timeline) -> Range:
    """What --last ("30s"), or --from and --to mean.

    Raises InvalidRange, also where the end comes before the beginning, and InvalidRequest.
    """
    notes: list[str] = []
    if last is not None:
        if first is not None or end is not None:
            raise InvalidRequest("--last can't be used together with --from or --to", hint="leave out one or the other")
        if last.isascii() and last.isdecimal():
            raise InvalidRequest(
                f"--last {last} has no unit", hint=f"write --last {last}s, or --from and --to for frames"
            )
        begin = timeline.n_frames - timeline.frame_of(parse_duration_s(last))
        if begin < 0 < timeline.n_frames:
            seconds = timeline.n_frames / max(timeline.frame_of(1.0), 1)
            notes.append(f"only {seconds:.1f} s recorded, less than {last}: all of it is taken")
        return Range(max(begin, 0), timeline.n_frames, tuple(notes))
    places = [None if text is None else _place(text, timeline, notes) for text in (first, end)]
    meant = list(notes)
    kept = [
        None if place is None else _moved(str(text), place, timeline, notes)
        for text, place in zip((first, end), places, strict=True)
    ]
    begin_, stop = kept
    if begin_ is not None and stop is not None and begin_ > stop:
        raise InvalidRange(
            f"the range ends at {end} (frame {places[1]}), before it begins at {first} (frame {places[0]})"
            + _told(meant),
            hint="--from must not be after --to",
        )
    if places != [None, None] and (begin_ or 0) == (timeline.n_frames if stop is None else stop):
        outside = [note.partition(";")[0] for note in notes[len(meant) :]]
        raise InvalidRange(f"nothing was recorded in that range{_told([*meant, *outside])}", hint=_extent(timeline))
    return Range(begin_, stop, tuple(notes))


def _told(notes: list[str]) -> str:
    """Which moments were meant."""
    return f": {'; '.join(notes)}" if notes else ""


def parse_place(text: str, timeline: Timeline) -> int:
    """The frame that is meant, moved into the recording. Raises InvalidRange."""
    return min(max(0, _place(text, timeline, [])), timeline.n_frames)


def shown_moment(moment: dt.datetime) -> str:
    """`2026-01-31 14:05:00 CET`, in local time."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _moved(text: str, frame: int, timeline: Timeline, notes: list[str]) -> int:
    kept = min(max(0, frame), timeline.n_frames)
    if kept != frame:
        where = "before the recording begins" if frame < 0 else "after its end"
        notes.append(f"{text} is {where}; {_extent(timeline)}")
    return kept


def _extent(timeline: Timeline) -> str:
    first, end = (shown_moment(timeline.moment_of(frame)) for frame in (0, timeline.n_frames))
    return f"the recording has {counted(timeline.n_frames, 'frame')}, from {first} to {end}"


def _place(text: str, timeline: Timeline, notes: list[str]) -> int:
    if text in ("start", "head"):
        return 0 if text == "start" else timeline.n_frames
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        if clock := _CLOCK.fullmatch(text):
            moment = _time_of_day(text, clock, timeline)
        elif "-" in text[1:]:
            moment = _zoned(text, dt.datetime.fromisoformat(text))
        elif text.startswith("-"):
            return timeline.n_frames - timeline.frame_of(parse_duration_s(text[1:]))
        else:
            return timeline.frame_of(parse_duration_s(text))
    except (InvalidRequest, ValueError, OverflowError) as error:
        if isinstance(error, InvalidRange):
            raise
        raise InvalidRange(f"{text!r} is not a place in a recording", hint=PLACE_HINT) from None
    notes.append(f"{text} is {shown_moment(moment)}")
    return timeline.frame_of(moment)


def _time_of_day(text: str, clock: re.Match[str], timeline: Timeline) -> dt.datetime:
    """That time today or yesterday, where that is said; else on the recording's day, and where it goes over midnight on
    the one day that has it."""
    day_name, hour, minute, second, fraction = clock.groups()
    time = dt.time(int(hour), int(minute), int(second or 0), round(float(fraction or 0) * 1_000_000))
    if day_name is not None:
        day = dt.datetime.now().astimezone().date() - (_DAY if day_name.lower() == "yesterday" else dt.timedelta())
        return _zoned(text, dt.datetime.combine(day, time))
    first, last = (timeline.moment_of(frame).astimezone() for frame in (0, timeline.n_frames))
    days = [first.date() + k * _DAY for k in range((last.date() - first.date()).days + 1)]
    if len(days) == 1:
        return _zoned(text, dt.datetime.combine(days[0], time))
    inside = [day for day in days if first <= _zoned(text, dt.datetime.combine(day, time)) <= last]
    if len(inside) != 1:
        how_often = f"{len(inside)} times" if inside else "never"
        raise InvalidRange(
            f"{text} comes {how_often} in this recording: add the date",
            hint=f"for example {(inside or days)[0]}T{text}; {_extent(timeline)}",
        )
    return _zoned(text, dt.datetime.combine(inside[0], time))


def _zoned(text: str, moment: dt.datetime) -> dt.datetime:
    """A moment without a zone as local time. Raises InvalidRange where that never was, or was twice."""
    if moment.tzinfo is not None:
        return moment
    once, again = (moment.replace(fold=fold).astimezone() for fold in (0, 1))
    if once.replace(tzinfo=None, fold=0) != moment:
        raise InvalidRange(f"{text} never was: the clocks were put forward then", hint="choose another time")
    if once.utcoffset() != again.utcoffset():
        offsets = " or ".join(f"{each:%z}" for each in (once, again))
        raise InvalidRange(
            f"{text} was twice that day: the clocks were put back", hint=f"add the offset from UTC, {offsets}"
        )
    return once
