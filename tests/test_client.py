"""The Python client against a scripted daemon over a real bus."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from scripted import ScriptedDaemon

from chaos.client import Client, DaemonUnreachable
from chaos.protocol.config import ipc_path
from chaos.terms.errors import ChannelsMismatch, DeviceNotFound, InvalidRequest, StorageFull, TimedOut

URI = "stream://desk/take"
STARTED = {"uri": URI, "recording": "/r", "device": None, "format": {}, "reason": "", "chunk_frames": 1024}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ScriptedDaemon]:
    with ScriptedDaemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: ScriptedDaemon) -> Iterator[Client]:
    with client_of(daemon) as client:
        yield client


def client_of(daemon: ScriptedDaemon, **options: Any) -> Client:
    return Client(daemon.config.endpoint, daemon.config.events_endpoint, **options)


def test_a_call_gives_the_result(client: Client) -> None:
    assert client.reachable()
    assert client.call("ping") == {"name": "chaosd"}


def test_where_events_are_told_is_asked_of_the_daemon_itself(daemon: ScriptedDaemon) -> None:
    """Not another one's, which may listen at the default place."""
    daemon.script["ping"] = {"name": "chaosd", "events_endpoint": daemon.config.events_endpoint}
    with Client(daemon.config.endpoint) as client, client.events("stream_state", timeout_s=20) as events:
        daemon.publish("stream_state", URI, state="paused", reason="")
        assert next(events)["state"] == "paused"


def test_errors_come_back_as_what_they_are(client: Client, daemon: ScriptedDaemon) -> None:
    daemon.script["stream_stop"] = StorageFull("no space", hint="make some", details={"free": 0})
    with pytest.raises(StorageFull) as caught:
        client.call("stream_stop", uri=URI)
    assert (caught.value.message, caught.value.hint, caught.value.details) == (
        "no space",
        "make some",
        {"free": 0},
    )
    with pytest.raises(InvalidRequest, match="nonsense"):
        client.call("ping", nonsense=1)


def test_what_can_t_be_sent_is_refused_here(client: Client) -> None:
    for fields in ({"x": object()}, {"x": {object(): 1}}, {"timeout_s": object()}):
        with pytest.raises(InvalidRequest, match="can't be sent"):
            client.call("ping", **fields)
    with pytest.raises(InvalidRequest, match="17000029 bytes, more than 1048576"):
        client.call("ping", x="x" * 17_000_000)
    assert client.call("ping") == {"name": "chaosd"}


def test_one_that_is_closed_says_so(daemon: ScriptedDaemon) -> None:
    with client_of(daemon) as client:
        client.call("ping")
    client.close()
    with pytest.raises(InvalidRequest, match="closed"):
        client.call("ping")
    with pytest.raises(InvalidRequest, match="closed"):
        client.events()


@pytest.mark.parametrize("lost", ["client", "events"])
def test_one_that_nobody_closed_does_not_stop_the_garbage_collector(daemon: ScriptedDaemon, lost: str) -> None:
    script = (
        "import gc, sys\n"
        "from chaos.client import Client\n"
        "class Holder: pass\n"
        "holder = Holder()\n"
        "holder.itself = holder\n"
        "holder.client = Client(*sys.argv[1:3])\n"
        "holder.client.call('ping')\n"
        "holder.events = holder.client.events() if sys.argv[3] == 'events' else None\n"
        "del holder\n"
        "gc.collect()\n"
        "print('collected')\n"
    )
    endpoints = daemon.config.endpoint, daemon.config.events_endpoint
    done = subprocess.run([sys.executable, "-c", script, *endpoints, lost], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (0, "collected\n"), done.stderr


def test_nobody_there_is_told_at_once(tmp_path: Path) -> None:
    with Client(f"ipc://{tmp_path}/command", f"ipc://{tmp_path}/events") as client:
        assert not client.reachable()
        with pytest.raises(DaemonUnreachable, match=str(tmp_path)) as caught:
            client.call("ping")
        assert caught.value.exit_code == 7
        with pytest.raises(DaemonUnreachable):
            client.events()


def test_whoever_listens_in_another_users_folder_is_not_talked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a runtime folder ours lies in one for temporary files, where anybody can be first."""
    with ScriptedDaemon(tmp_path) as daemon:
        (tmp_path / "chaos").mkdir(exist_ok=True)
        for endpoint, name in ((daemon.config.endpoint, "command"), (daemon.config.events_endpoint, "events")):
            (tmp_path / "chaos" / name).symlink_to(ipc_path(endpoint))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        with Client() as client:
            assert client.call("ping")
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        if tmp_path.stat().st_uid == 0:
            os.chown(tmp_path / "chaos", 54321, -1)
        with Client() as client:
            for ask in (lambda: client.call("ping"), client.events):
                with pytest.raises(InvalidRequest, match="belongs to another user"):
                    ask()


def test_a_daemon_that_does_not_answer_is_given_up(daemon: ScriptedDaemon) -> None:
    late: Future[dict[str, int]] = Future()
    daemon.script["status"] = late
    with client_of(daemon, timeout_s=0.05) as client:
        with pytest.raises(DaemonUnreachable, match="did not answer status"):
            client.call("status")
        late.set_result({"late": 1})
        daemon.script["status"] = {"late": 0}
        found = None
        while found is None:  # on a busy machine it may be given up once more
            with suppress(DaemonUnreachable):
                found = client.call("status")
        assert found == {"late": 0}


DYING = """
import os, pathlib, sys
from concurrent.futures import Future
from scripted import ScriptedDaemon
with ScriptedDaemon(pathlib.Path(sys.argv[1]), {"verify": lambda request: os.kill(os.getpid(), 9)}):
    print("up", flush=True)
    sys.stdin.read()
"""


def test_a_daemon_that_dies_is_noticed_and_its_successor_found(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DYING, str(tmp_path)]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, env={**os.environ, **path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as dying:
        assert dying.stdout is not None
        assert dying.stdout.readline() == "up\n"
        with Client(f"ipc://{tmp_path}/command", f"ipc://{tmp_path}/events") as client:
            with pytest.raises(DaemonUnreachable, match="went away"):
                client.call("verify", uri=URI)
            assert dying.wait() == -signal.SIGKILL
            with ScriptedDaemon(tmp_path):
                assert client.call("ping")


def test_events_hold_all_that_later_calls_do(client: Client, daemon: ScriptedDaemon) -> None:
    def tell(request: object) -> dict[str, int]:
        daemon.publish("stream_state", URI, state="paused", reason="")
        daemon.publish("daemon_started", version="1", pid=7)
        return {}

    daemon.script["status"] = tell
    for _ in range(500):
        with client.events("stream_state", timeout_s=60) as events:
            client.call("status")
            assert next(events)["stream_uri"] == URI


def test_events_are_opened_and_closed_thousands_of_times(client: Client) -> None:
    for _ in range(4000):
        with client.events():
            pass


def test_silence_and_the_end_of_the_daemon_are_told_apart(tmp_path: Path) -> None:
    with ScriptedDaemon(tmp_path) as daemon:
        client = client_of(daemon)
        events = client.events(timeout_s=0.01)
        with pytest.raises(TimedOut):
            next(events)
        daemon.publish("daemon_stopping")
    events.timeout_s = 60
    assert next(events)["type"] == "daemon_stopping"
    with pytest.raises(DaemonUnreachable):
        next(events)
    client.close()
    client.close()


def test_the_default_device_is_no_monitor(client: Client, daemon: ScriptedDaemon) -> None:
    monitor = {"identity": "m", "is_default": True, "is_monitor": True}
    mic = {"identity": "mic", "is_default": True, "is_monitor": False}
    daemon.script["device_list"] = {"devices": [monitor]}
    with pytest.raises(DeviceNotFound):
        client.default_device()
    daemon.script["device_list"] = {"devices": [{**mic, "is_default": False}, monitor, mic]}
    assert client.default_device() == mic


def start(client: Client, **fields: Any) -> dict[str, Any]:
    return client.start(uri=URI, device_identity="mic", format={"type": "audio"}, **fields)


def test_start_returns_once_it_streams(client: Client, daemon: ScriptedDaemon) -> None:
    def begin(request: object) -> dict[str, Any]:
        for uri, state in ((f"{URI}2", "streaming"), (URI, "paused"), (URI, "streaming")):
            daemon.publish("stream_state", uri, state=state, reason="")
        return {**STARTED, "state": "connecting"}

    daemon.script["stream_start"] = begin
    assert start(client) == {**STARTED, "state": "streaming"}


@pytest.mark.parametrize("state", ["waiting", "streaming"])
def test_start_returns_at_once_where_there_is_nothing_to_wait_for(
    client: Client, daemon: ScriptedDaemon, state: str
) -> None:
    daemon.script["stream_start"] = {**STARTED, "state": state}
    assert start(client, wait=True)["state"] == state


def test_start_raises_the_streams_own_error(client: Client, daemon: ScriptedDaemon) -> None:
    def begin(request: object) -> dict[str, Any]:
        error = {"code": "channels_mismatch", "message": "8, not 2"}
        daemon.publish("stream_error", URI, error={"code": "internal", "message": "odd"}, recoverable=True)
        daemon.publish("stream_error", URI, error=error, recoverable=False)
        return {**STARTED, "state": "connecting"}

    daemon.script["stream_start"] = begin
    with pytest.raises(ChannelsMismatch, match="8, not 2"):
        start(client)


def test_start_asks_before_it_gives_up(client: Client, daemon: ScriptedDaemon) -> None:
    daemon.script["stream_start"] = {**STARTED, "state": "connecting"}
    daemon.script["stream_status"] = {"state": "paused"}
    with pytest.raises(TimedOut, match="is still paused"):
        start(client, settle_s=0.01)
    daemon.script["stream_status"] = {"state": "streaming"}
    assert start(client, settle_s=0.01)["state"] == "streaming"


def test_clients_in_many_threads(daemon: ScriptedDaemon) -> None:
    done: queue.Queue[int] = queue.Queue()

    def work() -> None:
        with client_of(daemon) as client:
            done.put(sum(client.call("ping") == {"name": "chaosd"} for _ in range(50)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [done.get_nowait() for _ in threads] == [50] * 8
