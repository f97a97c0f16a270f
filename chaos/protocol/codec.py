"""The wire: bytes into requests, answers and events into bytes; and what is wrong with bytes that are not a request."""

from __future__ import annotations

import json
import re
import time
import typing
from difflib import get_close_matches
from typing import Any, Literal

import msgspec

from chaos.protocol.events import Event, Published
from chaos.protocol.requests import (
    MAX_ID_CHARACTERS,
    MAX_REQUEST_BYTES,
    REQUESTS,
    TIME_HINT,
    AudioFormat,
    MidiFormat,
    Moment,
    Request,
    checked_size,
    shown,
)
from chaos.terms.errors import ChaosError, InvalidFormat, InvalidRequest, UnknownOp
from chaos.terms.moments import utc_text

__all__ = [
    "MAX_MESSAGE_BYTES",
    "MAX_REQUEST_BYTES",
    "PROTOCOL_VERSION",
    "decode_request",
    "encode_error",
    "encode_ok",
    "make_event",
    "request_id",
    "topic_of",
]

PROTOCOL_VERSION = 1
MAX_MESSAGE_BYTES = 16 << 20
_MAX_TEXT = 2000

_FORM_HINT = 'a request looks like {"op": "ping", "id": "1"}'
_INSTANT_HINT = (
    "write it like 2026-01-31T12:00:00Z or 2026-01-31T13:00:00.25+01:00, with a zone and with seconds up to 59:"
    " for a leap second use the one after it"
)
_ESCAPE = re.compile(r"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>\\u[dD][89a-fA-F]..)")
_COMPLAINT = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_PARTS: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "format": (AudioFormat, MidiFormat),
    "from": (Moment,),
    "to": (Moment,),
}


class _Head(msgspec.Struct):
    op: Any = None
    id: Any = None


_decode_head = msgspec.json.Decoder(_Head).decode
_decoders = {op: msgspec.json.Decoder(kind) for op, kind in REQUESTS.items()}
_encoder = msgspec.json.Encoder()


def decode_request(raw: bytes) -> Request:
    """The request that the last frame of a command holds.

    Raises InvalidRequest (too large, not JSON, a wrong type, a field that is unknown, missing or there twice: which,
    what was expected and what came), UnknownOp with the nearest op, or what the op's struct raises.
    """
    try:
        op = _decode_head(checked_size(raw)).op
    except msgspec.ValidationError as e:
        raise InvalidRequest(f"the request is not a JSON object: {e}", hint=_FORM_HINT) from None
    except (ValueError, RecursionError) as e:
        raise _not_json(e, raw) from None
    if op is None:
        raise InvalidRequest("the request has no `op`", hint=_FORM_HINT)
    if not isinstance(op, str):
        raise InvalidRequest(f"field `op`: expected a string, got {shown(op)}", hint=_FORM_HINT)
    decoder = _decoders.get(op)
    if decoder is None:
        raise UnknownOp(
            f"there is no op {shown(op)}",
            hint=_nearest(op, list(REQUESTS), f"the ops are {', '.join(REQUESTS)}"),
        )
    try:
        request = decoder.decode(raw)
    except msgspec.ValidationError as e:
        text = _checked_text(raw)
        _refuse_doubles(text)
        raise _explained(str(e), text, op) from None
    except (ValueError, RecursionError) as e:
        raise _not_json(e, raw) from None
    _refuse_doubles(raw)
    return request


def request_id(raw: bytes) -> str | None:
    """The `id` of a request that may be wrong in every other way; None where none can be read, or it is too long."""
    try:
        found = _decode_head(raw).id
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, str) and len(found) <= MAX_ID_CHARACTERS else None


def encode_ok(request_id: str | None, result: Any) -> bytes:
    """The answer to a request that was done; `result` is a mapping or a struct."""
    return _encoder.encode({"ok": True, "id": request_id, "result": result})


def encode_error(request_id: str | None, error: ChaosError) -> bytes:
    """The answer to a request that was not. What a client wrote goes back to it cut: it may be a megabyte."""
    wire = error.to_wire()
    wire |= {name: f"{wire[name][:_MAX_TEXT]}..." for name in ("message", "hint") if len(wire[name]) > _MAX_TEXT}
    try:
        return _encoder.encode({"ok": False, "id": request_id, "error": wire})
    except (TypeError, ValueError, RecursionError):
        plain = {
            "code": error.code,
            "message": ascii(wire["message"]),
            "hint": ascii(wire["hint"]),
            "details": {},
        }
        return _encoder.encode({"ok": False, "id": request_id, "error": plain})


def topic_of(event: Event, stream_uri: str | None) -> str:
    """What subscribers choose by: the event's type, then the stream's URI where it is a stream's."""
    return event.type if stream_uri is None else f"{event.type} {stream_uri}"


def make_event(
    event: Event, *, seq: int, topic_seq: int, run_id: str, stream_uri: str | None = None
) -> Published:
    """The event with what all events carry; it happens now."""
    wall_ns, monotonic_ns = time.time_ns(), time.monotonic_ns()
    wire: dict[str, Any] = {
        "type": event.type,
        "seq": seq,
        "topic_seq": topic_seq,
        "run_id": run_id,
        "wall_ns": wall_ns,
        "utc": utc_text(wall_ns),
        "monotonic_ns": monotonic_ns,
    }
    if stream_uri is not None:
        wire["stream_uri"] = stream_uri
    payload = _encoder.encode(wire | msgspec.structs.asdict(event))
    topic = topic_of(event, stream_uri).encode()
    return Published(event, stream_uri, seq, topic_seq, run_id, wall_ns, monotonic_ns, topic, payload)


def _checked_text(raw: bytes) -> bytes:
    """These bytes, once it is clear that what is wrong with them is something else than that they are not text."""
    try:
        raw.decode()
    except UnicodeDecodeError as e:
        raise _not_json(e, raw) from None
    return raw


def _not_json(error: Exception, raw: bytes) -> InvalidRequest:
    """Half of a surrogate pair has a text of its own: msgspec says that the data were cut off."""
    for found in _ESCAPE.finditer(raw.decode(errors="replace")):
        if half := found["half"]:
            return InvalidRequest(
                f"the request has {half} in it, half of a character", hint="write the character itself, in UTF-8"
            )
    return InvalidRequest(f"the request is not JSON in UTF-8: {error}", hint=_FORM_HINT)


def _refuse_doubles(raw: bytes) -> None:
    """Raises InvalidRequest where a field is twice in one object: readers of JSON differ in which of them counts."""
    try:
        json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError):  # what is wrong with it, others say
        return


def _once(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > 1 and len(names := {name for name, _ in pairs}) < len(pairs):
        seen = [name for name, _ in pairs]
        double = next(name for name in names if seen.count(name) > 1)
        raise InvalidRequest(f"the request has {shown(double)} twice", hint="give each field once")


def _explained(complaint: str, raw: bytes, op: str) -> ChaosError:
    """msgspec's complaint as an error that names the field, what was expected and what came."""
    match = _COMPLAINT.fullmatch(complaint)
    what, path = (match["what"], match["path"] or "") if match else (complaint, "")
    owner = path.partition(".")[0]
    kinds = _PARTS.get(owner, (REQUESTS[op],))
    names = [name for kind in kinds for name in kind.__struct_encode_fields__]
    takes = f"{owner if owner in _PARTS else op} takes {', '.join(names)}"
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        place = f"field `{path}` of {op}" if path else op
        return InvalidRequest(f"{place} has no {shown(unknown[1])}", hint=_nearest(unknown[1], names, takes))
    if path == "format.type" or (path == "format" and "`type`" in what):
        return InvalidFormat("the format's type is unknown or missing", hint='use "audio" or "midi"')
    if missing := re.fullmatch(r"Object missing required field `(.*)`", what):
        return InvalidRequest(f"{op} needs the field `{missing[1]}`", hint=takes)
    if what.startswith("Invalid RFC3339") or "timezone component" in what:
        came = _value_at(raw, path)
        return InvalidRequest(f"field `{path}`: {came} is not a moment that can be used", hint=_INSTANT_HINT)
    hint = TIME_HINT if owner in ("from", "to") else takes
    if choices := _choices(typing.get_type_hints(REQUESTS[op]).get(path)):
        hint = f"use one of {', '.join(choices)}"
    came = "" if "got" in what or "'" in what else f", got {_value_at(raw, path)}"
    return InvalidRequest(f"field `{path}`: {what[:1].lower()}{what[1:]}{came}", hint=hint)


def _value_at(raw: bytes, path: str) -> str:
    try:
        value: Any = msgspec.json.decode(raw)
    except ValueError:
        return "what can't be read"
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return shown(value)


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is Literal:
        return list(typing.get_args(annotation))
    return [choice for part in typing.get_args(annotation) for choice in _choices(part)]


def _nearest(word: str, known: list[str], otherwise: str) -> str:
    near = get_close_matches(word[:100], known, n=1)
    return f"did you mean {near[0]}?" if near else otherwise
