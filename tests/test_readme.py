"""README's blocks: each is of a kind that can be run, or says why it can't be."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from page import BLOCKS, README, Block

from chaos.protocol.configfile import read_config

CAN_NOT = ("sudo ", "pip install", "./tools/", "recorder$")  # root, the network, minutes, two machines


def test_there_are_blocks() -> None:
    assert len(BLOCKS) > 15


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.text.splitlines()[0][:40])
def test_each_block_can_be_run_or_says_why_not(block: Block) -> None:
    if block.mark.startswith("not run: "):
        assert any(each in block.text for each in CAN_NOT), f"this could be run:\n{block.text}"
        return
    assert not any(each in block.text for each in CAN_NOT), f"this can't be run, and no mark says so:\n{block.text}"
    if block.mark.startswith("file: "):
        assert block.kind == "toml"
        tomllib.loads(block.text)
    elif block.kind == "json":  # what another program's settings say
        json.loads(block.text)
    elif block.kind == "python":
        compile(block.text, "README.md", "exec")
    else:
        assert block.kind == "console"
        assert block.typed, f"no command in:\n{block.text}"


def test_the_configuration_of_the_page_is_sound(tmp_path: Path) -> None:
    [block] = [each for each in BLOCKS if each.mark == "file: chaosd.toml"]
    (tmp_path / "chaosd.toml").write_text(block.text)
    file = read_config(tmp_path / "chaosd.toml")
    assert ([each.name for each in file.streams], [each.name for each in file.sessions]) == (["logger"], ["room"])


def test_the_service_and_the_chaosd_of_the_page_do_not_meet() -> None:
    """Two can't have one socket: the page's own ends before the service begins, and comes back after it."""
    typed = [each.command.partition("#")[0].strip() for block in BLOCKS for each in block.typed]
    install = typed.index("chaosctl service install --config chaosd.toml")
    runs = [line for line in typed[:install] if line in ("chaosd &", "chaosctl shutdown")]
    assert runs[-1] == "chaosctl shutdown"
    assert typed[typed.index("chaosctl service uninstall") + 1] == "chaosd &"


def test_a_program_that_the_page_uses_is_installed_by_it() -> None:
    [installed] = [line for block in BLOCKS for line in block.text.splitlines() if line.startswith("sudo apt-get")]
    typed = [each.command for block in BLOCKS for each in block.typed]
    assert not any("| sox" in line for line in typed) or "sox" in installed.split()


def test_what_is_promised_of_other_machines_was_tried() -> None:
    page = README.read_text()
    assert "Ubuntu" not in page
    assert "pidof" not in page
