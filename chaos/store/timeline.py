"""Places on a recording's timeline by its clocks, and the places of other recordings that are the same moment."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias, get_args

import msgspec

from chaos.store.info import RecordingInfo
from chaos.store.lines import Definition
from chaos.terms.errors import InvalidRange, InvalidRequest, RateMismatch
from chaos.terms.ledger import ClockAnchor
from chaos.terms.moments import utc_text, wall_ns_of
from chaos.terms.wallclock import WallClock

__all__ = [
    "Aligned",
    "Way",
    "anchors_of",
    "check_rates",
    "frame_of_moment",
    "loosest",
    "moment_at",
    "overlapping",
    "related",
    "sorted_anchors",
    "wall_clock",
    "wall_ns_at",
]

_SAME_COUNT_S = 1.0


Way: TypeAlias = Literal["graph_clock", "monotonic_clock", "wall_clock"]
_WAYS: tuple[Way, ...] = get_args(Way)


def loosest(ways: Iterable[Way]) -> Way:
    """The one of them that tells least exactly; at least one."""
    return max(ways, key=_WAYS.index)


class Aligned(msgspec.Struct, frozen=True):
    """`n_frames` from these first frames on are the same moments in all recordings.

    `by` is what tells so: "graph_clock" (to the sample), "monotonic_clock" (recordings of different drivers in one run
    of the engine) or "wall_clock".
    """

    first_frames: list[int]
    n_frames: int
    by: Way


def anchors_of(info: RecordingInfo) -> list[ClockAnchor]:
    """The clock anchors by frame; at least one, which stands for the start as the definition has it."""
    return sorted_anchors(info.definition, info.anchors)


def sorted_anchors(definition: Definition, anchors: Iterable[ClockAnchor]) -> list[ClockAnchor]:
    """As `anchors_of`, of anchors in any order."""
    start = ClockAnchor(0, 0, definition.started_monotonic_ns, definition.started_wall_ns)
    return sorted(anchors, key=lambda anchor: anchor.frame) or [start]


def frame_of_moment(info: RecordingInfo, moment: float | datetime) -> int:
    """The frame at a moment, seconds since the first frame or a datetime; it may lie outside of the recording.

    Raises InvalidRequest for a datetime without a time zone, and InvalidRange for one that was twice or never, since
    the wall clock was set meanwhile.
    """
    if not isinstance(moment, datetime):
        return round(moment * info.definition.sample_rate)
    if moment.tzinfo is None:
        raise InvalidRequest(f"{moment} has no time zone", hint="use datetime.now(UTC) and the like")
    return _frame_of_wall(info, wall_ns_of(moment))


def wall_ns_at(info: RecordingInfo, frame: int) -> int:
    """The moment of a frame (ns since 1970-01-01 UTC), as the wall clock stood then."""
    return wall_clock(info).wall_ns(frame)


def moment_at(info: RecordingInfo, frame: int) -> datetime:
    """The moment of a frame, to the microsecond, in UTC."""
    wall_ns = wall_ns_at(info, frame)
    whole = datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC)
    return whole + timedelta(microseconds=wall_ns % 1_000_000_000 // 1000)


def wall_clock(info: RecordingInfo) -> WallClock:
    """The recording's wall clock: which moments its frames were."""
    return WallClock(anchors_of(info), info.definition.sample_rate, info.n_frames)


def _frame_of_wall(info: RecordingInfo, wall_ns: int) -> int:
    """The frame at a moment of the wall clock. Raises InvalidRange where that occurred twice, or not at all."""
    clock = wall_clock(info)
    found = clock.frames(wall_ns)
    if len(found) == 1:
        return found[0]
    uri, moment = info.definition.uri, utc_text(wall_ns)
    if found:
        raise InvalidRange(
            f"{moment} was {len(found)} times in {uri}: the wall clock was set back meanwhile",
            hint=f"say which by its frame: {' or '.join(map(str, found))}",
            details={"frames": found},
        )
    frames = " and ".join(str(step.frame) for step in clock.steps[:3])
    raise InvalidRange(
        f"{moment} never was in {uri}: the wall clock was set while it was recorded",
        hint=f"give a frame instead; the clock was set at frame {frames}",
        details={"frames": [], "steps": [step._asdict() for step in clock.steps]},
    )


def check_rates(shapes: Sequence[Definition]) -> None:
    """Raises RateMismatch unless all have the rate of the first."""
    one = shapes[0]
    for each in shapes:
        if each.sample_rate != one.sample_rate:
            raise RateMismatch(
                f"{each.uri} has {each.sample_rate} Hz, {one.uri} {one.sample_rate} Hz",
                hint="frames of different rates can't be aligned to the sample; save them one by one",
            )


def overlapping(uris: Sequence[str], places: Sequence[tuple[int, Way]], lengths: Sequence[int], most: int) -> Aligned:
    """What recordings of these lengths have in common of `most` frames, whose first lies at these places in them.

    Raises InvalidRange where that is nothing.
    """
    firsts = [frame for frame, _ in places]
    skipped = max(0, *(-frame for frame in firsts))
    firsts = [frame + skipped for frame in firsts]
    n_frames = min(most - skipped, *(n - frame for n, frame in zip(lengths, firsts, strict=True)))
    if n_frames <= 0 and most > 0:
        raise InvalidRange(f"{', '.join(uris)} do not overlap in that range", hint="save them one by one")
    return Aligned(firsts, max(n_frames, 0), loosest(way for _, way in places))


def related(reference: RecordingInfo, other: RecordingInfo, frame: int = 0) -> tuple[int, Way]:
    """The frame of `other` at a frame of the reference, and what tells so; either may lie outside of its recording.

    Of one driver's streams it is exact, of others right to a quantum and what their clocks drift. Raises InvalidRange
    where only the wall clock could tell, and that was set.
    """
    found, way = _place(reference, other, frame)
    return found, _WAYS[way]


def _place(reference: RecordingInfo, other: RecordingInfo, frame: int) -> tuple[int, int]:
    """The frame of `other` at a frame of the reference, and what tells: 0 graph, 1 monotonic, 2 wall clock."""
    if other is reference:
        return frame, 0
    rate = reference.definition.sample_rate
    here = _nearest(anchors_of(reference), frame)
    if other.definition.run_id != reference.definition.run_id:
        wall_ns = wall_ns_at(reference, frame)
        return _frame_of_wall(other, wall_ns), 2
    monotonic_ns = here.monotonic_ns + (frame - here.frame) * 1_000_000_000 // rate
    anchors = anchors_of(other)
    index = max(bisect_right(anchors, monotonic_ns, key=lambda anchor: anchor.monotonic_ns) - 1, 0)
    there = anchors[index]
    by_time = there.frame + round((monotonic_ns - there.monotonic_ns) * other.definition.sample_rate / 1_000_000_000)
    by_position = there.frame + here.position + frame - here.frame - there.position
    has_one_rate = other.definition.sample_rate == rate
    is_one_count = has_one_rate and here.clock_id is not None and here.clock_id == there.clock_id
    if is_one_count and abs(by_position - by_time) < _SAME_COUNT_S * rate:
        return by_position, 0
    return by_time, 1


def _nearest(anchors: Sequence[ClockAnchor], frame: int) -> ClockAnchor:
    return anchors[max(bisect_right(anchors, frame, key=lambda anchor: anchor.frame) - 1, 0)]
