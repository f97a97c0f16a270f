"""The tests that docs/reliability.md names for each promise are there, and so is the run that it names."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from proof.abuse import ABUSES, held_by
from proof.promises import PROMISES, Promise

ROOT = Path(__file__).parents[1]


@cache
def names_in(path: Path) -> frozenset[str]:
    return frozenset(re.findall(r"^def test_(\w+)\(", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("promise", PROMISES, ids=lambda each: each.text[:40])
def test_what_holds_a_promise_is_there(promise: Promise) -> None:
    assert promise.tests
    for test in promise.tests:
        place, name = test.split("::")
        room, file = place.split("/")
        assert name in names_in(ROOT / "tests" / room / f"test_{file}.py"), test
    assert not promise.abuse or any(promise.abuse in each.name for each in ABUSES)


def test_the_page_tells_of_every_promise() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert [line for line in held_by() if line not in page.splitlines()] == []
