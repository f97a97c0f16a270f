"""What a client hears, looked at before it is believed: whoever listens at an endpoint may be no chaosd, or another
version of it."""

from __future__ import annotations

from collections import deque
from typing import Any, TypeVar

import msgspec

from chaos.protocol.answers import RESULTS, Device
from chaos.protocol.events import EVENTS
from chaos.terms.errors import BadAnswer, ChaosError, error_from_code
from chaos.terms.visible import visible

__all__ = ["Answer", "Heard", "not_asked_for", "read_answer", "read_event"]

_HINT = "`chaosctl --version` and `chaosd --version` should be the same, and --endpoint that of a chaosd"
_KEPT = 16
_SHOWN = 200

T = TypeVar("T")


class _Error(msgspec.Struct, frozen=True):
    code: str
    message: str
    hint: str = ""
    details: dict[str, Any] = {}


class Answer(msgspec.Struct, frozen=True):
    """One of `result` and `error` is there."""

    ok: bool
    id: str | None = None
    result: dict[str, Any] | None = None
    error: _Error | None = None

    def refusal(self) -> ChaosError | None:
        """The error that a command was answered with."""
        error = self.error
        return None if error is None else error_from_code(error.code, error.message, error.hint, error.details)


class _Event(msgspec.Struct, frozen=True):
    type: str
    stream_uri: str | None = None


class _Devices(msgspec.Struct, frozen=True):
    devices: list[Device]


class _Found(msgspec.Struct, frozen=True):
    device: Device


_KINDS: dict[str, type[msgspec.Struct]] = {
    **RESULTS, "device_list": _Devices, "device_find": _Found, "device_wait": _Found
}  # fmt: skip


class Heard:
    """The latest answers and events, for whoever fails over one of them."""

    def __init__(self) -> None:
        self._latest: deque[tuple[str, type[msgspec.Struct] | None, dict[str, Any]]] = deque(maxlen=_KEPT)

    def answer(self, op: str, result: dict[str, Any]) -> None:
        self._latest.append((f"answer to {op}", _KINDS.get(op), result))

    def event(self, event: dict[str, Any]) -> None:
        self._latest.append((f"event {event['type']}", EVENTS.get(event["type"]), event))

    def fault(self, error: Exception) -> BadAnswer | None:
        """What was odd in what was heard, where that explains `error`: else that is a defect of whoever raised it."""
        for what, kind, value in reversed(self._latest):
            if kind is None:
                if isinstance(error, KeyError):
                    return _bad(what, f"it has no {error}")
                continue
            try:
                msgspec.convert(value, kind)
            except msgspec.ValidationError as odd:
                return _bad(what, str(odd))
        return None


def read_answer(raw: bytes) -> Answer:
    """Raises BadAnswer for what is not an answer of chaosd's."""
    answer = _read(raw, Answer, "answer")
    if (answer.result if answer.ok else answer.error) is None:
        raise _bad("answer", "it has neither a result nor an error")
    return answer


def not_asked_for(answer: Answer) -> BadAnswer:
    """Each command is answered once, under its own id: whoever answers otherwise may never answer what was asked."""
    return _bad("answer", f"its id is {answer.id!r}, and no command with that id waits for one")


def read_event(raw: bytes) -> dict[str, Any]:
    """Raises BadAnswer for what is not an event of chaosd's."""
    _read(raw, _Event, "event")
    return _read(raw, dict[str, Any], "event")


def _read(raw: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as odd:
        raise _bad(what, str(odd)) from None


def _bad(what: str, why: str) -> BadAnswer:
    return BadAnswer(f"chaosd's {visible(what[:_SHOWN])} makes no sense here: {visible(why[:_SHOWN])}", hint=_HINT)
