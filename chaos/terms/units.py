"""Durations, sizes and places in a recording, as people write them."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from chaos.terms.errors import InvalidRange, InvalidRequest

__all__ = [
    "Keep",
    "parse_duration_s",
    "parse_keep",
    "parse_latency_frames",
    "parse_place",
    "parse_range",
    "parse_size",
]

_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_S = 36_500 * 86_400.0
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_duration_s(text: str) -> float:
    """Seconds of "30s", "250ms", "1.5m", "2h"; a bare number is seconds. Raises InvalidRequest."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)", text.strip())
    if match is None or (match[2] or "s") not in _SECONDS:
        raise InvalidRequest(f"{text[:40]!r} is not a valid duration", hint="write it like 30s, 250ms, 1.5m or 2h")
    seconds = float(match[1]) * _SECONDS[match[2] or "s"]
    if seconds > _LONGEST_S:
        raise InvalidRequest(f"{text[:40]!r} is too long", hint="use at most 36500d, a hundred years")
    return seconds


def parse_size(text: str) -> int:
    """Bytes of "65536", "64k", "2M", "2MiB": powers of 1024 all. Raises InvalidRequest."""
    match = re.fullmatch(r"(\d{1,15})\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if match is None:
        raise InvalidRequest(f"{text[:40]!r} is not a valid size", hint="write it like 65536, 64k or 2M")
    return int(match[1]) * _BYTES[match[2]]


class Keep(NamedTuple):
    """What to keep of sealed audio: the last `seconds`, or the last `n_bytes`; one of them is None."""

    seconds: float | None
    n_bytes: int | None


def parse_keep(text: str) -> Keep:
    """ "7d", "12h" or "200GB", "500M". Raises InvalidRequest."""
    with suppress(InvalidRequest):
        return Keep(parse_duration_s(text), None)
    with suppress(InvalidRequest):
        return Keep(None, parse_size(text))
    hint = "use an age (7d, 12h) or a size (200GB, 500MB)"
    raise InvalidRequest(f"{text[:40]!r} is neither an age nor a size to keep", hint=hint)


def parse_latency_frames(text: str, sample_rate: int | None) -> int:
    """Frames of a latency as pw-cat has it: "256" are frames, "20ms" a time. Raises InvalidRequest."""
    if text.isdecimal():
        return int(text)
    if sample_rate is None:
        raise InvalidRequest(
            f"a latency of {text} needs a sample rate, and the device reports none",
            hint="give the latency in frames (--latency 256), or add --rate",
        )
    return max(1, round(parse_duration_s(text) * sample_rate))


def parse_place(text: str, n_frames: int, frame_of: Callable[[float | dt.datetime], int]) -> int:
    """The frame that is meant, in a recording of `n_frames`; `frame_of` is the recording's.

    "start", "head", "480000" (a frame), "30s" (from the start), "-30s" (from the head) or an RFC 3339 time.
    What lies before the start is the start, and after the head the head. Raises InvalidRange.
    """
    return min(max(0, _place(text, n_frames, frame_of)), n_frames)


def parse_range(
    last: str | None, first: str, end: str, n_frames: int, frame_of: Callable[[float | dt.datetime], int]
) -> tuple[int, int]:
    """The frames that `last` ("30s"), else `first` and `end` (see `parse_place`) mean: [first, end).

    Raises InvalidRange, also where the end comes before the beginning, and InvalidRequest.
    """
    if last is not None:
        return max(0, n_frames - frame_of(parse_duration_s(last))), n_frames
    begin, stop = (parse_place(text, n_frames, frame_of) for text in (first, end))
    if begin > stop:
        raise InvalidRange(
            f"the range ends at {end} (frame {stop}), before it begins at {first} (frame {begin})",
            hint="--from must not be after --to",
        )
    return begin, stop


def _place(text: str, n_frames: int, frame_of: Callable[[float | dt.datetime], int]) -> int:
    if text in ("start", "head"):
        return 0 if text == "start" else n_frames
    if text.isdecimal():
        return int(text)
    try:
        if text.startswith("-"):
            return n_frames - frame_of(parse_duration_s(text[1:]))
        if "T" not in text:
            return frame_of(parse_duration_s(text))
        return frame_of(dt.datetime.fromisoformat(text))
    except (InvalidRequest, ValueError, OverflowError):
        raise InvalidRange(
            f"{text!r} is not a place in a recording",
            hint="use start, head, a frame, 30s (from the start), -30s (from the head) or an RFC 3339 time",
        ) from None
