"""README's fleet, typed in the order of the page by one person, against the S3 that its first line starts."""

from __future__ import annotations

from pathlib import Path

from freeports import free_port
from harness import SourceFactory
from newcomer import Newcomer
from page import of_section
from rig import Session


def test_a_fleet_of_one_from_the_first_line_to_the_table(
    session: Session, counting_source: SourceFactory, tmp_path: Path
) -> None:
    counting_source("fleet-desk", driver=True, speed=4)
    blocks = [block for block in of_section("Fleet") if not block.mark.startswith("not run: ")]
    assert [block.kind for block in blocks] == ["console", "python"]
    port = free_port()  # what else runs here may have the page's
    with Newcomer(session, tmp_path) as person:
        blocks = [block._replace(mark="", text=block.text.replace("5000", str(port))) for block in blocks]
        person.follow(blocks)
        person.type("chaosctl shutdown")
    assert (tmp_path / "main.wav").stat().st_size > 3 * 48_000 * 4
    said = (tmp_path / "said.log").read_text()
    assert "rig1/logger/main." in said
