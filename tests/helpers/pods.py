"""Writes SPA pods, for tests that need what PipeWire would send."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Writer = Callable[[Any], bytes]


def pod(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", len(body), kind) + body + b"\0" * (-len(body) % 8)


def none() -> bytes:
    return pod(1, b"")


def truth(value: bool) -> bytes:
    return pod(2, struct.pack("<i", value))


def ident(value: int) -> bytes:
    return pod(3, struct.pack("<I", value))


def i32(value: int) -> bytes:
    return pod(4, struct.pack("<i", value))


def i64(value: int) -> bytes:
    return pod(5, struct.pack("<q", value))


def f32(value: float) -> bytes:
    return pod(6, struct.pack("<f", value))


def double(value: float) -> bytes:
    return pod(7, struct.pack("<d", value))


def text(value: str) -> bytes:
    return pod(8, value.encode() + b"\0")


def array(element: Writer, values: Sequence[Any]) -> bytes:
    return pod(13, _elements(element, values))


def sequence(*pods: bytes) -> bytes:
    """A pod struct."""
    return pod(14, b"".join(pods))


def obj(kind: int, param: int, props: Mapping[int, bytes]) -> bytes:
    body = b"".join(struct.pack("<II", key, 0) + value for key, value in props.items())
    return pod(15, struct.pack("<II", kind, param) + body)


def choice(kind: int, element: Writer, values: Sequence[Any]) -> bytes:
    return pod(19, struct.pack("<II", kind, 0) + _elements(element, values))


def _elements(element: Writer, values: Sequence[Any]) -> bytes:
    size, kind = struct.unpack_from("<II", element(values[0] if values else 0))
    return struct.pack("<II", size, kind) + b"".join(element(value)[8 : 8 + size] for value in values)
