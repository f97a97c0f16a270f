"""What a field of a start may hold, told in words: for those who know it by another name, a key or an option."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, get_type_hints

import msgspec
import msgspec.inspect

from chaos.protocol.requests import StreamStart, shown
from chaos.terms.errors import InvalidRequest
from chaos.terms.units import duration_text

__all__ = ["check_field"]

_types = cache(partial(get_type_hints, include_extras=True))


def check_field(name: str, value: Any, written: Any, unit: str = "", struct: Any = StreamStart) -> None:
    """Raises InvalidRequest where this struct can't hold this value in that field. `written` is how the person wrote
    it, and `unit` what they write behind a number."""
    wanted = _types(struct)[name]
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError:
        text = str(written) if isinstance(written, float) else shown(written)  # JSON has no nan
        raise InvalidRequest(f"{text} can't be used", hint=_allowed(wanted, unit)) from None


def _told(value: float | None, unit: str) -> str:
    if value is None:
        return "any number"
    return duration_text(value) if unit == "s" else f"{value:.15g}{unit}"


def _allowed(wanted: Any, unit: str) -> str:
    found = msgspec.inspect.type_info(wanted)
    for each in found.types if isinstance(found, msgspec.inspect.UnionType) else (found,):
        match each:
            case msgspec.inspect.FloatType(ge=least, lt=most) if most is not None:
                return f"use a value from {_told(least, unit)} to less than {_told(most, unit)}"
            case msgspec.inspect.IntType(ge=least, le=most) | msgspec.inspect.FloatType(ge=least, le=most):
                return f"use a value from {_told(least, unit)} to {_told(most, unit)}"
            case msgspec.inspect.LiteralType(values=(one,)):
                return f"use {one}, or leave it out"
            case msgspec.inspect.LiteralType(values=values):
                return f"use one of {', '.join(map(str, values))}"
            case msgspec.inspect.StrType(min_length=int(least), max_length=int(most)):
                return f"use {least} to {most} characters"
            case msgspec.inspect.ListType(min_length=least, max_length=most):
                return f"use {least} to {most} names, each of 1 to 32 characters"
    return "see what it takes in docs/PROTOCOL.md"
