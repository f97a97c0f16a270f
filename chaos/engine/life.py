"""The life of a stream: its states, and which message may lead from one to which. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

from chaos.engine.messages import (
    AcceptPort,
    AnswerStart,
    Began,
    Broken,
    CaptureState,
    Driven,
    Due,
    Flow,
    Intruder,
    KeepStandby,
    Led,
    LinkState,
    MarkFrame,
    PastStored,
    PortLatency,
    Relink,
    RetireChunks,
    Roll,
    Rolled,
    SettleLatency,
    Stop,
    Stored,
    SwitchChunk,
    Target,
    Triggered,
    WrongClock,
    WrongRate,
)

__all__ = ["TRANSITIONS", "Life", "may_lead_to"]


class Life(enum.Enum):
    """Where a stream stands between its start and its end."""

    SEEKING = "seeking"  # no take yet: the device has not been there since the start
    CAPTURING = "capturing"  # one take runs, also while the device is away
    ROLLING = "rolling"  # the next take is ready; the callback has not gone over to it yet
    STORING = "storing"  # the callback is detached, the rotators store the rest
    ENDED = "ended"  # everybody is answered, and so is who still asks


_SEEKING, _CAPTURING, _ROLLING, _STORING, _ENDED = Life


def _to(*lives: Life) -> frozenset[Life]:
    return frozenset(lives)


TRANSITIONS: Mapping[type, Mapping[Life, frozenset[Life]]] = MappingProxyType(
    {
        Target: {
            _SEEKING: _to(_SEEKING, _CAPTURING, _STORING, _ENDED),
            _CAPTURING: _to(_CAPTURING, _STORING),
            _ROLLING: _to(_ROLLING, _CAPTURING, _STORING),
        },
        CaptureState: {_CAPTURING: _to(_CAPTURING), _ROLLING: _to(_ROLLING)},
        LinkState: {_CAPTURING: _to(_CAPTURING), _ROLLING: _to(_ROLLING)},
        SettleLatency: {_CAPTURING: _to(_CAPTURING), _ROLLING: _to(_ROLLING)},
        PortLatency: {_CAPTURING: _to(_CAPTURING), _ROLLING: _to(_ROLLING)},
        Intruder: {_CAPTURING: _to(_CAPTURING), _ROLLING: _to(_ROLLING)},
        Relink: {_CAPTURING: _to(_CAPTURING), _ROLLING: _to(_ROLLING)},
        AnswerStart: {_SEEKING: _to(_SEEKING), _CAPTURING: _to(_CAPTURING), _ROLLING: _to(_ROLLING)},
        Due: {
            _SEEKING: _to(_SEEKING, _CAPTURING, _STORING, _ENDED),
            _CAPTURING: _to(_CAPTURING, _STORING),
            _ROLLING: _to(_ROLLING, _CAPTURING, _STORING),
        },
        Roll: {_CAPTURING: _to(_CAPTURING, _ROLLING)},
        Rolled: {_ROLLING: _to(_CAPTURING)},
        Began: {_CAPTURING: _to(_CAPTURING), _ROLLING: _to(_ROLLING), _STORING: _to(_STORING)},
        Triggered: {_CAPTURING: _to(_CAPTURING), _STORING: _to(_STORING)},
        Driven: {_CAPTURING: _to(_CAPTURING), _ROLLING: _to(_ROLLING)},
        Led: {_CAPTURING: _to(_CAPTURING), _ROLLING: _to(_ROLLING)},
        WrongClock: {_CAPTURING: _to(_CAPTURING, _STORING), _ROLLING: _to(_ROLLING)},
        Flow: {_CAPTURING: _to(_CAPTURING), _ROLLING: _to(_ROLLING)},
        WrongRate: {_CAPTURING: _to(_CAPTURING, _STORING), _ROLLING: _to(_ROLLING)},
        AcceptPort: {life: _to(life) for life in Life},
        SwitchChunk: {
            _SEEKING: _to(_SEEKING),
            _CAPTURING: _to(_CAPTURING),
            _ROLLING: _to(_ROLLING),
            _STORING: _to(_STORING),
            _ENDED: _to(_ENDED),
        },
        MarkFrame: {
            _SEEKING: _to(_SEEKING),
            _CAPTURING: _to(_CAPTURING),
            _ROLLING: _to(_ROLLING),
            _STORING: _to(_STORING),
            _ENDED: _to(_ENDED),
        },
        KeepStandby: {
            _SEEKING: _to(_SEEKING),
            _CAPTURING: _to(_CAPTURING),
            _ROLLING: _to(_ROLLING),
            _STORING: _to(_STORING),
            _ENDED: _to(_ENDED),
        },
        RetireChunks: {_CAPTURING: _to(_CAPTURING), _ROLLING: _to(_ROLLING), _STORING: _to(_STORING)},
        Stop: {
            _SEEKING: _to(_ENDED),
            _CAPTURING: _to(_STORING),
            _ROLLING: _to(_STORING),
            _STORING: _to(_STORING),
            _ENDED: _to(_ENDED),
        },
        Stored: {_STORING: _to(_STORING, _ENDED)},
        PastStored: {_CAPTURING: _to(_CAPTURING), _ROLLING: _to(_ROLLING), _STORING: _to(_STORING, _ENDED)},
        Broken: {_SEEKING: _to(_ENDED), _CAPTURING: _to(_ENDED), _ROLLING: _to(_ENDED), _STORING: _to(_ENDED)},
    }
)
"""For each message the lives in which it counts, and those to which it may lead. In all others it is ignored.

A failure of ours ends the stream from wherever it stands.
"""


def may_lead_to(message: object, life: Life) -> frozenset[Life]:
    """Empty where `message` is ignored in `life`."""
    return TRANSITIONS[type(message)].get(life, frozenset())
