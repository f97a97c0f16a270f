"""The keys of a configuration file: what each may hold, and the field that it becomes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from chaos.terms.errors import InvalidRequest
from chaos.terms.units import parse_duration_s, parse_size

__all__ = [
    "BY_THE_CLOCK",
    "FOLDERS",
    "IN_FORMAT",
    "LOG_LEVELS",
    "OF_MEMBER",
    "OF_SESSION",
    "OF_STREAM",
    "SETTINGS",
    "Keys",
    "in_keys",
    "unit_of",
]

LOG_LEVELS = ("debug", "info", "warning", "error")

Keys: TypeAlias = Mapping[str, tuple[str, Callable[[Any], Any]]]
"""By key: the field of Config or StreamStart, and what makes its value of the key's, or raises InvalidRequest."""


def in_keys(keys: Keys, text: str) -> str:
    """What was said of fields, said of the keys that a file has."""
    for key, (field, _) in keys.items():
        text = re.sub(rf"\b{field}\b", key, text)
    return text


def unit_of(keys: Keys, key: str) -> str:
    """What is written behind a number of this key."""
    return "s" if keys[key][1] is _seconds else ""


def _text(value: Any) -> str:
    text = str(_of(value, str, "text in quotes"))
    if "\0" in text:
        raise InvalidRequest(f"{text[:80]!r} has a NUL character", hint="write it without one")
    return text


def _bool(value: Any) -> bool:
    return bool(_of(value, bool, "true or false"))


def _whole(value: Any) -> int:
    return int(_of(value, int, "a whole number"))


def _number(value: Any) -> float:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest("expected a number", hint=f"found {value}")
    return float(_of(value, int | float, "a number"))


def _size(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else parse_size(_text(value))


def _seconds(value: Any) -> float:
    return parse_duration_s(_text(value))


def _mode(value: Any) -> int:
    text = str(value) if isinstance(value, int) else _text(value)
    try:
        return int(text, 8)
    except ValueError:
        raise InvalidRequest(f"{text!r} is not a mode", hint='write "700", "750" or "755"') from None


def _level(value: Any) -> str:
    if value not in LOG_LEVELS:
        raise InvalidRequest(f"there is no log level {value!r}", hint=f"use one of {', '.join(LOG_LEVELS)}")
    return str(value)


def _channels(value: Any) -> list[str]:
    found = value if isinstance(value, list) else _text(value).split(",")
    names = [str(each).strip() for each in found]
    if twice := [each for each in names if names.count(each) > 1]:
        raise InvalidRequest(f"{twice[0]} is named twice", hint="name each channel once")
    return names


def _texts(value: Any) -> list[str]:
    return [_text(each) for each in (value if isinstance(value, list) else [value])]


def _latency(value: Any) -> int | str:
    return value if isinstance(value, int) and not isinstance(value, bool) else _text(value)


def _of(value: Any, kind: Any, expected: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InvalidRequest(f"expected {expected}", hint=f"found {str(value)[:80]!r}")
    return value


SETTINGS: Keys = {
    "store": ("store", _text),
    "endpoint": ("endpoint", _text),
    "events": ("events_endpoint", _text),
    "keys": ("keys", _text),
    "staging_dir": ("staging_dir", _text),
    "staging_seconds": ("staging_seconds", _number),
    "allow_path": ("allow_paths", _texts),
    "free_margin": ("free_margin_bytes", _size),
    "keep": ("keep", _text),
    "upload": ("upload", _text),
    "upload_as": ("upload_as", _text),
    "upload_limit": ("upload_limit", _size),
    "store_mode": ("store_mode", _mode),
    "stop_within": ("stop_within_s", _number),
    "remote": ("remote", _text),
    "log_level": ("log_level", _level),
}
BY_THE_CLOCK = ("at", "for", "until")  # not here: people know them from chaosctl start
FOLDERS = ("store", "keys", "staging_dir", "allow_paths")

OF_MEMBER: Keys = {
    "name": ("name", _text),
    "device": ("device_identity", _text),
    "midi": ("midi", _bool),
    "format": ("sample_format", _text),
    "rate": ("sample_rate", _whole),
    "channels": ("channels", _whole),
    "channel_map": ("channel_map", _channels),
    "keep": ("keep", _text),
}
OF_STREAM: Keys = {
    **OF_MEMBER,
    "roll": ("roll", _text),
    "align": ("align", _text),
    "standby": ("standby_s", _seconds),
    "latency": ("latency_frames", _latency),
    "chunk_size": ("chunk_size_bytes", _size),
    "staging_seconds": ("staging_seconds", _number),
    "silent_below": ("silent_below_dbfs", _number),
    "silent_after": ("silent_after_s", _seconds),
    "accept_port_change": ("accept_port_change", _bool),
    "require_own_clock": ("require_own_clock", _bool),
    "roll_on_format_change": ("roll_on_format_change", _bool),
}
OF_SESSION: Keys = {"name": ("name", _text)}
IN_FORMAT = ("sample_format", "sample_rate", "channels")
