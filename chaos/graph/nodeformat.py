"""What a node's params say: the formats it offers and runs at, and what its volumes do to samples. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from chaos.graph.pod import SAMPLE_FORMATS, Choice, Object, Value, channel_name, fixed

__all__ = ["NodeFormat", "NodeVolume", "Params", "node_format", "node_volume"]

Params = Mapping[int, tuple[Value, ...]]
"""A node's params by SPA param id, parsed."""

_PROPS, _ENUM_FORMAT, _FORMAT, _PORT_CONFIG = 2, 3, 4, 11
_MEDIA_TYPE, _MEDIA_SUBTYPE = 1, 2
_AUDIO, _RAW = 1, 1
_AUDIO_FORMAT, _RATE, _CHANNELS, _POSITION = 0x10001, 0x10003, 0x10004, 0x10005
_CONFIG_MODE, _CONFIG_FORMAT, _MODE_DSP = 2, 5, 3
_VOLUME, _MUTE, _CHANNEL_VOLUMES = 0x10003, 0x10004, 0x10008
_MONITOR_MUTE, _MONITOR_VOLUMES, _SOFT_MUTE, _SOFT_VOLUMES = 0x1000C, 0x1000D, 0x1000F, 0x10010
_EXTRA = 0x80001
_RANGE, _STEP, _ENUM = 1, 2, 3
# What says more than that doesn't make sense.
MAX_CHANNELS, MAX_GAIN = 4096, 1e9


class NodeFormat(msgspec.Struct, frozen=True):
    """`sample_rate`: of the running node, else the only one it offers. `rates` and `rate_range`: what it
    offers.

    `native_formats` are PipeWire's names ("S16LE", "F32P"). `port_channels`: how many DSP ports it is
    configured to have; None where it isn't.
    """

    sample_rate: int | None = None
    rates: tuple[int, ...] = ()
    rate_range: tuple[int, int] | None = None
    channels: int = 0
    positions: tuple[str, ...] = ()
    native_formats: tuple[str, ...] = ()
    port_channels: int | None = None


class NodeVolume(msgspec.Struct, frozen=True):
    """`volume`: what was set (None: the node has none); `sample_gain`: what multiplies samples. Linear."""

    volume: float | None
    sample_gain: float
    muted: bool


def node_format(params: Params) -> NodeFormat:
    """What can be read of it; unreadable parts are left out."""
    offered = list(_raw_audio(params.get(_ENUM_FORMAT, ())))
    running = list(_raw_audio(params.get(_FORMAT, ())))
    configured = [
        config.props.get(_CONFIG_FORMAT)
        for config in params.get(_PORT_CONFIG, ())
        if isinstance(config, Object) and fixed(config.props.get(_CONFIG_MODE)) == _MODE_DSP
    ]
    ported = list(_raw_audio(configured))
    rates, rate_range = _rates(offered)
    only = _one([_integer(form.props.get(_RATE)) for form in running]) or (
        rates[0] if len(rates) == 1 and rate_range is None else None
    )
    shape = [*ported, *running, *offered]
    return NodeFormat(
        sample_rate=only,
        rates=rates,
        rate_range=rate_range,
        channels=next(filter(None, (_channels(form) for form in shape)), 0),
        positions=next(filter(None, (_positions(form) for form in shape)), ()),
        native_formats=_unique(
            SAMPLE_FORMATS[value]
            for form in offered
            for value in _values(form.props.get(_AUDIO_FORMAT))
            if value in SAMPLE_FORMATS
        ),
        port_channels=_one([_channels(form) for form in ported]),
    )


def node_volume(params: Params, *, by_monitor: bool, props: Mapping[str, str]) -> NodeVolume:
    """`by_monitor`: it is captured from its monitor ports, which its channel volumes pass by unless told not
    to.

    A node of a sound card whose mixer takes part (`card.profile.device`) multiplies only what the mixer can't
    do.
    """
    told = next((p.props for p in params.get(_PROPS, ()) if isinstance(p, Object)), {})
    main = _gain([told.get(_VOLUME)])
    channels = _gain(_list(told.get(_CHANNEL_VOLUMES)))
    muted = told.get(_MUTE) is True
    if _VOLUME not in told and _CHANNEL_VOLUMES not in told:
        return NodeVolume(None, 0.0 if muted else 1.0, muted)
    extra = _list(told.get(_EXTRA))
    if by_monitor:
        gain = 0.0 if told.get(_MONITOR_MUTE) is True else _gain(_list(told.get(_MONITOR_VOLUMES)))
        switches = zip(extra[0::2], extra[1::2], strict=False)
        if any(key == "monitor.channel-volumes" and on is True for key, on in switches):
            gain *= 0.0 if muted else channels
    elif "card.profile.device" in props:
        gain = 0.0 if told.get(_SOFT_MUTE) is True else main * _gain(_list(told.get(_SOFT_VOLUMES)))
    else:
        gain = 0.0 if muted else main * channels
    return NodeVolume(round(main * channels, 6), round(gain, 6), muted)


def _raw_audio(pods: Iterable[Value]) -> Iterator[Object]:
    for pod in pods:
        if not isinstance(pod, Object):
            continue
        if fixed(pod.props.get(_MEDIA_TYPE)) == _AUDIO and fixed(pod.props.get(_MEDIA_SUBTYPE)) == _RAW:
            yield pod


def _rates(offered: list[Object]) -> tuple[tuple[int, ...], tuple[int, int] | None]:
    """Single rates, ascending, and the widest range."""
    singles: set[int] = set()
    ends: list[int] = []
    for form in offered:
        rate = form.props.get(_RATE)
        if isinstance(rate, Choice) and rate.kind in (_RANGE, _STEP):
            ends += [value for value in rate.values[1:3] if type(value) is int]
        else:
            singles.update(value for value in _values(rate) if value > 0)
    return tuple(sorted(singles)), (min(ends), max(ends)) if ends else None


def _values(value: Value) -> tuple[Value, ...]:
    """Every number that may be chosen, the default once."""
    given = (value,)
    if isinstance(value, Choice):
        given = value.values if value.kind == _ENUM else value.values[:1]
    return _unique(each for each in given if type(each) is int)


def _positions(form: Object) -> tuple[str, ...]:
    return tuple(channel_name(p) for p in _list(fixed(form.props.get(_POSITION))) if isinstance(p, int))


def _channels(form: Object) -> int | None:
    n = _integer(form.props.get(_CHANNELS))
    return n if n is not None and n <= MAX_CHANNELS else None


def _integer(value: Value) -> int | None:
    plain = fixed(value)
    return plain if type(plain) is int and plain > 0 else None


def _one(values: list[int | None]) -> int | None:
    """The value, where all have the same."""
    return values[0] if len(set(values)) == 1 else None


def _list(value: Value) -> tuple[Value, ...]:
    return value if isinstance(value, tuple) else ()


def _gain(values: Iterable[Value]) -> float:
    """Of several channels' the one that is farthest from leaving samples alone; what can't be a gain is left out."""
    gains = (v for v in values if isinstance(v, float) and abs(v) <= MAX_GAIN)
    return max(gains, key=lambda v: abs(v - 1.0), default=1.0)


def _unique(values: Iterable[Value]) -> tuple[Value, ...]:
    return tuple(dict.fromkeys(values))
