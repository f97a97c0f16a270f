"""The tests that docs/reliability.md and docs/promises.md name for each promise are there, and so are the runs."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from proof.abuse import ABUSES, held_by, reworded
from proof.promises import PROMISES, Promise

import chaos

ROOT = Path(__file__).parents[1]
ROWS = re.findall(r"^\| (.+) \| (`.+`) \|$", (ROOT / "docs" / "promises.md").read_text(), re.MULTILINE)


@cache
def names_in(path: Path) -> frozenset[str]:
    return frozenset(re.findall(r"^def test_(\w+)\(", path.read_text(), re.MULTILINE))


def is_there(test: str) -> bool:
    """`test` is `room/file::name`, or `file::name` of one that is in no room."""
    place, name = test.split("::")
    path = ROOT / "tests" / place
    return name in names_in(path.with_name(f"test_{path.name}.py"))


@pytest.mark.parametrize("promise", PROMISES, ids=lambda each: each.text[:40])
def test_what_holds_a_promise_is_there(promise: Promise) -> None:
    assert promise.tests
    for test in promise.tests:
        assert is_there(test), test
    assert not promise.abuse or any(promise.abuse in each.name for each in ABUSES)


def test_the_page_tells_of_every_promise() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert [line for line in held_by() if line not in page.splitlines()] == []


def test_new_words_leave_what_the_run_found() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert reworded(page) == page
    found = [line for line in page.splitlines() if line.startswith(("| a ", "| commands ", "chaosd "))]
    old = page.replace("## What stands in for what", "## Old words").replace("Every frame was looked at", "Old")
    assert len(found) > 20
    assert reworded(old) == page


@pytest.mark.parametrize(("text", "tests"), ROWS, ids=[text[:40] for text, _ in ROWS])
def test_what_holds_a_promise_to_people_is_there(text: str, tests: str) -> None:
    assert [test for test in re.findall(r"`([^`]+)`", tests) if not is_there(test)] == []


def test_no_row_of_that_page_is_overlooked() -> None:
    page = (ROOT / "docs" / "promises.md").read_text()
    assert len(ROWS) == page.count("\n| ") - 2 * page.count("| --- |") > 40
    assert re.sub(r"`[^`]+`|, ", "", "".join(tests for _, tests in ROWS)) == ""


def test_this_version_is_in_the_changelog() -> None:
    """With what it has become of the recordings of the one before."""
    page = (ROOT / "CHANGELOG.md").read_text()
    [section] = re.findall(rf"(?ms)^## \[{re.escape(chaos.__version__)}\] - .+?(?=^## \[|\Z)", page)
    assert re.search(r"\brecordings of \d+\.\d+\b", section, re.IGNORECASE)
