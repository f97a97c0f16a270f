"""Over the network: the right keys, wrong ones, none, removed ones; key files that others could have had."""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import zmq
from click.testing import CliRunner
from freeports import free_port
from scripted import ScriptedDaemon

from chaos.cli.main import main
from chaos.client import Client, DaemonUnreachable
from chaos.doors.zmq import bus, curve
from chaos.protocol.config import Config
from chaos.system.keys import Keys
from chaos.terms.errors import InvalidRequest, Unauthorized

SILENCE_MS = 300


class Site:
    """A recorder that lets a laptop in, and knows nobody else."""

    def __init__(self, folder: Path) -> None:
        self.recorder, self.laptop = Keys(folder / "recorder"), Keys(folder / "laptop")
        self.server_key = self.recorder.make().public
        self.recorder.add("laptop", self.laptop.make().public)
        self.laptop.add("127.0.0.1", self.server_key, is_host=True)
        self.endpoint = f"tcp://127.0.0.1:{free_port()}"

    def client(self, keys: Keys | None = None, **options: Any) -> Client:
        return Client(self.endpoint, keys=(keys or self.laptop).folder, **{"timeout_s": 60, **options})


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def daemon(tmp_path: Path, site: Site) -> Iterator[ScriptedDaemon]:
    with ScriptedDaemon(tmp_path, endpoint=site.endpoint, keys=site.recorder.folder) as daemon:
        yield daemon


def test_with_the_right_keys_all_is_as_it_is_at_home(site: Site, daemon: ScriptedDaemon) -> None:
    with site.client() as client, client.events("daemon_stopping", timeout_s=60) as events:
        assert client.reachable()
        assert client.call("ping") == {"name": "chaosd"}
        daemon.publish("daemon_stopping")
        assert next(events)["type"] == "daemon_stopping"


def test_a_key_that_is_not_authorized_gets_nothing(
    site: Site, daemon: ScriptedDaemon, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = Keys(tmp_path / "stranger")
    public = stranger.make().public
    with site.client(stranger, server_key=site.server_key) as client, pytest.raises(Unauthorized) as refused:
        client.call("ping")
    assert public in refused.value.hint
    assert public in caplog.text
    assert daemon.requests == []


def test_a_daemon_with_another_key_than_the_known_one_is_not_talked_to(
    site: Site, daemon: ScriptedDaemon, tmp_path: Path
) -> None:
    other = Keys(tmp_path / "other").make().public
    with site.client(server_key=other, timeout_s=0.5) as client, pytest.raises(DaemonUnreachable, match="another key"):
        client.call("ping")
    assert daemon.requests == []


@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.REQ, zmq.SUB, zmq.XSUB])
def test_without_keys_nothing_gets_through(site: Site, daemon: ScriptedDaemon, kind: int) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    listens = kind in (zmq.SUB, zmq.XSUB)
    bare = context.socket(kind)
    bare.connect(daemon.config.events_endpoint if listens else site.endpoint)
    if kind == zmq.SUB:
        bare.subscribe(b"")
    else:
        bare.send(b"\1" if kind == zmq.XSUB else b'{"op": "ping"}')
    for _ in range(100):
        daemon.publish("daemon_stopping")
    assert not bare.poll(SILENCE_MS)
    assert daemon.requests == []
    context.destroy(linger=0)


def test_raw_bytes_get_nothing_but_the_greeting(site: Site, daemon: ScriptedDaemon) -> None:
    host, port = site.endpoint.removeprefix("tcp://").split(":")
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" + b"\0" * 8 + b"\x7f\3\0NULL" + b"\0" * 48, b"\0" * 1000):
        with socket.create_connection((host, int(port)), timeout=5) as raw:
            raw.sendall(garbage)
            raw.settimeout(0.2)
            said = b""
            try:
                while more := raw.recv(4096):
                    said += more
            except (TimeoutError, ConnectionResetError):
                pass
            assert len(said) <= 64
    with site.client() as client:
        assert client.call("ping")
    assert len(daemon.requests) == 1


def test_a_removed_key_is_out_at_once(site: Site, daemon: ScriptedDaemon, caplog: pytest.LogCaptureFixture) -> None:
    with site.client() as client, client.events("daemon_stopping", timeout_s=60) as events:
        client.call("ping")
        site.recorder.remove("laptop")
        site.recorder.add("somebody-else", site.recorder.own().public)
        n_asked = len(daemon.requests)
        daemon.publish("daemon_stopping")
        with pytest.raises(DaemonUnreachable):
            next(events)
        with pytest.raises((DaemonUnreachable, Unauthorized)):
            client.call("ping")
    with site.client() as client, pytest.raises(Unauthorized):
        client.call("ping")
    assert len(daemon.requests) == n_asked
    assert "not authorized any more" in caplog.text


@pytest.mark.parametrize("change", ["other key", "lax mode"])
def test_a_key_whose_file_is_changed_in_its_place_is_out_at_once(
    site: Site, daemon: ScriptedDaemon, change: str
) -> None:
    path = site.recorder.folder / "authorized" / "laptop.key"
    with site.client() as client, client.events("daemon_stopping", timeout_s=60) as events:
        client.call("ping")
        if change == "lax mode":
            path.chmod(0o666)
        else:
            path.write_text(path.read_text().replace(site.laptop.own().public, site.server_key))
        n_asked = len(daemon.requests)
        with pytest.raises((DaemonUnreachable, Unauthorized)):
            client.call("ping")
        daemon.publish("daemon_stopping")
        with pytest.raises(DaemonUnreachable):
            next(events)
    assert len(daemon.requests) == n_asked


def test_strangers_lock_nobody_out(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who say nothing make room for the next, however long they might stay."""
    monkeypatch.setattr(bus, "max_connections", lambda: 40)
    monkeypatch.setattr(curve, "_HANDSHAKE_MS", 600_000)
    port = int(site.endpoint.rpartition(":")[2])
    with ScriptedDaemon(tmp_path, endpoint=site.endpoint, keys=site.recorder.folder), ExitStack() as stack:
        strangers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for _ in range(15)
        ]
        for stranger in strangers[:5]:
            with suppress(ConnectionResetError):
                while stranger.recv(1024):
                    pass
        with site.client() as client:
            assert client.call("ping") == {"name": "chaosd"}


def test_who_says_nothing_is_gone_before_long(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert curve._HANDSHAKE_MS <= 5000
    monkeypatch.setattr(curve, "_HANDSHAKE_MS", 100)
    port = int(site.endpoint.rpartition(":")[2])
    with (
        ScriptedDaemon(tmp_path, endpoint=site.endpoint, keys=site.recorder.folder),
        socket.create_connection(("127.0.0.1", port), timeout=20) as stranger,
        suppress(ConnectionResetError),
    ):
        while stranger.recv(1024):
            pass


def test_a_command_of_a_removed_key_is_not_done_where_its_connection_has_ended(
    site: Site, daemon: ScriptedDaemon
) -> None:
    """The bus is held up until all has happened: the command has come, its key is removed, its connection has ended."""
    asked, removed = threading.Event(), threading.Event()

    def hold_up(request: object) -> dict[str, Any]:
        asked.set()
        assert removed.wait(60)
        assert daemon.bus._asking.watch.poll(60_000)  # the end of the connection, to be read before the command
        return {}

    daemon.script["status"] = hold_up
    own = site.laptop.own()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    client = context.socket(zmq.DEALER)
    client.curve_publickey, client.curve_secretkey = own.public.encode(), own.secret.encode()
    client.curve_serverkey = site.server_key.encode()
    client.connect(site.endpoint)
    client.send(b'{"op": "status"}')
    client.send(b'{"op": "ping"}')
    assert asked.wait(60)
    context.destroy(linger=60_000)
    site.recorder.remove("laptop")
    removed.set()
    with site.client() as later, pytest.raises(Unauthorized):
        later.call("ping")
    assert [type(each).__name__ for each in daemon.requests] == ["Status"]


@pytest.mark.parametrize("how", ["pipe", "lax", "empty", "odd", "folder", "link"])
def test_one_bad_file_among_the_keys_costs_that_key_alone(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """All clients were kept out by it; and a pipe held up them and the end. Also while chaosd runs."""
    bad = site.recorder.folder / "authorized" / "bad.key"
    writer: threading.Timer | None = None
    if how == "pipe":
        os.mkfifo(bad, 0o600)
        writer = threading.Timer(20, lambda: os.close(os.open(bad, os.O_WRONLY | os.O_NONBLOCK)))  # else it would hang
        writer.start()
    elif how == "folder":
        bad.mkdir()
    elif how == "link":
        bad.symlink_to("laptop.key")
    else:
        bad.write_bytes({"lax": (bad.parent / "laptop.key").read_bytes(), "empty": b"", "odd": b"\xff\xfe\n"}[how])
        bad.chmod(0o666 if how == "lax" else 0o600)
    try:
        assert list(site.recorder.authorized()) == ["laptop"]
        assert [str(bad) in each.message for each in site.recorder.unused()] == [True]
        with (
            caplog.at_level(logging.ERROR),
            ScriptedDaemon(tmp_path, endpoint=site.endpoint, keys=site.recorder.folder),
            site.client(timeout_s=10) as client,
        ):
            assert client.call("ping")
            assert caplog.text.count("a key is not used") == 1
            site.recorder.add("later", Keys(tmp_path / "later").make().public)
            assert client.call("ping")
            assert client.call("ping")
        assert caplog.text.count("a key is not used") == 1
    finally:
        if writer is not None:
            writer.cancel()


def test_a_key_that_is_damaged_while_chaosd_runs_is_told_and_the_others_go_on(
    site: Site, daemon: ScriptedDaemon, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site.recorder.add("desk", Keys(tmp_path / "desk").make().public)
    with caplog.at_level(logging.ERROR), site.client() as client:
        assert client.call("ping")
        (site.recorder.folder / "authorized" / "desk.key").write_bytes(b"nonsense")
        while "a key is not used" not in caplog.text:
            assert client.call("ping")
    assert "desk.key" in caplog.text


def test_a_damaged_key_of_one_host_costs_that_host_alone(site: Site, daemon: ScriptedDaemon) -> None:
    site.laptop.add("elsewhere", site.server_key, is_host=True)
    (site.laptop.folder / "hosts" / "elsewhere.key").write_bytes(b"nonsense")
    with site.client() as client:
        assert client.call("ping")
    with pytest.raises(Unauthorized, match=r"not a key file|damaged"):
        site.laptop.host("elsewhere")


def test_a_key_added_later_is_let_in(site: Site, daemon: ScriptedDaemon, tmp_path: Path) -> None:
    later = Keys(tmp_path / "later")
    later.add("127.0.0.1", site.server_key, is_host=True)
    site.recorder.add("later", later.make().public)
    with site.client(later) as client:
        assert client.call("ping")


def test_without_keys_tcp_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="without keys"):
        Config(endpoint="tcp://127.0.0.1:5555")
    with pytest.raises(Unauthorized, match="no key in"):
        ScriptedDaemon(tmp_path, endpoint="tcp://127.0.0.1:5555", keys=tmp_path / "none")
    Keys(tmp_path / "keys").make()
    with pytest.raises(Unauthorized, match="nobody could come in"):
        ScriptedDaemon(tmp_path, endpoint="tcp://127.0.0.1:5555", keys=tmp_path / "keys")


@pytest.mark.parametrize(
    ("name", "mode"),
    [("own.key", 0o640), ("own.key", 0o604), ("authorized", 0o777), ("authorized/laptop.key", 0o622)],
)
def test_key_files_with_lax_modes_are_refused(site: Site, tmp_path: Path, name: str, mode: int) -> None:
    (site.recorder.folder / name).chmod(mode)
    with pytest.raises(Unauthorized, match="not used") as refused:
        ScriptedDaemon(tmp_path, endpoint=site.endpoint, keys=site.recorder.folder)
    assert "chmod" in refused.value.hint


def test_a_folder_of_keys_that_others_can_write_to_is_refused(site: Site) -> None:
    site.recorder.folder.chmod(0o777)
    with pytest.raises(Unauthorized, match="be written to by others"):
        site.recorder.authorized()


@pytest.mark.parametrize("umask", [0, 0o022])
def test_folders_of_keys_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """Whoever can write to a folder above can put another one in its place."""
    before = os.umask(umask)
    try:
        Keys(tmp_path / "config" / "chaos" / "keys").make()
    finally:
        os.umask(before)
    for folder in ("config", "config/chaos", "config/chaos/keys"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700


def test_key_files_are_private_whatever_the_umask(site: Site) -> None:
    for path in (site.recorder.folder, *site.recorder.folder.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b'curve\n public-key = "short"\n', b"\xff\xfe\n"])
def test_damaged_key_files_are_refused(site: Site, tmp_path: Path, content: bytes) -> None:
    (site.recorder.folder / "authorized" / "laptop.key").write_bytes(content)
    with pytest.raises(Unauthorized):
        ScriptedDaemon(tmp_path, endpoint=site.endpoint, keys=site.recorder.folder)


def test_keys_that_become_damaged_let_nobody_in(
    site: Site, daemon: ScriptedDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    (site.recorder.folder / "authorized").chmod(0o777)
    with caplog.at_level(logging.ERROR), site.client() as client, pytest.raises(Unauthorized):
        client.call("ping")
    assert "nobody is let in" in caplog.text


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "chaos" / "keys"


def test_keys_by_command(home: Path, site: Site, daemon: ScriptedDaemon) -> None:
    run = CliRunner().invoke
    made = run(main, ["keys", "new"])
    public = made.stdout.strip()
    assert Keys(home).own().public == public
    assert Keys(home).own().secret not in made.output
    assert run(main, ["keys", "new"]).exit_code == 2
    assert run(main, ["keys", "add", "desk", "nonsense"]).exit_code == 2
    assert run(main, ["keys", "add", "../desk", public]).exit_code == 2
    assert run(main, ["keys", "add", "desk", public]).exit_code == 0
    assert run(main, ["keys", "add", "desk", public]).exit_code == 2
    assert run(main, ["keys", "add", "--host", "127.0.0.1:47800", site.server_key]).exit_code == 0
    again = run(main, ["keys", "add", "--host", "127.0.0.1", site.server_key])
    assert (again.exit_code, "chaosctl keys remove --host 127.0.0.1" in again.stderr) == (2, True)
    listed = run(main, ["keys", "list"]).stdout
    assert f"own         {public}" in listed
    assert f"authorized  {public}  desk" in listed
    assert f"host        {site.server_key}  127.0.0.1" in listed
    (home / "authorized" / "bad.key").write_bytes(b"nonsense")
    with_bad = run(main, ["keys", "list"])
    assert (with_bad.exit_code, f"authorized  {public}  desk" in with_bad.stdout) == (0, True)
    assert f"not used    {home / 'authorized' / 'bad.key'}" in with_bad.stdout
    assert "bad.key" in json.loads(run(main, ["keys", "list", "--json"]).stdout)["unused"][0]["message"]
    (home / "authorized" / "bad.key").unlink()
    daemon.script["device_list"] = {"devices": []}
    host = ["--host", site.endpoint.removeprefix("tcp://")]
    refused = run(main, [*host, "devices"])
    assert (refused.exit_code, "chaosctl keys" in refused.stderr) == (7, True)
    site.recorder.add("desk", public)
    assert run(main, [*host, "devices"]).exit_code == 0
    assert run(main, ["keys", "remove", "desk"]).exit_code == 0
    assert run(main, ["keys", "remove", "desk"]).exit_code == 2
    assert run(main, ["keys", "remove", "--host", "127.0.0.1"]).exit_code == 0
    assert "authorized" not in run(main, ["keys", "list"]).stdout
