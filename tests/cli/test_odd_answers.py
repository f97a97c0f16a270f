"""chaosctl against whatever listens at the endpoint: a line and exit code 7, never a traceback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from click.testing import CliRunner, Result
from scripted import ScriptedDaemon

from chaos.cli.main import main
from chaos.client import Client
from chaos.protocol.answers import RESULTS
from chaos.protocol.heard import Heard
from chaos.terms.errors import BadAnswer

URI = "stream://desk/take"
COMMANDS = [
    ["status"],
    ["status", URI],
    ["devices"],
    ["list"],
    ["list", "--running"],
    ["start", "mic", URI],
    ["start"],
    ["stop", URI],
    ["stop"],
    ["mark", URI, "here"],
    ["info", URI],
    ["verify", URI],
    ["keep", URI],
    ["session", "list"],
    ["session", "status", "band"],
    ["session", "stop", "band"],
    ["events", "--since", "0"],
    ["retire", "--dry-run"],
    ["accept-port", URI],
]
ODD: list[dict[str, Any]] = [
    {},
    {"streams": [{}], "devices": [{}], "device": {}, "sessions": [{}], "events": [{}], "recordings": [{}], "store": {}},
    {"streams": 5, "devices": 5, "device": 5, "sessions": 5, "events": 5, "recordings": 5, "store": {"path": 5}},
    {"streams": [5], "devices": [5], "device": "x", "sessions": [5], "events": [5], "recordings": [5], "store": None},
]


def run(daemon: ScriptedDaemon, words: list[str]) -> Result:
    where = ["--endpoint", daemon.config.endpoint, "--events", daemon.config.events_endpoint]
    return CliRunner().invoke(main, [*where, *words])


@pytest.mark.parametrize("odd", ODD, ids=["nothing", "empty", "numbers", "wrong"])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_daemon_that_answers_oddly_is_told_in_a_line(tmp_path: Path, words: list[str], odd: dict[str, Any]) -> None:
    of_recordings = ["recording_list", "recording_info", "verify", "retire", "slice"]
    script = {op: odd for op in [*RESULTS, *of_recordings] if op != "ping"}
    with ScriptedDaemon(tmp_path, script) as daemon:
        done = run(daemon, words)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert "Traceback" not in done.output


@pytest.mark.parametrize("words", [["status"], ["devices"], ["stop", URI], ["session", "list"]], ids=" ".join)
def test_an_answer_without_what_belongs_into_it(tmp_path: Path, words: list[str]) -> None:
    with ScriptedDaemon(tmp_path, {op: {} for op in RESULTS if op != "ping"}) as daemon:
        done = run(daemon, words)
        as_json = run(daemon, [*words, "--json"])
    assert (done.exit_code, as_json.exit_code in (0, 7)) == (7, True)
    assert "makes no sense here" in done.stderr
    assert "--version" in done.stderr


class Liar:
    """Listens where a chaosd would, and answers every command with the same bytes."""

    def __init__(self, folder: Path, answer: bytes) -> None:
        self.endpoint = f"ipc://{folder}/liar"
        self._answer = answer
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.bind(self.endpoint)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._socket as bound:
            while True:
                *envelope, asked = bound.recv_multipart()
                if asked == b"end":
                    return
                number = json.loads(asked)["id"].encode()
                bound.send_multipart([*envelope, self._answer.replace(b"ID", number)])

    def close(self) -> None:
        with self._context.socket(zmq.DEALER) as last:
            last.connect(self.endpoint)
            last.send(b"end")
            self._thread.join()
        self._context.destroy(linger=0)


@pytest.fixture(
    params=[
        b"",
        b"\xff\xfe",
        b"hello",
        b"null",
        b"[]",
        b"[" * 100_000,
        b"{}",
        b'{"ok": true}',
        b'{"ok": 1, "id": "ID"}',
        b'{"ok": true, "id": "ID"}',
        b'{"ok": true, "id": "ID", "result": [1]}',
        b'{"ok": true, "id": 5, "result": {}}',
        b'{"ok": true, "id": "another", "result": {}}',
        b'{"ok": true, "result": {}}',
        b'{"ok": false, "id": null, "error": {"code": "internal", "message": "no"}}',
        b'{"ok": false, "id": "ID"}',
        b'{"ok": false, "id": "ID", "error": "no"}',
        b'{"ok": false, "id": "ID", "error": {"code": 5}}',
        b'{"ok": false, "id": "ID", "error": {"code": "x", "message": "\\u001b]52;c;x", "hint": 5}}',
    ]
)
def liar(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Liar]:
    made = Liar(tmp_path, request.param)
    yield made
    made.close()


def test_what_is_no_answer_is_told(liar: Liar) -> None:
    done = CliRunner().invoke(main, ["--endpoint", liar.endpoint, "status"])
    assert (done.exit_code, "makes no sense here" in done.stderr) == (7, True)
    assert "\x1b" not in done.output
    as_json = CliRunner().invoke(main, ["--endpoint", liar.endpoint, "status", "--json"])
    assert json.loads(as_json.stdout)["error"]["code"] == "bad_answer"
    with Client(liar.endpoint) as client, pytest.raises(BadAnswer):
        client.call("ping")
    for words in (["stop", URI], ["shutdown"]):  # for whose answers there is much time
        done = CliRunner().invoke(main, ["--endpoint", liar.endpoint, *words])
        assert (done.exit_code, "makes no sense here" in done.stderr) == (7, True)


def test_an_event_that_is_none_is_told(tmp_path: Path) -> None:
    with (
        ScriptedDaemon(tmp_path) as daemon,
        Client(daemon.config.endpoint, daemon.config.events_endpoint) as client,
        client.events(timeout_s=60) as events,
    ):
        daemon.bus.publish(b"stream_gap x", b'{"type": 5}')
        with pytest.raises(BadAnswer):
            next(events)
        daemon.bus.publish(b"stream_gap x", b"\xff")
        with pytest.raises(BadAnswer):
            next(events)


def test_a_defect_of_its_own_is_not_laid_at_chaosds_door() -> None:
    heard = Heard()
    heard.answer("session_list", {"sessions": []})
    heard.event({"type": "daemon_stopping", "stream_uri": None})
    assert heard.fault(KeyError("missing")) is None
    heard.answer("session_list", {"sessions": 5})
    assert heard.fault(KeyError("missing")) is not None
