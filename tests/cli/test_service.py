"""`chaosctl service` and `config check`: the unit that is written, and what is said where no systemd runs.

systemd isn't process 1 where these run. Its own checker judges the unit; what is asked of `systemctl` is heard by a
program of that name.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chaos.cli.main import main
from chaos.system.unit import unit_text
from chaos.terms.errors import InvalidRequest

UNCHECKED = "whether the devices are there was not checked"
SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$0.heard"
case "$*" in
*show-environment) exit {running} ;;
*show*) printf 'ActiveState=active\\nSubState=running\\nUnitFileState=enabled\\nStatusText=1 stream: 1 streaming\\n' ;;
*restart*) {restart} ;;
esac
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person without systemd."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def systemctl(home: Path, running: int = 0, restart: str = ":") -> Path:
    program = home / "bin" / "systemctl"
    program.write_text(SYSTEMCTL.format(running=running, restart=restart))
    program.chmod(0o755)
    return Path(f"{program}.heard")


def run(*arguments: object, code: int = 0) -> Result:
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code == code, done.output
    return done


def unit(home: Path) -> Path:
    return home / "config" / "systemd" / "user" / "chaosd.service"


def test_where_systemd_runs_it_is_enabled_and_started(home: Path) -> None:
    heard = systemctl(home)
    said = run("service", "install").stdout
    written = unit(home).read_text()
    assert said.startswith(written)
    assert f"# written to {unit(home)}" in said
    assert "sudo loginctl enable-linger" in said
    asked = heard.read_text().splitlines()
    assert asked[1:] == ["--user daemon-reload", "--user enable chaosd.service", "--user restart chaosd.service"]
    assert f'ExecStart="{sys.executable}" "-P" "-m" "chaos.daemon"\n' in written
    for line in ("Type=notify", "Restart=on-failure", "WatchdogSec=60", "WantedBy=default.target"):
        assert f"\n{line}\n" in written


@pytest.mark.parametrize("endpoint", ["junk", "ipc://relative", "tcp://0.0.0.0:47800", f"ipc:///tmp/{'x' * 150}"])
def test_an_endpoint_that_chaosd_would_refuse_is_not_written(home: Path, endpoint: str) -> None:
    for option in ("--endpoint", "--events"):
        assert endpoint.removeprefix("ipc://")[:20] in run(option, endpoint, "service", "install", code=2).output
    assert not unit(home).exists()


def test_where_none_runs_it_is_written_and_said(home: Path) -> None:
    for _ in range(2):  # twice is harmless
        said = run("service", "install").stdout
        assert "systemd doesn't run for this user here" in said
        assert "systemctl --user enable --now chaosd.service" in said
        assert unit(home).exists()
    systemctl(home, running=1)
    assert "systemd doesn't run for this user here" in run("service", "install").stdout


def test_a_dry_run_writes_nothing(home: Path) -> None:
    assert "Type=notify" in run("service", "install", "--dry-run").stdout
    assert not unit(home).exists()


def test_options_and_configuration_are_passed_on(home: Path) -> None:
    (home / "a b.toml").write_text('keep = "7d"\n')
    run("--store", home / "100% $x", "service", "install", "--config", home / "a b.toml")
    assert f'"--config" "{home}/a b.toml" "--store" "{home}/100%% $$x"\n' in unit(home).read_text()


def test_what_the_unit_before_had_and_the_new_one_has_not_is_said(home: Path) -> None:
    config = home / 'a "b" 100% $x.toml'
    config.write_text('keep = "7d"\n')
    assert "dropped" not in run("service", "install", "--config", config).stdout
    assert "dropped" not in run("service", "install", "--config", config).stdout
    told = json.loads(run("service", "install", "--dry-run", "--json").stdout)
    assert told["dropped"] == {"--config": str(config)}
    assert f"# the unit before this one had --config '{config}': it is dropped" in run("service", "install").stdout
    assert "dropped" not in run("service", "install").stdout


@pytest.mark.parametrize("words", [("service", "install"), ("doctor",)])
def test_a_store_in_the_home_of_nobody_is_told(home: Path, words: tuple[str, ...]) -> None:
    ends = ("--endpoint", f"ipc://{home}/c", "--events", f"ipc://{home}/e")
    done = run(*ends, "--store", "~nobody-of-that-name/x", *words, code=2)
    assert "there is no home folder for the ~ of '~nobody-of-that-name/x'" in done.stderr


def test_a_bad_configuration_is_not_installed(home: Path) -> None:
    (home / "c.toml").write_text('kep = "7d"\n')
    done = run("service", "install", "--config", home / "c.toml", code=2)
    assert 'c.toml:1: unknown key "kep"' in done.stderr
    assert not unit(home).exists()


def test_somebody_elses_unit_is_left_alone(home: Path) -> None:
    unit(home).parent.mkdir(parents=True)
    unit(home).write_text("[Service]\n")
    for words in (["install"], ["uninstall"]):
        assert "was not written by chaosctl" in run("service", *words, code=2).stderr
    assert unit(home).read_text() == "[Service]\n"
    run("service", "install", "--force")
    assert "Type=notify" in unit(home).read_text()


def test_what_is_no_file_in_the_place_of_the_unit_is_told(home: Path) -> None:
    unit(home).mkdir(parents=True)
    for words in (["install"], ["install", "--force"], ["uninstall"], ["uninstall", "--force"]):
        assert "chaosd.service is a folder, and a unit is a file" in run("service", *words, code=2).stderr
    ends = ("--endpoint", f"ipc://{home}/c", "--events", f"ipc://{home}/e")
    assert not json.loads(run(*ends, "service", "status", "--json").stdout)["installed"]
    assert "is a folder" in run(*ends, "service", "status").stdout
    unit(home).rmdir()
    os.mkfifo(unit(home))
    for words in (["install"], ["uninstall"]):
        assert "it is not a regular file" in run("service", *words, code=2).stderr
    unit(home).unlink()
    unit(home).symlink_to("/dev/null")  # as `systemctl mask` does
    assert "it is not a regular file" in run("service", "install", code=2).stderr
    run("service", "install", "--force")
    assert unit(home).is_file()


def test_a_unit_that_cannot_be_written_is_told_without_recordings(home: Path) -> None:
    (home / "config").write_text("")
    said = run("service", "install", code=6).stderr
    assert "could not write" in said
    assert "sealed" not in said


@pytest.mark.parametrize("words", [("service", "install", "--dry-run"), ("config", "check", "x"), ("doctor",)])
def test_what_acts_on_this_machine_takes_no_host(words: tuple[str, ...]) -> None:
    assert f"{words[0]} acts on this machine: leave out --host" in run("--host", "foo", *words, code=2).stderr


def test_what_systemctl_refuses_is_told(home: Path) -> None:
    systemctl(home, restart="echo 'Job failed' >&2; exit 1")
    assert "systemctl --user restart chaosd.service failed: Job failed" in run("service", "install", code=7).stderr


def test_uninstall_stops_it_and_removes_the_unit(home: Path) -> None:
    heard = systemctl(home)
    run("service", "install")
    heard.unlink()
    assert json.loads(run("service", "uninstall", "--json").stdout)["removed"]
    assert not unit(home).exists()
    assert heard.read_text().splitlines()[1:] == ["--user disable --now chaosd.service", "--user daemon-reload"]
    assert "there is no" in run("service", "uninstall").stdout


def test_status_says_what_is_known(home: Path) -> None:
    ends = ("--endpoint", f"ipc://{home}/c", "--events", f"ipc://{home}/e")
    told = run(*ends, "service", "status").stdout
    assert "none; write it with: chaosctl service install" in told
    assert "unknown: systemd doesn't run" in told
    assert "does not answer" in told
    assert "sudo loginctl enable-linger" in told
    systemctl(home)
    run("service", "install")
    assert "active (running) enabled\n           1 stream: 1 streaming" in run(*ends, "service", "status").stdout
    found = json.loads(run(*ends, "service", "status", "--json").stdout)
    assert (found["installed"], found["active"], found["chaosd_answers"]) == (True, "active", False)


def test_a_path_that_no_unit_can_hold_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="can't stand in a unit"):
        unit_text(["/usr/bin/python3", "a\nExecStartPost=/bin/true"])
    assert r'ExecStart="/a \"b\\" "%%h" "$$x"' in unit_text(['/a "b\\', "%h", "$x"])


ANALYZE = shutil.which("systemd-analyze")


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
def test_systemd_itself_finds_nothing_wrong(tmp_path: Path) -> None:
    """Its exit code tells of every unit that ours stands beside, and so of the machine."""
    path = tmp_path / "chaosd.service"
    ours = unit_text([sys.executable, "-P", "-m", "chaos.daemon", "--config", str(tmp_path / "a b %h $x.toml")])

    def said(text: str) -> tuple[list[str], str]:
        assert ANALYZE is not None
        path.write_text(text)
        command = [ANALYZE, "--user", "verify", "--man=no", str(path)]
        env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}  # where it may make what it needs
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        told = done.stdout + done.stderr
        return [line for line in told.splitlines() if "chaosd.service" in line], f"exit {done.returncode}\n{told}"

    about_ours, told = said(ours)
    assert about_ours == [], told
    about_bad, told = said(ours.replace("Type=notify", "Tyype=notify"))
    assert about_bad, told  # it does look at it


def test_a_configuration_is_checked(home: Path) -> None:
    path = home / "c.toml"
    path.write_text('[[stream]]\nname = "a"\ndevice = "Mic"\n')
    assert run("config", "check", path).stdout == f"{path}: ok, 1 stream, 0 sessions; {UNCHECKED}\n"
    told = json.loads(run("config", "check", path, "--json").stdout)
    assert (told["ok"], told["unchecked"]) == (True, ["devices"])
    path.write_text('keep = "7"\n[[stream]]\nname = "a"\n')
    done = run("config", "check", path, code=2)
    assert done.stderr.splitlines()[0] == f"{path}:1: keep: what to keep has no unit: 7"
    assert done.stderr.splitlines()[2] == f"{path}:2: this stream has no device"
    told = json.loads(run("config", "check", path, "--json", code=2).stdout)
    assert [each["line"] for each in told["problems"]] == [1, 2]
    path.write_text(f'store = "{path}"\nendpoint = "tcp://*:47800"\n')
    done = run("config", "check", path, code=2)
    told = [line for line in done.stderr.splitlines() if not line.startswith("  ")]
    assert told[0] == f"{path}:1: store: the store {path} is not a folder"
    assert told[1].startswith(f"{path}:2: endpoint: tcp://*:47800 is refused")
    assert "No such file" in run("config", "check", home / "none.toml", code=2).stderr
