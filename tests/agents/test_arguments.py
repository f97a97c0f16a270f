"""What tools take: schemas that clients can use, examples that work, and errors that say what would."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from chaos.agents.answers import ANSWERS
from chaos.agents.arguments import EXAMPLES, TOOLS, decoded, schema_of
from chaos.terms.errors import ChaosError

URI = "stream://desk/take-1"
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def test_every_tool_has_an_example_and_an_answer() -> None:
    assert list(TOOLS) == list(EXAMPLES) == list(ANSWERS)
    assert len(TOOLS) - 1 == 10  # one is off unless it is asked for


@pytest.mark.parametrize("tool", TOOLS)
def test_an_example_works_and_fits_the_schema(tool: str) -> None:
    schema = schema_of(TOOLS[tool])
    Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    assert (TOOLS[tool].__doc__ or "").strip()
    Draft202012Validator(schema).validate(EXAMPLES[tool])
    decoded(tool, EXAMPLES[tool])
    Draft202012Validator.check_schema(schema_of(ANSWERS[tool]))


@pytest.mark.parametrize(
    ("tool", "wrong", "message", "hint"),
    [
        ("stream_create", {}, "stream_create needs `uri`", "for example: stream_create {"),
        ("stream_create", {"uri": 3}, "argument `uri` of stream_create: expected `str`, got `int`", "for example"),
        ("stream_create", {"uri": None, "device_identity": "x"}, "expected `str`, got `null`", "for example"),
        ("stream_create", {"uri": "", "device_identity": "x"}, "length >= 1, got \"\"", "for example"),
        ("stream_create", {"uri": URI, "device_identity": "x", "devise": 1}, "no argument `devise`", "it takes"),
        ("stream_create", {"uri": URI, "device_identitty": "x"}, "device_identitty", "did you mean `device_identity`?"),
        ("stream_create", {"uri": URI, "device_identity": "x", "format": "wav"}, "'wav'", '"audio" or "midi"'),
        ("stream_create", {"uri": URI, "device_identity": "x", "chunk_size_bytes": 2**70}, "chunk_size", "for example"),
        ("stream_create", {"uri": URI, "device_identity": "x", "chunk_size_bytes": "1"}, "expected `int", "for"),
        ("stream_create", {"uri": URI, "device_identity": "x", "standby_s": float("nan")}, "standby_s", "for example"),
        ("stream_create", {"uri": URI, "device_identity": "x" * 2000}, "length <= 1024", "for example"),
        ("mark", {"uri": URI, "label": "x" * 10_000_000}, "length <= 200", "for example: mark"),
        ("mark", {"uri": URI, "label": "\ud800"}, "not a character", "for example"),
        ("mark", {"uri": URI, "label": "x", "frame": -1}, ">= 0", "for example"),
        ("mark", {"uri": URI, "label": "x", "frame": 1.5}, "expected `int", "for example"),
        ("recording_list", {"limit": 0}, ">= 1", "for example"),
        ("recording_list", {"limit": True}, "expected `int", "for example"),
        ("session_start", {"session": "jam", "devices": []}, "length >= 1", "for example"),
        ("session_start", {"session": "jam", "devices": [{"uri": URI}]}, "needs `device_identity`", "for example"),
        ("save", {"uri": URI, "path": "a.wav", "gaps": "loud"}, "value 'loud'", 'it takes "cut" or "nan" or "zeros"'),
        ("stream_create", {"uri": URI, "device_identity": "x", "format": {"type": "wav"}}, "'wav'", 'or "midi"'),
        ("session_start", {"session": "a", "devices": [{"device_identity": "x", "format": "b"}]}, "'b'", 'or "midi"'),
        ("session_start", {"session": "a", "devices": [{"device_identity": "x" * 2000}]}, 'got "xxx', "for example"),
        ("session_start", {"session": "a", "devices": [{"device": "x"}]}, "`device`", "mean `device_identity`?"),
        (
            "session_start",
            {"session": "a", "devices": [{"device_identity": "x", "format": {"type": "audio", "sample": 1}}]},
            "no argument `sample`",
            "did you mean `sample_rate`?",
        ),
        ("save", {"uri": URI, "path": ["a.wav"]}, "expected `str`, got `array`", "for example"),
    ],
)
def test_what_is_wrong_is_said_with_what_would_work(tool: str, wrong: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(ChaosError) as caught:
        decoded(tool, wrong)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert len(caught.value.message) < 500


@given(st.sampled_from(sorted(TOOLS)), st.data())
def test_nothing_else_than_an_error_comes_of_anything(tool: str, data: st.DataObject) -> None:
    names = st.sampled_from(TOOLS[tool].__struct_fields__) | st.text(max_size=12)
    given_ = data.draw(st.dictionaries(names, ANYTHING, max_size=5)) | data.draw(
        st.just({}) | st.just(EXAMPLES[tool])
    )
    try:
        arguments = decoded(tool, given_)
    except ChaosError as error:
        json.dumps(error.to_wire())
    else:
        assert isinstance(arguments, TOOLS[tool])
        msgspec.json.encode(arguments)
