"""SPA pods: read as written, and nothing that a stranger sends gets further than PodError."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pods import array, choice, double, f32, i32, i64, ident, none, obj, pod, sequence, text, truth

from chaos.graph.pod import Choice, Object, PodError, channel_name, fixed, parse

SCALARS = st.one_of(
    st.tuples(st.just(i32), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just(i64), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(ident), st.integers(0, 2**32 - 1)),
    st.tuples(st.just(f32), st.floats(width=32, allow_nan=False)),
    st.tuples(st.just(double), st.floats(allow_nan=False)),
    st.tuples(st.just(truth), st.booleans()),
    st.tuples(st.just(text), st.text(st.characters(exclude_characters="\0", codec="utf-8"))),
).map(lambda pair: (pair[0](pair[1]), pair[1]))
PODS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(
            lambda pairs: (sequence(*(written for written, _ in pairs)), tuple(value for _, value in pairs))
        ),
        st.dictionaries(st.integers(0, 2**32 - 1), inner, max_size=4).map(
            lambda by_key: (
                obj(0x40003, 3, {key: value for key, (value, _) in by_key.items()}),
                Object(0x40003, 3, {key: value for key, (_, value) in by_key.items()}),
            )
        ),
    ),
    max_leaves=12,
)


@given(PODS)
def test_pods_are_read_as_written(written: tuple[bytes, Any]) -> None:
    data, value = written
    assert parse(data) == value
    assert parse(data + b"what follows") == value


@given(st.lists(st.integers(0, 2**32 - 1), max_size=70))
def test_arrays_and_choices_share_one_header(values: list[int]) -> None:
    assert parse(array(ident, values)) == tuple(values)
    assert parse(choice(3, ident, values)) == Choice(3, tuple(values))


@given(PODS, st.data())
def test_a_cut_pod_is_an_error(written: tuple[bytes, Any], data: st.DataObject) -> None:
    whole, _ = written
    size = struct.unpack_from("<I", whole)[0]
    cut = data.draw(st.integers(0, 7 + size))
    with pytest.raises(PodError):
        parse(whole[:cut])


@given(st.binary(max_size=200) | PODS.map(lambda p: p[0]), st.data())
def test_any_bytes_give_a_value_or_a_pod_error(raw: bytes, data: st.DataObject) -> None:
    spoilt = bytearray(raw)
    for at in data.draw(st.lists(st.integers(0, max(0, len(raw) - 1)), max_size=4 if raw else 0)):
        spoilt[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PodError):
        parse(bytes(spoilt))


def test_pods_nested_without_end_are_refused() -> None:
    nested = i32(1)
    for _ in range(40):
        nested = sequence(nested)
    with pytest.raises(PodError, match="inside each other"):
        parse(nested)


def test_fixed_is_what_leaves_no_choice() -> None:
    assert fixed(parse(choice(0, i32, [48000]))) == 48000
    assert fixed(48000) == 48000
    assert fixed(parse(choice(1, i32, [48000, 1, 96000]))) is None
    assert fixed(parse(choice(0, i32, []))) is None
    assert parse(none()) is None


@pytest.mark.parametrize(
    ("position", "name"),
    [(2, "MONO"), (3, "FL"), (9, "FLC"), (0x1000, "AUX0"), (0x103F, "AUX63"), (999, "UNK")],
)
def test_channel_names(position: int, name: str) -> None:
    assert channel_name(position) == name


def test_types_that_nobody_needs_are_none() -> None:
    assert parse(pod(16, b"\0" * 8)) is None
