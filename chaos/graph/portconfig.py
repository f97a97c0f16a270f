"""What gives a node its ports where no session manager does: a PortConfig param, as a SPA pod. Pure.

Each channel gets a port of its own with the graph's 32-bit floats ("DSP" mode), as WirePlumber would have it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from chaos.graph.pod import CHANNELS

__all__ = ["PORT_CONFIG", "port_config"]

PORT_CONFIG = 11
"""The param's id."""

_ID, _INT, _ARRAY, _OBJECT, _BOOL = 3, 4, 13, 15, 2
_FORMAT_OBJECT, _CONFIG_OBJECT, _FORMAT_PARAM = 0x40003, 0x40008, 4
_AUDIO, _RAW, _F32P, _MODE_DSP = 1, 1, 0x206, 3
_CODES = {name: code for code, name in CHANNELS.items()}
_AUX0 = 0x1000


def port_config(positions: Sequence[str], sample_rate: int, *, is_input: bool, monitor: bool = False) -> bytes:
    """The pod that asks for a port per position. `is_input`: ports that take audio in, and with `monitor` as
    many that give it out again.
    """
    form = {
        1: _pod(_ID, _u32(_AUDIO)),
        2: _pod(_ID, _u32(_RAW)),
        0x10001: _pod(_ID, _u32(_F32P)),
        0x10003: _pod(_INT, _u32(sample_rate)),
        0x10004: _pod(_INT, _u32(len(positions))),
        0x10005: _pod(_ARRAY, _u32(4, _ID, *(_code(name, k) for k, name in enumerate(positions)))),
    }
    config = {
        1: _pod(_ID, _u32(0 if is_input else 1)),
        2: _pod(_ID, _u32(_MODE_DSP)),
        3: _pod(_BOOL, _u32(monitor)),
        5: _object(_FORMAT_OBJECT, _FORMAT_PARAM, form),
    }
    return _object(_CONFIG_OBJECT, PORT_CONFIG, config)


def _code(name: str, index: int) -> int:
    return _CODES[name] if name in _CODES and name != "UNK" else _AUX0 + index


def _u32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def _pod(kind: int, body: bytes) -> bytes:
    return _u32(len(body), kind) + body + b"\0" * (-len(body) % 8)


def _object(kind: int, param: int, props: Mapping[int, bytes]) -> bytes:
    return _pod(_OBJECT, _u32(kind, param) + b"".join(_u32(key, 0) + value for key, value in props.items()))
