"""The table of what each command costs: no command of chaosctl is left out of it without a reason."""

from __future__ import annotations

import re
from pathlib import Path

from proof.commands import LEFT_OUT, STEPS

from chaos.cli.main import main

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"


def test_each_command_is_measured_or_says_why_not() -> None:
    measured = {name.split()[0] for name, _ in STEPS if not name.startswith("-")}
    assert measured | set(LEFT_OUT) == set(main.commands)


def test_the_page_has_a_row_for_each() -> None:
    page = PAGE.read_text()
    for name, rest in STEPS:
        assert f"| `chaosctl {name} {rest}".rstrip() + "` |" in page
    for name in LEFT_OUT:
        assert f"`{name}` (" in page


def test_an_agents_server_answers_within_three_seconds() -> None:
    """As it was measured for the page."""
    found = re.search(r"^\| `chaosctl mcp` \| (\d+) ms ", PAGE.read_text(), re.MULTILINE)
    assert found is not None
    assert int(found[1]) < 3000
