"""Settings: sound defaults, refused nonsense, private folders, permitted paths."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from chaos.protocol.config import Config, file_system_of, ipc_path
from chaos.terms.errors import ChaosError, InvalidRequest, PathNotAllowed, StorageFailed


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


def test_without_a_runtime_folder_there_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    config = Config()
    assert ipc_path(config.endpoint).is_absolute()
    assert config.staging_dir == Path(f"/dev/shm/chaos-{os.getuid()}")


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


@pytest.mark.parametrize(
    "path",
    ["store/x/chunk.raw", "allowed/deep/new/chunk.raw", "store/../allowed/chunk.raw", "store/sub/../chunk"],
)
def test_paths_in_the_store_or_an_allowed_folder_are_permitted(home: Path, path: str) -> None:
    config = Config(store=home / "store", allow_paths=(home / "allowed",))
    assert config.permit(f"{home}/{path}") == (home / path).resolve()


@pytest.mark.parametrize(
    "path",
    [
        "other/chunk",
        "store",
        "store/../other",
        "storeroom/chunk",
        "store/link/chunk",
        "store/loop/chunk",
        "a\0b",
    ],
)
def test_paths_elsewhere_are_not(home: Path, path: str) -> None:
    (home / "store").mkdir()
    (home / "store" / "link").symlink_to("/etc")
    (home / "store" / "loop").symlink_to("loop")
    config = Config(store=home / "store", allow_paths=(home / "allowed",))
    with pytest.raises(ChaosError) as caught:
        config.permit(f"{home}/{path}")
    assert isinstance(caught.value, PathNotAllowed)
    assert "--allow-path" in caught.value.hint


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
