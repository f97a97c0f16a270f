"""README as a newcomer reads it: all that can be typed here is typed, in the order of the page, by one person."""

from __future__ import annotations

from pathlib import Path

from harness import SourceFactory
from newcomer import Newcomer
from page import BLOCKS
from rig import Session
from rig.midi import MidiSource


def test_every_command_works_in_the_order_of_the_page(
    session: Session, counting_source: SourceFactory, tmp_path: Path
) -> None:
    for name in ("USB Mic", "Scarlett"):
        counting_source(f"page-{name}", description=name, driver=True, speed=8)
    keys = MidiSource(session, [], name="Keystation", speed=8)
    with keys, Newcomer(session, tmp_path) as person:
        person.follow(BLOCKS)
        person.type("chaosctl shutdown")
    for name in ("take.wav", "news.flac", "take-1.wav", "take-2.png", "last.wav", "part.flac", "verse.wav"):
        assert (tmp_path / name).stat().st_size > 1000, name
