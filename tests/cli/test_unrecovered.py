"""After a kill -9 and before recovery: no command passes a part for the whole, and each says what to type."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from crashing import CrashingStream, fast_folder

from chaos.cli.main import main
from chaos.store.store import Store
from chaos.store.unrecovered import unrecovered

Run = Callable[..., Result]
FULL, FIRST, NEXT, WELL = ("stream://keys/jam", "stream://mic/jam", "stream://mic/jam.0002", "stream://well/jam")
UNSEALED = "stream://young/jam"


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store whose chaosd died while it recorded a session: a stream that is on disk in part, one of which nothing is
    there yet, and one that was just rolled; another had been stopped."""
    with fast_folder() as folder:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "home"))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "run"))
        slots = folder / "run" / "chaos" / "staging"
        slots.mkdir(parents=True, mode=0o700)
        (folder / "run").chmod(0o700)
        monkeypatch.setattr("chaos.protocol.config._staging", lambda: slots)
        store = folder / "store"
        of_session = "jam", [FULL, UNSEALED, FIRST, WELL]

        def a_stream(uri: str, **more: str) -> CrashingStream:
            return CrashingStream(store, slots, uri, channels=1, seed=len(uri), session=of_session, **more)  # type: ignore[arg-type]

        part = a_stream(FULL)
        part.write(40)
        part.rotate()
        part.write(5)
        young = a_stream(UNSEALED)
        young.write(7)
        first = a_stream(FIRST)
        first.write(40)
        rolled = a_stream(NEXT, continues=FIRST)
        first.rotate()
        assert first.hand_over(rolled, 3)
        first.stop()
        well = a_stream(WELL)
        well.write(40)
        well.rotate()
        well.stop()
        for stream in (part, young, rolled):
            stream.crash()
        yield folder


@pytest.fixture
def run(left: Path) -> Run:
    def run(*arguments: object) -> Result:
        ends = ["--endpoint", f"ipc://{left}/nobody", "--store", str(left / "store")]
        return CliRunner().invoke(main, [*ends, *map(str, arguments)])

    return run


def test_what_waits_for_recovery_is_found_and_nothing_else(left: Path) -> None:
    found = unrecovered(Store(left / "store"), left / "run" / "chaos" / "staging")
    assert [(each.uri, each.session, each.n_frames, each.is_usual) for each in found] == [
        (FULL, "jam", 45, True), (NEXT, "jam", 3, True), (UNSEALED, "jam", 7, True)
    ]  # fmt: skip
    elsewhere = unrecovered(Store(left / "store"), left / "other")
    assert [(each.uri, each.is_usual) for each in elsewhere] == [(FULL, False), (NEXT, False), (UNSEALED, False)]
    assert unrecovered(Store(left / "another"), left / "run" / "chaos" / "staging") == []


@pytest.mark.parametrize(
    "command",
    [
        ("save", FULL, "OUT.wav"), ("save", UNSEALED, "OUT.wav"), ("save", FIRST, "OUT.wav"), ("save", NEXT, "OUT.wav"),
        ("save", WELL, FULL, "OUT"), ("save", WELL, UNSEALED, "OUT"), ("save", WELL, FIRST, "OUT"),
        ("session", "save", "jam", "OUT"), ("session", "verify", "jam"), ("verify", UNSEALED), ("sign", UNSEALED),
        ("show", UNSEALED), ("save", FULL, "--to", "-1", "OUT.wav"),
    ],
)  # fmt: skip
def test_no_part_is_passed_for_the_whole(left: Path, run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    given = [str(tmp_path / word) if word.startswith("OUT") else word for word in command]
    if command[0] == "sign":
        assert run("keys", "new", "--signing").exit_code == 0
    done = run(*given, *(() if command[0] == "sign" else ("--json",)))
    assert done.exit_code == 6, done.output
    assert "not recovered yet: chaosd died or could not store all of " in done.stderr
    assert "chaosctl recover" in done.stderr
    assert "nothing was recorded" not in done.stderr
    if command[0] != "sign":
        assert json.loads(done.stdout)["error"]["code"] == "not_recovered"
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_can_be_had_all_the_same(run: Run, tmp_path: Path) -> None:
    assert run("save", WELL, tmp_path / "well.wav").exit_code == 0
    assert run("verify", WELL).exit_code == 0
    done = run("save", FULL, "--to", "16", tmp_path / "part.wav")
    assert done.exit_code == 0, done.output


def test_verify_of_what_was_broken_off_is_no_success(run: Run) -> None:
    done = run("verify", FULL)
    assert (done.exit_code, done.stdout.splitlines()[0]) == (
        8, "interrupted, not recovered yet: run chaosctl recover"
    )  # fmt: skip


def test_lists_name_what_is_in_memory_alone(run: Run) -> None:
    done = run("list")
    assert (done.exit_code, "not recovered yet: stream://young/jam, 7 frames in memory" in done.stderr) == (0, True)
    assert "chaosctl recover" in done.stderr
    told = json.loads(run("list", "--json").stdout)["not_recovered"]
    assert [(each["uri"], each["n_frames"]) for each in told] == [(FULL, 45), (NEXT, 3), (UNSEALED, 7)]
    assert "not_recovered" not in json.loads(run("list", WELL, "--json").stdout)
    done = run("session", "status", "jam")
    assert (done.exit_code, "not recovered yet: stream://young/jam" in done.stderr) == (7, True), done.output


def test_after_recovery_all_of_it_is_saved(run: Run, tmp_path: Path) -> None:
    assert run("recover").exit_code == 0
    done = run("session", "save", "jam", tmp_path / "out")
    assert (done.exit_code, "recovered" in done.stderr) == (0, False), done.output
    assert len(list((tmp_path / "out").glob("*.wav"))) == 4
    assert "not recovered" not in run("list").output


def test_a_session_that_is_in_memory_alone_is_not_said_to_be_missing(left: Path, run: Run) -> None:
    alone = CrashingStream(
        left / "store", left / "run" / "chaos" / "staging", "stream://lone/solo", session=("solo", ["stream://lone/solo"])
    )
    alone.write(7)
    alone.crash()
    for command in ("verify", "save"):
        told = run("session", command, "solo")
        assert "stream://lone/solo is not recovered yet" in told.stderr
        assert "chaosctl recover" in told.stderr
