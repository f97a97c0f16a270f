"""Shell completion: what is offered, in bash itself and by click's own protocol for the others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from rolled import three_takes
from scripted import ScriptedDaemon

from chaos.cli.completing import complete_by_name, raw_word
from chaos.cli.main import main

CTL = Path(sys.executable).with_name("chaosctl")
STREAMS = [{"uri": "stream://desk/1", "state": "streaming"}, {"uri": "stream://desk/2", "state": "waiting"}]
DEVICES = [
    {"description": "USB Mic (left)", "name": "alsa.usb", "identity": "usb-1"},
    {"description": 'Odd $(touch x) "one"', "name": "odd", "identity": "usb-2"},
    {"description": "evil\nname", "name": "evil", "identity": "usb-3"},
]

_HARNESS = """\
compopt() { :; }
eval "$(_CHAOSCTL_COMPLETE=bash_source chaosctl)"
COMP_LINE=$1 COMP_POINT=${#1}
_chaosctl_completion chaosctl
printf '%s\\n' "${COMPREPLY[@]}"
"""


def environment(folder: Path, **more: str) -> dict[str, str]:
    path = f"{CTL.parent}{os.pathsep}{os.environ['PATH']}"
    places = {"CHAOS_ENDPOINT": f"ipc://{folder}/command", "CHAOS_EVENTS": f"ipc://{folder}/events"}
    return {**os.environ, "PATH": path, **places, "CHAOS_STORE": str(folder / "store"), **more}


def output(command: list[str], env: dict[str, str], folder: Path | None = None) -> str:
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout


def in_bash(folder: Path, line: str) -> list[str]:
    return output(["bash", "--norc", "-c", _HARNESS, "bash", line], environment(folder)).splitlines()


def test_bash_completes_streams_recordings_and_devices(tmp_path: Path) -> None:
    three_takes(tmp_path / "store")
    script = {"stream_list": {"streams": STREAMS}, "device_list": {"devices": DEVICES}}
    with ScriptedDaemon(tmp_path, script):
        assert in_bash(tmp_path, "chaosctl sto") == ["stop"]
        assert in_bash(tmp_path, "chaosctl stop ") == ["stream://desk/1", "stream://desk/2"]
        assert in_bash(tmp_path, "chaosctl stop stream://desk/2") == ["//desk/2"]
        assert "//mic/1.0002" in in_bash(tmp_path, "chaosctl verify stream://m")
        assert in_bash(tmp_path, "chaosctl record usb") == ["USB\\ Mic\\ \\(left\\)"]
        assert in_bash(tmp_path, 'chaosctl start --target "USB M') == ["USB Mic (left)"]
        assert in_bash(tmp_path, "chaosctl start --target 'USB M") == ["USB Mic (left)"]


def test_a_device_s_name_can_t_run_anything(tmp_path: Path) -> None:
    with ScriptedDaemon(tmp_path, {"device_list": {"devices": DEVICES}}):
        [plain] = in_bash(tmp_path, "chaosctl record Odd")
        [quoted] = in_bash(tmp_path, 'chaosctl record "Odd')
        assert in_bash(tmp_path, "chaosctl record evil") == [""]
    for typed in (plain, f'"{quoted}"'):
        said = output(["bash", "-c", f"printf %s {typed}"], environment(tmp_path), tmp_path)
        assert said == DEVICES[1]["description"]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_answered_as_click_has_it(tmp_path: Path, shell: str) -> None:
    with ScriptedDaemon(tmp_path, {"stream_list": {"streams": STREAMS}}):
        words = {"zsh": ("chaosctl stop stream://desk/2", "2"), "fish": ("chaosctl stop stream://d", "stream://d")}[shell]
        more = {"_CHAOSCTL_COMPLETE": f"{shell}_complete", "COMP_WORDS": words[0], "COMP_CWORD": words[1]}
        assert "//desk/2" in output([str(CTL)], environment(tmp_path, **more))


@pytest.mark.parametrize("typed", ["verify", "sign", "save", "show", "plot", "record"])
def test_files_are_offered_beside_names(tmp_path: Path, typed: str) -> None:
    """By the shell itself; bash does so where nothing else fits."""
    line = f"chaosctl {typed} ./ta"
    asked = {
        "bash": {"COMP_LINE": line},
        "zsh": {"COMP_WORDS": line, "COMP_CWORD": "2"},
        "fish": {"COMP_WORDS": line, "COMP_CWORD": "./ta"},
    }
    for shell, words in asked.items():
        said = output([str(CTL)], environment(tmp_path, _CHAOSCTL_COMPLETE=f"{shell}_complete", **words))
        assert re.match(r"file[,\n]\.?/?", said), shell
    words = {"COMP_WORDS": "chaosctl stop ./ta", "COMP_CWORD": "2"}
    assert output([str(CTL)], environment(tmp_path, _CHAOSCTL_COMPLETE="zsh_complete", **words)).strip() == ""


def test_nothing_is_said_where_no_chaosd_runs(tmp_path: Path) -> None:
    assert in_bash(tmp_path, "chaosctl stop ") == [""]
    assert in_bash(tmp_path, "chaosctl verify ") == [""]
    assert not (tmp_path / "store").exists()


def test_a_chaosd_that_fails_is_not_told_of(tmp_path: Path) -> None:
    with ScriptedDaemon(tmp_path, {"stream_list": RuntimeError("no")}):
        assert in_bash(tmp_path, "chaosctl stop ") == [""]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_line_that_installs_it_works(shell: str, tmp_path: Path) -> None:
    comment, line = output([str(CTL), "completion", shell], environment(tmp_path)).splitlines()
    assert comment.startswith("#")
    assert f"_CHAOSCTL_COMPLETE={shell}_source chaosctl" in line
    more = {"_CHAOSCTL_COMPLETE": f"{shell}_source"}
    assert "_chaosctl_completion" in output([str(CTL)], environment(tmp_path, **more))
    if shell == "bash":
        asked = f"{line}\ncomplete -p chaosctl"
        said = output(["bash", "--norc", "-c", asked], environment(tmp_path))
        assert said.strip() == "complete -o nosort -F _chaosctl_completion chaosctl"


def test_each_uri_completes() -> None:
    complete_by_name(main)
    for name in ("stop", "verify", "list", "mark", "rm", "save", "sign", "record", "keep"):
        params = main.commands[name].params
        assert any("shell_complete" in vars(param) for param in params), name
    new = main.commands["start"].params
    assert not any("shell_complete" in vars(param) for param in new if param.name == "uri"), "it must be a new one"


def test_the_word_at_the_end_is_found_as_it_was_typed() -> None:
    for line, word in [
        ("chaosctl stop ", ""),
        ("chaosctl stop stream://d", "stream://d"),
        ('chaosctl record "USB M', '"USB M'),
        ("chaosctl record USB\\ M", "USB\\ M"),
        ("chaosctl record 'a b' c", "c"),
        ("chaosctl record 'a\\' ", ""),
    ]:
        assert raw_word(line) == word
    assert isinstance(main, click.Group)
