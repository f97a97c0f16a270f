"""Settings: sound defaults, refused nonsense, private folders, permitted paths."""

from __future__ import annotations

import math
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaos.protocol import config as config_module
from chaos.protocol.config import (
    Config,
    check_default,
    default_endpoints,
    file_system_of,
    in_memory,
    ipc_path,
    remote_endpoints,
    session_folder,
)
from chaos.terms.errors import InvalidRequest, StorageFailed


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("chaos.protocol.config.file_system_of", lambda path: "tmpfs")
    (tmp_path / "run").mkdir(mode=0o700)
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_defaults_are_those_of_the_protocol(home: Path) -> None:
    config = Config()
    assert config.endpoint == f"ipc://{home}/run/chaos/command"
    assert config.events_endpoint == f"ipc://{home}/run/chaos/events"
    assert config.staging_dir == home / "run" / "chaos" / "staging"
    assert config.store == home / "data" / "chaos"
    assert config.staging_seconds == 30.0
    assert config.head_position_hz == 10.0


def test_without_the_variable_the_usual_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cron job has no XDG_RUNTIME_DIR, and must find the daemon that a login started."""
    monkeypatch.setattr(config_module, "_RUN_USER", tmp_path)
    (tmp_path / str(os.getuid())).mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"{tmp_path}/{os.getuid()}")
    login = Config()
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert Config() == login
    assert session_folder() == tmp_path / str(os.getuid())


def test_without_any_runtime_folder_there_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(config_module, "_RUN_USER", tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = Config()
    assert ipc_path(config.endpoint) == tmp_path / f"runtime-{os.getuid()}" / "chaos" / "command"
    assert config.staging_dir == Path(f"/dev/shm/chaos-{os.getuid()}")


def test_a_runtime_folder_that_others_can_read_is_used_nevertheless(home: Path) -> None:
    (home / "run").chmod(0o755)
    config = Config()
    config.prepare()
    assert ipc_path(config.endpoint).parent == home / "run" / "chaos"
    assert mode(home / "run" / "chaos") == 0o700


def test_a_runtime_folder_that_is_not_there_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere/at/all")
    with pytest.raises(InvalidRequest, match="XDG_RUNTIME_DIR is /nowhere/at/all"):
        Config(endpoint=f"ipc://{home}/c", events_endpoint=f"ipc://{home}/e").prepare()


def test_a_folder_of_somebody_else_is_refused_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(config_module, "_RUN_USER", tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    foreign = tmp_path / "runtime-12345"
    foreign.mkdir()
    if os.getuid() == 0:
        os.chown(foreign, 54321, -1)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(InvalidRequest, match="runtime-12345 belongs to another user"):
        Config(store=tmp_path / "store").prepare()


@pytest.mark.parametrize("put", [Path.touch, os.mkfifo, lambda path: path.symlink_to(path)], ids=list("fpl"))
def test_a_store_that_is_not_a_folder_is_told(home: Path, put: Callable[[Path], object]) -> None:
    put(home / "store")
    with pytest.raises(StorageFailed, match="store is not a folder"):
        Config(store=home / "store").prepare()


def test_prepare_makes_private_folders_and_tightens_its_own(home: Path) -> None:
    (home / "run" / "chaos").mkdir(mode=0o755)
    config = Config()
    config.prepare()
    config.prepare()
    assert mode(home / "run" / "chaos") == 0o700
    assert mode(config.staging_dir) == 0o700
    assert config.store.is_dir()


def test_prepare_leaves_folders_of_the_users_choice_as_they_are(home: Path) -> None:
    chosen = home / "chosen"
    chosen.mkdir()
    chosen.chmod(0o755)
    Config(endpoint=f"ipc://{chosen}/c", events_endpoint=f"ipc://{chosen}/e", staging_dir=chosen).prepare()
    assert mode(chosen) == 0o755


@pytest.mark.parametrize("wide", [0o755, 0o1777, 0o2775])
def test_a_folder_with_other_things_is_not_closed_to_everybody_else(home: Path, wide: int) -> None:
    """`--store /tmp`, by root, would end everybody's programs."""
    shared = home / "shared"
    (shared / "theirs").mkdir(parents=True)
    shared.chmod(wide)
    with pytest.raises(InvalidRequest, match="has other things in it") as caught:
        Config(store=shared).prepare()
    assert mode(shared) == wide
    assert f"--store {shared}/chaos" in caught.value.hint
    (shared / "catalog.db").touch()
    Config(store=shared).prepare()
    assert mode(shared) == 0o700


def test_a_link_in_place_of_a_folder_of_ours_changes_no_other(home: Path) -> None:
    other = home / "other"
    other.mkdir()
    other.chmod(0o755)
    (home / "run" / "chaos").symlink_to(other)
    with pytest.raises(InvalidRequest, match="is a link"):
        Config().prepare()
    assert mode(other) == 0o755
    assert not list(other.iterdir())


def test_a_runtime_folder_that_everybody_can_write_to_is_refused(home: Path) -> None:
    (home / "run").chmod(0o777)
    with pytest.raises(InvalidRequest, match="everybody can write to") as caught:
        Config().prepare()
    assert caught.value.hint == f"run: chmod 700 {home}/run"
    (home / "run").chmod(0o1777)
    Config().prepare()


def test_a_file_in_the_way_is_told(home: Path) -> None:
    (home / "data").write_text("no folder")
    with pytest.raises(StorageFailed) as caught:
        Config().prepare()
    assert str(home / "data") in caught.value.message
    assert "--store" in caught.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoint": "tcp://127.0.0.1:5555"},
        {"events_endpoint": "tcp://*:5556"},
        {"endpoint": "ipc://@abstract"},
        {"endpoint": "ipc://relative/command"},
        {"endpoint": "ipc:///folder/"},
        {"endpoint": "/no/scheme"},
        {"endpoint": "ipc:///" + "x" * 107},
        {"endpoint": "ipc:///same", "events_endpoint": "ipc:///same"},
        {"staging_seconds": 0},
        {"staging_seconds": math.inf},
        {"staging_seconds": math.nan},
        {"head_position_hz": 0},
        {"event_history": 0},
    ],
)
def test_what_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Config(**wrong)
    assert caught.value.hint


def test_staging_lies_in_memory_where_the_runtime_folder_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"run": "ext4", "/dev/shm": "tmpfs"}
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(
        "chaos.protocol.config.file_system_of",
        lambda path: next((kind for part, kind in kinds.items() if part in str(path)), ""),
    )
    assert Config().staging_dir == Path(f"/dev/shm/chaos-{os.getuid()}")
    kinds["run"] = "tmpfs"
    assert Config().staging_dir == tmp_path / "run" / "chaos" / "staging"
    kinds.update({"run": "ext4", "/dev/shm": "ext4"})
    assert Config().staging_dir == tmp_path / "run" / "chaos" / "staging"


def test_the_kind_of_a_file_system_is_told_also_of_what_is_not_there_yet() -> None:
    assert file_system_of(Path("/proc/self/nothing")) == "proc"
    assert file_system_of(Path("/dev/shm/nowhere/at/all")) == "tmpfs"


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_no_umask_widens_what_is_made(home: Path, umask: int) -> None:
    config = Config(store=home / "deep" / "store")
    before = os.umask(umask)
    try:
        config.prepare()
        config.prepare()
    finally:
        os.umask(before)
    for folder in (home / "deep", config.store, config.staging_dir, home / "run" / "chaos"):
        assert mode(folder) == 0o700


def test_root_is_told_how_to_reach_another_users_chaosd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `sudo -E`: the folder of XDG_RUNTIME_DIR is not root's."""
    (tmp_path / "chaos").mkdir(mode=0o700)
    if os.getuid() == 0:
        os.chown(tmp_path / "chaos", 12345, -1)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    commands, events = default_endpoints()
    for endpoint in (commands, events):
        with pytest.raises(InvalidRequest, match="another user") as refused:
            check_default(endpoint)
        assert f"chaosctl --endpoint {commands} --events {events}" in refused.value.hint
    check_default(f"ipc://{tmp_path}/chaos/named")


def test_a_host_in_two_spellings_is_one() -> None:
    assert list(remote_endpoints(["rig1", "rig2", "rig1:47900"])) == ["rig1", "rig2", "rig1:47900"]
    for other in ("RIG1", "rig1:47800"):
        with pytest.raises(InvalidRequest, match=f"rig1 and {other} are the same host"):
            remote_endpoints(["rig1", "rig2", other])


@pytest.mark.parametrize(("kind", "expected"), [("tmpfs", Path("/dev/shm")), ("ext4", None)])
def test_what_only_looks_has_its_files_in_memory(
    monkeypatch: pytest.MonkeyPatch, kind: str, expected: Path | None
) -> None:
    """`chaosctl devices` was told that its staging would stall a capture that it never makes."""
    monkeypatch.setattr("chaos.protocol.config.file_system_of", lambda _: kind)
    assert in_memory() == expected


@pytest.mark.parametrize("kind", ["file", "below a file", "loop"])
def test_an_odd_runtime_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    odd = {"below a file": "file/x"}.get(kind, kind)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / odd))
    with pytest.raises(InvalidRequest, match="can't be used: ") as caught:
        check_default(f"ipc://{tmp_path / odd}/chaos/command")
    assert "XDG_RUNTIME_DIR" in f"{caught.value.hint} {caught.value.message}"
