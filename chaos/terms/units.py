"""Durations, sizes and what to keep, as people write them."""

from __future__ import annotations

import re
from typing import NamedTuple

from chaos.terms.errors import InvalidRequest

__all__ = [
    "Keep",
    "duration_text",
    "parse_decibels",
    "parse_duration_s",
    "parse_keep",
    "parse_latency_frames",
    "parse_roll_s",
    "parse_size",
]

_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_S = 36_500 * 86_400.0
_AGES = ("s", "min", "h", "d")
_SHORTEST_KEEP_S = 0.001  # of less not even a frame might stay
_KEEP_HINT = "use an age (7d, 12h, 90min) or a size (200GB, 500MB)"
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_duration_s(text: str) -> float:
    """Seconds of "30s", "250ms", "1.5m", "2h", and of "0s". Raises InvalidRequest, also without a unit."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([a-z]*)", text)
    if match is not None and not match[2]:
        hint = f"write {text[:40]}s for seconds, or m, h, d"
        raise InvalidRequest(f"the duration {text[:40]} has no unit", hint=hint)
    if match is None or match[2] not in _SECONDS:
        raise InvalidRequest(f"{text[:40]!r} is not a valid duration", hint="write it like 30s, 250ms, 1.5m or 2h")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > _LONGEST_S:
        raise InvalidRequest(f"{text[:40]!r} is too long", hint="use at most 36500d, a hundred years")
    return seconds


def duration_text(seconds: float) -> str:
    """Seconds as people write them; more than a day in whole days or hours: "366d", "99999h", "3600s", "0.1s"."""
    longer = (("d", 86_400), ("h", 3600))
    is_long = seconds > 86_400
    unit, length = next((each for each in longer if is_long and not seconds % each[1]), ("s", 1))
    return f"{seconds / length:.12g}{unit}"


def parse_decibels(text: str) -> float:
    """dBFS of "-40dB", "-40 dBFS" or "-40". Raises InvalidRequest for what is neither that, nor below full scale."""
    match = re.fullmatch(r"(-\d{1,3}(?:\.\d+)?)\s*(?:dB(?:FS)?)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise InvalidRequest(f"{text[:40]!r} is not a level below full scale", hint="write it like -40dB")
    return float(match[1])


def parse_size(text: str) -> int:
    """Bytes of "65536", "64k", "2M", "2MiB": powers of 1024 all. Raises InvalidRequest."""
    match = re.fullmatch(r"([0-9]{1,15})([kmgtKMGT]?)(?:[iI]?[bB])?", text)
    if match is None:
        raise InvalidRequest(f"{text[:40]!r} is not a valid size", hint="write it like 65536, 64k or 2M")
    return int(match[1]) * _BYTES[match[2].lower()]


class Keep(NamedTuple):
    """What to keep of sealed audio: the last `seconds`, or the last `n_bytes`; one of them is None."""

    seconds: float | None
    n_bytes: int | None


def parse_keep(text: str) -> Keep:
    """An age ("7d", "12h", "90min") or a size ("200GB", "500MB", powers of 1024). Raises InvalidRequest.

    Audio is deleted on its word, so nothing is guessed: it needs a unit, `m` (minutes? megabytes?) is not one, and
    nothing at all can't be meant.
    """
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)([a-zA-Z]*)", text)
    if match is None:
        raise InvalidRequest(f"{text[:40]!r} is neither an age nor a size to keep", hint=_KEEP_HINT)
    number, unit = match.groups()
    if not unit:
        raise InvalidRequest(f"what to keep has no unit: {text[:40]}", hint=_KEEP_HINT)
    if not float(number) or (unit in _AGES and parse_duration_s(number + unit) < _SHORTEST_KEEP_S):
        raise InvalidRequest(f"to keep {text[:40]} would be to keep nothing", hint=_KEEP_HINT)
    if unit in _AGES:
        return Keep(parse_duration_s(number + unit), None)
    if unit.lower() == "m":
        hint = f"write {number}min for minutes or {number}MB for megabytes"
        raise InvalidRequest(f"{text[:40]} could be minutes or megabytes", hint=hint)
    if (size := re.fullmatch(r"b|([kmgt])(?:i?b)?", unit.lower())) and "." not in number:
        return Keep(None, int(number) * _BYTES[size[1] or ""])
    raise InvalidRequest(f"{text[:40]!r} is neither an age nor a size to keep", hint=_KEEP_HINT)


def parse_roll_s(text: str) -> float:
    """Seconds that a take lasts ("1h"). Raises InvalidRequest, also for less than one."""
    seconds = parse_duration_s(text)
    if seconds < 1:
        raise InvalidRequest(f"a take of {text[:40]} is too short", hint="use 1s or more, for example 30m or 1h")
    return seconds


def parse_latency_frames(text: str, sample_rate: int | None) -> int:
    """Frames of a latency as pw-cat has it: "256" are frames, "20ms" a time. Raises InvalidRequest."""
    if text.isascii() and text.isdecimal():
        return int(text)
    if sample_rate is None:
        raise InvalidRequest(
            f"a latency of {text} needs a sample rate, and the device reports none",
            hint="give the latency in frames (--latency 256), or add --rate",
        )
    return max(1, round(parse_duration_s(text) * sample_rate))
