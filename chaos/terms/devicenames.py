"""The names by which somebody has chosen devices."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from chaos.terms.errors import InvalidRequest

__all__ = ["check_once"]


def check_once(named: Iterable[tuple[str, Hashable]]) -> None:
    """Names, each with what is equal for one device alone. Raises InvalidRequest where two names are of one device: its
    frames would be recorded twice."""
    known: dict[Hashable, str] = {}
    for name, device in named:
        if device in known:
            what = f"{known[device]!r} and {name!r} are the same device"
            what = f"{name!r} is named twice, which is the same device" if known[device] == name else what
            raise InvalidRequest(what, hint="name each device once; chaosctl devices lists them")
        known[device] = name
