"""SPA pods: the typed values in which PipeWire states formats, port configurations and properties.

Only reading, and only what a registry meets: pods come from other processes, so nothing in them is believed.
"""

from __future__ import annotations

import struct
from typing import Any, TypeAlias

import msgspec

__all__ = ["CHANNELS", "SAMPLE_FORMATS", "Choice", "Object", "PodError", "channel_name", "fixed", "parse"]

_HEADER = struct.Struct("<II")
_MAX_DEPTH = 16

_NONE, _BOOL, _ID, _INT, _LONG, _FLOAT, _DOUBLE, _STRING, _BYTES = range(1, 10)
_RECTANGLE, _FRACTION, _BITMAP, _ARRAY, _STRUCT, _OBJECT = range(10, 16)
_FD, _CHOICE, _POD = range(18, 21)

_FIXED = {
    _ID: struct.Struct("<I"),
    _INT: struct.Struct("<i"),
    _LONG: struct.Struct("<q"),
    _FLOAT: struct.Struct("<f"),
    _DOUBLE: struct.Struct("<d"),
    _FD: struct.Struct("<q"),
}
_PAIRS = {_RECTANGLE: struct.Struct("<II"), _FRACTION: struct.Struct("<II")}

_INTERLEAVED = """
    S8 U8 S16LE S16BE U16LE U16BE S24_32LE S24_32BE U24_32LE U24_32BE S32LE S32BE U32LE U32BE
    S24LE S24BE U24LE U24BE S20LE S20BE U20LE U20BE S18LE S18BE U18LE U18BE
    F32LE F32BE F64LE F64BE ULAW ALAW"""
_PLANAR = "U8P S16P S24_32P S32P S24P F32P F64P S8P"
_POSITIONS = """
    UNK NA MONO FL FR FC LFE SL SR FLC FRC RC RL RR TC TFL TFC TFR TRL TRC TRR RLC RRC FLW FRW LFE2
    FLH FCH FRH TFLC TFRC TSL TSR LLFR RLFE BC BLC BRC"""

SAMPLE_FORMATS: dict[int, str] = {
    **dict(enumerate(_INTERLEAVED.split(), start=0x101)),
    **dict(enumerate(_PLANAR.split(), start=0x201)),
}
"""enum spa_audio_format by value, as PipeWire's tools write them."""

CHANNELS: dict[int, str] = dict(enumerate(_POSITIONS.split()))
"""enum spa_audio_channel by value; from 0x1000 on they are AUX0, AUX1, ... (`channel_name`)."""

_AUX0 = 0x1000


class PodError(ValueError):
    """Bytes that are no pod."""


class Choice(msgspec.Struct, frozen=True):
    """What may be chosen from. kind: 0 none, 1 range (default, min, max), 2 step, 3 enum, 4 flags.

    `values` begins with the default; of an enum the alternatives follow it (the default among them, mostly).
    """

    kind: int
    values: tuple[Any, ...]


class Object(msgspec.Struct, frozen=True):
    """A pod object: its type, the param it stands for, and its properties by key."""

    type: int
    id: int
    props: dict[int, Any]


Value: TypeAlias = Any
"""None, bool, int, float, str, bytes, a tuple (array, struct, rectangle, fraction), Choice or Object."""


def fixed(value: Value) -> Value:
    """The value itself, also of a choice that leaves none; None where something may be chosen."""
    if isinstance(value, Choice):
        return value.values[0] if value.kind == 0 and value.values else None
    return value


def channel_name(position: int) -> str:
    """PipeWire's short name of a channel position; "UNK" where it has none."""
    if _AUX0 <= position < 2 * _AUX0:
        return f"AUX{position - _AUX0}"
    return CHANNELS.get(position, "UNK")


def parse(data: bytes) -> Value:
    """The value of one pod; what follows it is left alone. Raises PodError."""
    return _pod(memoryview(data), 0)[0]


def _pod(data: memoryview, depth: int) -> tuple[Value, int]:
    """The value at the start of `data`, and how many bytes the pod takes with its padding."""
    size, kind = _header(data)
    end = 8 + size
    if end > len(data):
        raise PodError(f"a pod of {size} bytes in {len(data) - 8}")
    return _body(kind, data[8:end], depth), (end + 7) & ~7


def _header(data: memoryview) -> tuple[int, int]:
    if len(data) < 8:
        raise PodError(f"a pod's header in {len(data)} bytes")
    size, kind = _HEADER.unpack_from(data)
    return size, kind


def _body(kind: int, body: memoryview, depth: int) -> Value:
    if depth > _MAX_DEPTH:
        raise PodError(f"more than {_MAX_DEPTH} pods inside each other")
    if kind in _FIXED or kind in _PAIRS or kind == _BOOL:
        return _scalar(kind, body)
    if kind == _STRING:
        return bytes(body).partition(b"\0")[0].decode(errors="replace")
    if kind in (_BYTES, _BITMAP):
        return bytes(body)
    if kind in (_ARRAY, _CHOICE):
        return _elements(kind, body, depth)
    if kind == _STRUCT:
        return _struct(body, depth)
    if kind == _OBJECT:
        return _object(body, depth)
    if kind == _POD:
        return _pod(body, depth + 1)[0]
    return None


def _scalar(kind: int, body: memoryview) -> Value:
    try:
        if kind == _BOOL:
            return _FIXED[_INT].unpack_from(body)[0] != 0
        if kind in _PAIRS:
            return _PAIRS[kind].unpack_from(body)
        return _FIXED[kind].unpack_from(body)[0]
    except struct.error as error:
        raise PodError(f"type {kind} in {len(body)} bytes") from error


def _elements(kind: int, body: memoryview, depth: int) -> Value:
    """An array's or a choice's elements: one header for all, then the bodies without padding."""
    start = 0 if kind == _ARRAY else 8
    size, element = _header(body[start:])
    start += 8
    if not size:
        values: tuple[Any, ...] = ()
    else:
        last = len(body) - size
        values = tuple(_body(element, body[at : at + size], depth + 1) for at in range(start, last + 1, size))
    if kind == _ARRAY:
        return values
    return Choice(_HEADER.unpack_from(body)[0], values)


def _struct(body: memoryview, depth: int) -> tuple[Any, ...]:
    values = []
    at = 0
    while at < len(body):
        value, taken = _pod(body[at:], depth + 1)
        values.append(value)
        at += taken
    return tuple(values)


def _object(body: memoryview, depth: int) -> Object:
    kind, param = _header(body)
    props = {}
    at = 8
    while at < len(body):
        key, _flags = _header(body[at:])
        value, taken = _pod(body[at + 8 :], depth + 1)
        props[key] = value
        at += 8 + taken
    return Object(kind, param, props)
