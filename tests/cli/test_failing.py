"""With --json whatever goes wrong is on stdout, too: code, message, hint, details; the exit code is as without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from scripted import ScriptedDaemon

from chaos.cli.daemon import without_heads
from chaos.cli.failing import wants_json
from chaos.cli.main import main
from chaos.protocol.events import EVENTS
from chaos.terms.errors import DeviceAmbiguous

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "store").mkdir()
    places = {
        "CHAOS_ENDPOINT": f"ipc://{tmp_path}/command",
        "CHAOS_EVENTS": f"ipc://{tmp_path}/events",
        "CHAOS_STORE": str(tmp_path / "store"),
    }
    return lambda *arguments: CliRunner().invoke(main, arguments, env=places)


def error_of(done: Result) -> dict[str, Any]:
    found = json.loads(done.stdout)["error"]
    assert set(found) == {"code", "message", "hint", "details"}
    return dict(found)


def all_commands(group: click.Group, *before: str) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += all_commands(command, *before, name)
        elif any(param.name == "as_json" for param in command.params):
            found.append((*before, name))
    return found


@pytest.mark.parametrize("command", all_commands(main), ids=" ".join)
def test_a_wrong_option_is_told_in_json_by_every_command(run: Run, command: tuple[str, ...]) -> None:
    plain, done = run(*command, "--no-such-option"), run(*command, "--json", "--no-such-option")
    assert (plain.exit_code, plain.stdout) == (2, "")
    assert done.exit_code == 2
    error = error_of(done)
    assert error["code"] == "invalid_request"
    assert "--no-such-option" in error["message"]
    assert " ".join(command) in error["hint"]


def test_every_command_that_answers_has_json() -> None:
    without = {name for name, command in main.commands.items() if not isinstance(command, click.Group)}
    without -= {path[0] for path in all_commands(main)}
    assert without == {"mcp"}  # whose output is a protocol's, which is JSON


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        (["ping"], "timeout", 7),
        (["stop"], "timeout", 7),
        (["verify", "stream://no/1"], "recording_not_found", 6),
        (["save", "stream://no/1", "x.wav"], "recording_not_found", 6),
        (["list", "--on", "someday"], "invalid_request", 2),
        (["record", "a", "b", "c"], "invalid_request", 2),
        (["no-such-command"], "invalid_request", 2),
    ],
)
def test_what_fails_is_told_with_its_code(run: Run, arguments: list[str], code: str, exit_code: int) -> None:
    plain, done = run(*arguments), run(*arguments, "--json")
    assert done.exit_code == plain.exit_code == exit_code
    assert error_of(done)["code"] == code
    assert done.stderr == plain.stderr, "people read the same"


def test_what_chaosd_answers_keeps_its_details(run: Run, tmp_path: Path) -> None:
    error = DeviceAmbiguous("two are called mic", hint="use one of these", details={"candidates": ["node:1"]})
    with ScriptedDaemon(tmp_path, {"device_find": error}):
        done = run("start", "--target", "mic", "--json")
    assert error_of(done) == error.to_wire()


def test_several_streams_are_choices(run: Run, tmp_path: Path) -> None:
    streams = [{"uri": f"stream://desk/{n}", "state": "streaming"} for n in (1, 2)]
    with ScriptedDaemon(tmp_path, {"stream_list": {"streams": streams}}):
        done = run("stop", "--json")
    choices = [f"chaosctl stop stream://desk/{n} --json" for n in (1, 2)]
    assert error_of(done)["details"] == {"choices": choices}


def test_where_samples_go_to_stdout_no_error_does(run: Run) -> None:
    done = run("save", "stream://no/1", "-", "--json")
    assert done.stdout == ""
    assert '"recording_not_found"' in done.stderr


def test_a_defect_is_told_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr("chaos.cli.session.Session.client", fail)
    done = run("ping", "--json")
    assert error_of(done)["code"] == "internal"
    assert isinstance(done.exception, RuntimeError)


def test_json_is_what_the_words_say() -> None:
    assert wants_json(["stop", "--json"])
    assert not wants_json(["mark", "--", "--json"])
    assert not wants_json(["stop"])


def test_events_leave_out_what_comes_ten_times_a_second() -> None:
    many = {"stream_head_position", "stream_activity"}
    assert set(without_heads([])) == set(EVENTS) - many
    assert set(without_heads(["stream_"])) == {kind for kind in EVENTS if kind.startswith("stream_")} - many
    assert without_heads(["stream_head_position stream://mic/1", "stream_gap", "device_added"]) == [
        "stream_head_position stream://mic/1", "stream_gap", "device_added",
    ]  # fmt: skip
    assert without_heads(["stream_head"]) == ["stream_head"]


@pytest.mark.parametrize(("more", "expected"), [([], False), (["--heads"], True), (["stream_head"], True)])
def test_chaosd_need_not_tell_heads_unless_they_are_asked_for(
    run: Run, tmp_path: Path, more: list[str], expected: bool
) -> None:
    with ScriptedDaemon(tmp_path) as daemon:
        done = run("events", "--timeout", "0.2", *more)
        assert done.exit_code == 7
        heard = []
        while not daemon.heads_wanted.empty():
            heard.append(daemon.heads_wanted.get())
    assert (True in heard) is expected


@pytest.mark.parametrize(("answer", "code"), [(KeyboardInterrupt, 130), (EOFError, 1)])
def test_ctrl_c_at_a_question_ends_as_it_does_elsewhere(
    answer: type[BaseException], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def person(_: str) -> str:
        raise answer

    def ask() -> None:
        monkeypatch.setattr("click.termui.visible_prompt_func", person)
        click.confirm("Delete for good?", abort=True)

    group = type(main)(commands={"ask": click.Command("ask", callback=ask)})
    assert CliRunner().invoke(group, ["ask"]).exit_code == code
