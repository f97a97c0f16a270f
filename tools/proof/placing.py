"""Where the frames of a recording of counting sources lie, and where they should."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rig import decode, modulus

from chaos.store.info import RecordingInfo

__all__ = ["Incarnation", "Placed", "place", "samples_at"]

_DTYPES = {"f32": np.float32, "s16": np.int16, "s32": np.int32}


@dataclass(frozen=True)
class Incarnation:
    """A life of the device, from its coming to its loss: a counting source's id and the frames it offered,
    numbers `first` … `end`."""

    source_id: int
    frames: int
    first: int
    end: int


@dataclass
class Placed:
    """What stands in a recording, frame by frame of its timeline.

    Each frame is in a gap of the ledger (`in_ledger`, by cause), or `captured` in its place, `wrongly_placed` (of
    this device, but another frame's), `foreign` (of no device of ours, or sound inside a gap) or `silent` (nothing,
    and the ledger doesn't say so). `uncovered` frames were offered while the stream ran and have no place in the
    timeline at all; `before` came before its first frame; `bad_anchors` clock anchors name another position than the
    frames there.
    """

    timeline: int = 0
    offered: int = 0
    captured: int = 0
    in_ledger: Counter[str] = field(default_factory=Counter)
    wrongly_placed: int = 0
    foreign: int = 0
    silent: int = 0
    uncovered: int = 0
    before: int = 0
    bad_anchors: int = 0
    first_bad: list[str] = field(default_factory=list)

    @property
    def unaccounted(self) -> int:
        return self.silent + self.uncovered

    @property
    def ok(self) -> bool:
        return not (self.unaccounted or self.wrongly_placed or self.foreign or self.bad_anchors) and self.captured > 0

    def brief(self) -> Placed:
        """The same with no more than ten of `first_bad`."""
        return replace(self, first_bad=self.first_bad[:10])

    def __iadd__(self, other: Placed) -> Placed:
        for name in ("timeline", "offered", "captured", "wrongly_placed", "foreign", "silent", "uncovered", "before"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.bad_anchors += other.bad_anchors
        self.in_ledger += other.in_ledger
        self.first_bad += other.first_bad
        return self


@dataclass
class _Life:
    """What was found of one incarnation: how many frames at each offset (number less frame), and its ends."""

    offsets: Counter[int] = field(default_factory=Counter)
    silent: int = 0
    lowest: int = 0
    highest: int = -1

    @property
    def offset(self) -> int:
        return self.offsets.most_common(1)[0][0]


def place(info: RecordingInfo, lives: list[Incarnation], slack: int, speed: float = 1) -> Placed:
    """Reads the whole recording back.

    `lives` are in the order in which they came; `slack` is how many frames a gap told from clocks may be wrong by.
    Clocks tell real time, in which a device at `speed` offers so many times more frames.
    """
    found = Placed(timeline=info.n_frames, offered=sum(life.frames for life in lives))
    for gap in info.gaps:
        found.in_ledger[gap.cause.label] += gap.n_frames
    seen = [_Life() for _ in lives]
    now = 0
    at = 0
    while at < info.n_frames:
        samples = samples_at(info, at)
        now = _look(info, found, seen, lives, now, at, samples)
        at += samples.shape[1]
    _weigh(info, found, seen)
    _cover(info, found, seen, lives, slack, speed)
    return found


def samples_at(info: RecordingInfo, at: int) -> npt.NDArray[np.float32]:
    shape = info.definition
    chunk = at // shape.chunk_frames
    n = min(shape.chunk_frames, info.n_frames - at)
    path = Path(info.path) / "audio" / "c" / "0" / str(chunk)
    if not path.exists():
        return np.zeros((shape.channels, n), _DTYPES[shape.sample_format])
    whole = np.fromfile(path, _DTYPES[shape.sample_format]).reshape(shape.channels, shape.chunk_frames)
    return whole[:, :n]


def _look(
    info: RecordingInfo,
    found: Placed,
    seen: list[_Life],
    lives: list[Incarnation],
    now: int,
    at: int,
    samples: npt.NDArray[np.float32],
) -> int:
    """Takes one chunk in; returns which life its last frames belong to."""
    n = samples.shape[1]
    wrap = modulus(samples.shape[0])
    in_gap = np.zeros(n, dtype=bool)
    for gap in info.gaps:
        in_gap[max(0, gap.first_frame - at) : max(0, gap.first_frame + gap.n_frames - at)] = True
    zero = ~np.any(samples, axis=0)
    _note(found, "sound in a gap", at, in_gap & ~zero)
    found.foreign += int(np.count_nonzero(in_gap & ~zero))
    left = ~in_gap
    while True:
        offsets, known = _offsets(samples, at, lives[now], wrap)
        usual = seen[now].offset if seen[now].offsets else _commonest(offsets[left & known & ~zero])
        mine = left & known & ~zero
        if now + 1 < len(lives):
            # By chance a later life's numbers can pass for this one's: those that stand as that life's would, don't.
            later, of_later = _offsets(samples, at, lives[now + 1], wrap)
            strange = mine & (offsets != usual) & of_later
            in_line = strange & (later == _commonest(later[strange]))
            if 2 * np.count_nonzero(in_line) > np.count_nonzero(strange):
                mine &= ~in_line
        for offset, count in Counter(offsets[mine].tolist()).items():
            if seen[now].offsets and offset not in seen[now].offsets:
                first = at + int(np.flatnonzero(mine & (offsets == offset))[0])
                found.first_bad.append(f"offset {offset} at frame {first} ({count} frames)")
            seen[now].offsets[offset] += count
        if mine.any():
            places = np.flatnonzero(mine)
            if seen[now].highest < 0:
                seen[now].lowest = at + int(places[0])
            seen[now].highest = at + int(places[-1])
        left &= ~mine
        if seen[now].offsets:
            # One of all numbers is told by zeros in all channels: where it is due, silence is that frame.
            blank = left & zero & known & (offsets == seen[now].offset)
            seen[now].offsets[seen[now].offset] += int(np.count_nonzero(blank))
            left &= ~blank
        if not (left & ~zero).any() or now + 1 == len(lives):
            break
        now += 1
    seen[now].silent += int(np.count_nonzero(left & zero))
    _note(found, "unmarked silence", at, left & zero)
    _note(found, "foreign", at, left & ~zero)
    found.foreign += int(np.count_nonzero(left & ~zero))
    return now


def _offsets(
    samples: npt.NDArray[np.float32], at: int, life: Incarnation, wrap: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Each frame's number in that life less its place, and whether that life offered such a number."""
    numbers = decode(samples, life.source_id)
    known = (numbers >= 0) & ((numbers - life.first) % wrap < life.end - life.first)
    return (numbers - at - np.arange(samples.shape[1])) % wrap, known


def _commonest(offsets: npt.NDArray[np.int64]) -> int:
    """-1 where there is none."""
    if not offsets.size:
        return -1
    found, counts = np.unique(offsets, return_counts=True)
    return int(found[counts.argmax()])


def _note(found: Placed, what: str, at: int, where: npt.NDArray[np.bool_]) -> None:
    if where.any():
        first = at + int(np.flatnonzero(where)[0])
        found.first_bad.append(f"{what} at frame {first} ({np.count_nonzero(where)} frames)")


def _weigh(info: RecordingInfo, found: Placed, seen: list[_Life]) -> None:
    for life in seen:
        found.silent += life.silent
        if life.offsets:
            found.captured += life.offsets[life.offset]
            found.wrongly_placed += life.offsets.total() - life.offsets[life.offset]
    wrap = modulus(info.definition.channels)
    for anchor in info.anchors:
        of = next((life for life in seen if life.offsets and life.lowest <= anchor.frame <= life.highest), None)
        if of is not None and (anchor.position - anchor.frame) % wrap != of.offset:
            found.bad_anchors += 1
            found.first_bad.append(f"anchor {anchor} where the offset is {of.offset}")


def _cover(
    info: RecordingInfo, found: Placed, seen: list[_Life], lives: list[Incarnation], slack: int, speed: float
) -> None:
    """What was offered before a life's first captured frame and behind its last must fit into the gaps there."""
    wrap = modulus(info.definition.channels)

    def between(first: int, second: int) -> int:
        return (second - first + wrap // 2) % wrap - wrap // 2

    behind, end = 0, 0
    for number, (life, offered) in enumerate(zip(seen, lives, strict=True)):
        if not life.offsets:
            behind += offered.frames
            continue
        head = between(offered.first, life.lowest + life.offset)
        if number == 0:
            found.before = head
        else:
            found.uncovered += max(0, behind + head - int((life.lowest - end) * speed) - int(slack * speed))
        behind = between(life.highest + 1 + life.offset, offered.end)
        end = life.highest + 1
    found.uncovered += max(0, behind - int((info.n_frames - end) * speed) - int(slack * speed))


