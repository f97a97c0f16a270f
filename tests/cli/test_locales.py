"""Locales that are not UTF-8: names that they can't spell are shown as escapes, and nobody fails over them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted import ScriptedDaemon

NAME = "Mikrofon \u266b b\u00e9ton \U0001f3a4"
LOCALES = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "POSIX, UTF-8 mode off": {"LC_ALL": "POSIX", "LANG": "", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin-1": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"},
}
DEVICE = {
    "identity": NAME, "name": NAME, "description": NAME, "node_id": 41, "direction": "input", "is_monitor": False,
    "format": {"type": "audio", "sample_rate": 48000, "channels": 2, "positions": ["FL", "FR"]}, "is_default": True,
    "volume": 1.0, "api": "alsa",
}  # fmt: skip


@pytest.fixture(params=LOCALES.values(), ids=LOCALES)
def locale(request: pytest.FixtureRequest) -> dict[str, str]:
    return dict(request.param)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ScriptedDaemon]:
    with ScriptedDaemon(tmp_path, {"device_list": {"devices": [DEVICE]}}) as daemon:
        yield daemon


def ran(locale: dict[str, str], program: str, *arguments: Any) -> subprocess.CompletedProcess[bytes]:
    """A program in that locale; it must not end in a traceback."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON"))}
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    done = subprocess.run(command, env={**env, **locale}, capture_output=True, timeout=60)
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    return done


def test_a_devices_name_is_shown(daemon: ScriptedDaemon, locale: dict[str, str]) -> None:
    ends = ("--endpoint", daemon.config.endpoint, "--events", daemon.config.events_endpoint)
    table = ran(locale, "chaosctl", *ends, "devices")
    assert table.returncode == 0
    assert b"Mikrofon" in table.stdout
    told = ran(locale, "chaosctl", *ends, "devices", "--json")
    assert told.returncode == 0
    assert json.loads(told.stdout)["devices"][0]["name"] == NAME


def test_a_name_that_was_typed_is_answered(daemon: ScriptedDaemon, locale: dict[str, str]) -> None:
    ends = ("--endpoint", daemon.config.endpoint, "--events", daemon.config.events_endpoint)
    asked = ran(locale, "chaosctl", *ends, "status", f"stream://desk/{NAME}".encode())
    assert asked.returncode != 0
    assert asked.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["start", "--help"], ["save", "--help"], ["list"]])
def test_chaosctl_speaks(tmp_path: Path, locale: dict[str, str], arguments: list[str]) -> None:
    assert ran(locale, "chaosctl", "--store", str(tmp_path), *arguments).stdout or arguments == ["list"]


def test_chaosd_speaks(tmp_path: Path, locale: dict[str, str]) -> None:
    assert ran(locale, "chaosd", "--help").returncode == 0
    a_file = tmp_path / NAME
    a_file.touch()
    refused = ran(locale, "chaosd", "--store", os.fsencode(a_file), "--endpoint", f"ipc://{tmp_path}/c")
    assert refused.returncode not in (0, 1)
    assert b"Mikrofon" in refused.stderr


CHECKED = """
import json, sys
from chaos.protocol.codec import decode_request
from chaos.terms.errors import ChaosError
for raw in json.loads(sys.stdin.buffer.read()):
    try:
        decode_request(raw.encode())
        print("taken")
    except ChaosError as error:
        print(error.code)
"""


def test_a_path_that_the_locale_cant_spell_is_refused_as_one() -> None:
    asked = [
        {"op": "slice", "uri": "stream://a/b", "from": {"frame": 0}, "to": {"frame": 1}, "output": "materialize"},
        {"op": "stream_switch_chunk", "uri": "stream://a/b"},
    ]
    raw = [json.dumps({**each, key: f"/x/{NAME}"}) for each, key in zip(asked, ("path", "new_chunk_path"), strict=True)]
    for locale, code in ((LOCALES["C"], "path_not_allowed"), ({"PYTHONUTF8": "1"}, "taken")):
        env = {**os.environ, **locale}
        command, sent = [sys.executable, "-c", CHECKED], json.dumps(raw).encode()
        done = subprocess.run(command, env=env, input=sent, capture_output=True)
        assert done.stdout.decode().split() == [code] * 2, done.stderr
