"""Control characters in what others chose are shown, never obeyed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.terms.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Mikrofon, Küche", "Mikrofon, Küche"),
        ("\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x9b2J", "\\x9b2J"),
        ("safe\u202egnp", "safe\\u202egnp"),
        ("\ud800", "\\ud800"),
        ("👩\u200d🎤", "👩\u200d🎤"),
    ],
)
def test_what_acts_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_nothing_that_acts_is_left(text: str) -> None:
    left = visible(text)
    assert not {unicodedata.category(each) for each in left if each != "\u200d"} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert visible(left) == left
