"""The bus over real sockets: odd bytes, odd clients, slow ops, a second daemon, events in order."""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import zmq
from scripted import ScriptedDaemon

from chaos.doors.zmq import Bus, arrivals, readers, subscriptions
from chaos.doors.zmq import clients as bounds
from chaos.doors.zmq.bus import MAX_ENVELOPE_BYTES, MAX_FRAMES, MAX_WAITS
from chaos.doors.zmq.clients import MAX_PENDING
from chaos.doors.zmq.subscriptions import MAX_PREFIXES
from chaos.protocol.config import ipc_path
from chaos.protocol.requests import MAX_ID_CHARACTERS, Request
from chaos.terms.errors import InvalidRequest, StorageFailed, StreamNotFound

WAIT_MS = 60_000
URI = "stream://desk/take"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ScriptedDaemon]:
    with ScriptedDaemon(tmp_path) as daemon:
        yield daemon


class Sockets:
    """Client sockets, closed at the end of the test."""

    def __init__(self) -> None:
        self._context: Sockets = zmq.Context()
        self._made: list[zmq.Socket[bytes]] = []

    def socket(self, kind: int) -> zmq.Socket[bytes]:
        made = self._context.socket(kind)
        made.rcvtimeo = made.sndtimeo = WAIT_MS
        self._made.append(made)
        return made

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def context() -> Iterator[Sockets]:
    sockets = Sockets()
    yield sockets
    sockets.close()


class Raw:
    """A client of pyzmq and json alone."""

    def __init__(self, context: Sockets, daemon: ScriptedDaemon, kind: int = zmq.DEALER, name: bytes | None = None):
        self.socket = context.socket(kind)
        if name is not None:
            self.socket.identity = name
        self.socket.connect(daemon.config.endpoint)

    def send(self, op: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"op": op, **fields}).encode())

    def receive(self) -> dict[str, Any]:
        return json.loads(self.socket.recv_multipart()[-1])

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        self.send(op, **fields)
        return self.receive()

    def ask_raw(self, raw: bytes) -> dict[str, Any]:
        self.socket.send(raw)
        return self.receive()


def resident_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def n_disconnected(caplog: pytest.LogCaptureFixture) -> int:
    """How many clients the log tells of; of many alike at once only the first has a line of its own."""
    told = re.findall(r"(a|one more|\d+ more) clients? (?:is|are) disconnected", caplog.text)
    return sum(int(each.split()[0]) if each[0].isdigit() else 1 for each in told)


class Most:
    """The most memory that this process has held since."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self._before = resident_kib()

    def grown_kib(self) -> int:
        peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
        return peak - self._before


@pytest.fixture
def raw(context: Sockets, daemon: ScriptedDaemon) -> Raw:
    return Raw(context, daemon)


@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER])
def test_req_and_dealer_are_answered(context: Sockets, daemon: ScriptedDaemon, kind: int) -> None:
    client = Raw(context, daemon, kind)
    assert client.ask("ping", id="a") == {"ok": True, "id": "a", "result": {"name": "chaosd"}}
    assert client.ask("ping") == {"ok": True, "id": None, "result": {"name": "chaosd"}}


@pytest.mark.parametrize("envelope", [[], [b""], [b"one", b"two", b""], [b"x" * 64] * 15])
def test_the_envelope_comes_back_as_it_came(raw: Raw, envelope: list[bytes]) -> None:
    raw.socket.send_multipart([*envelope, b'{"op": "ping"}'])
    assert raw.socket.recv_multipart()[:-1] == envelope


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"", "invalid_request"),
        (b"hello", "invalid_request"),
        (b"\xff\xfe\x00\x01", "invalid_request"),
        (b"[" * 1_000_000, "invalid_request"),
        (b"null", "invalid_request"),
        (b'{"op": "ping", "x": 1}', "invalid_request"),
        (b'{"op": "nope"}', "unknown_op"),
        (b'{"op": "stream_stop", "uri": "stream://../x"}', "invalid_uri"),
        (b'{"op": "ping", "pad": "' + b"x" * (2 << 20) + b'"}', "invalid_request"),
        (b"x" * (15 << 20), "invalid_request"),
    ],
)
def test_whatever_comes_is_answered(raw: Raw, sent: bytes, code: str) -> None:
    answer = raw.ask_raw(sent)
    assert answer["ok"] is False
    assert answer["error"]["code"] == code
    assert answer["error"]["message"]
    assert answer["error"]["hint"]
    assert raw.ask("ping")["ok"]


def test_the_id_of_a_bad_request_comes_back(raw: Raw) -> None:
    assert raw.ask("ping", id="seven", nonsense=1)["id"] == "seven"


def test_beyond_16_mib_only_that_connection_ends(raw: Raw, context: Sockets, daemon: ScriptedDaemon) -> None:
    flooder = context.socket(zmq.DEALER)
    flooder.monitor("inproc://flooder", zmq.EVENT_DISCONNECTED)
    monitor = context.socket(zmq.PAIR)
    monitor.connect("inproc://flooder")
    flooder.connect(daemon.config.endpoint)
    flooder.send(b"x" * (17 << 20))
    assert monitor.poll(WAIT_MS)
    flooder.disable_monitor()
    assert raw.ask("ping")["ok"]


def test_errors_of_an_op_keep_code_hint_and_details(raw: Raw, daemon: ScriptedDaemon) -> None:
    daemon.script["stream_stop"] = StreamNotFound("not there", hint="start it", details={"uri": URI})
    answer = raw.ask("stream_stop", uri=URI, id="1")
    wire = {"code": "stream_not_found", "message": "not there", "hint": "start it", "details": {"uri": URI}}
    assert answer == {"ok": False, "id": "1", "error": wire}


def _raises(request: object) -> object:
    raise ZeroDivisionError("in submit")


@pytest.mark.parametrize("defect", [ValueError("in the future"), _raises, {1: object()}, KeyboardInterrupt()])
def test_defects_are_answered_as_internal_and_logged(
    raw: Raw, daemon: ScriptedDaemon, defect: object, caplog: pytest.LogCaptureFixture
) -> None:
    done: Future[object] = Future()
    done.set_result(defect)
    daemon.script["status"] = done if isinstance(defect, dict) else defect
    with caplog.at_level(logging.ERROR):
        assert raw.ask("status")["error"]["code"] == "internal"
    assert any(record.exc_info for record in caplog.records)
    assert raw.ask("ping")["ok"]


def test_a_cancelled_op_is_answered(raw: Raw, daemon: ScriptedDaemon) -> None:
    cancelled: Future[object] = Future()
    cancelled.cancel()
    daemon.script["status"] = cancelled
    assert raw.ask("status")["error"]["code"] == "internal"


def test_a_slow_op_holds_up_nobody(raw: Raw, context: Sockets, daemon: ScriptedDaemon) -> None:
    slow: Future[dict[str, str]] = Future()
    daemon.script["device_wait"] = slow
    raw.send("device_wait", name="mic", timeout_s=60, id="slow")
    other = Raw(context, daemon)
    assert all(other.ask("ping")["ok"] for _ in range(100))
    assert raw.ask("ping", id="quick")["id"] == "quick"
    worker = threading.Thread(target=slow.set_result, args=({"device": "mic"},))
    worker.start()
    assert raw.receive() == {"ok": True, "id": "slow", "result": {"device": "mic"}}
    worker.join()


def test_an_answer_goes_to_the_one_who_asked(context: Sockets, daemon: ScriptedDaemon) -> None:
    pending: list[Future[dict[str, str]]] = []
    daemon.script["device_wait"] = lambda request: pending.append(Future()) or pending[-1]
    clients = [Raw(context, daemon) for _ in range(10)]
    for number, client in enumerate(clients):
        client.send("device_wait", name=str(number), timeout_s=1)
        client.ask("ping")
    for request, future in reversed(list(zip(daemon.requests[::2], pending, strict=True))):
        future.set_result({"device": request.name})
    assert [client.receive()["result"]["device"] for client in clients] == [str(n) for n in range(10)]


def test_a_client_may_have_so_many_commands_under_way(raw: Raw, context: Sockets, daemon: ScriptedDaemon) -> None:
    daemon.script["status"] = lambda request: Future()
    for _ in range(MAX_PENDING + 1):
        raw.send("status")
    refused = raw.receive()
    assert refused["error"]["code"] == "invalid_request"
    assert "not been answered" in refused["error"]["message"]
    assert Raw(context, daemon).ask("ping")["ok"]


def test_a_client_may_ask_for_ever(raw: Raw, daemon: ScriptedDaemon) -> None:
    """Answers, errors and refusals give back what a command took."""

    def refuse(request: Request) -> Future[Any]:
        raise StreamNotFound("no such stream", hint="chaosctl list")

    daemon.script["status"] = refuse
    daemon.script["stream_stop"] = StreamNotFound("no such stream", hint="chaosctl list")
    for _ in range(MAX_PENDING + 1):
        assert raw.ask("status")["error"]["code"] == "stream_not_found"
    for _ in range(MAX_PENDING + 1):
        assert raw.ask("stream_stop", uri=URI)["error"]["code"] == "stream_not_found"
    for _ in range(MAX_PENDING + 1):
        assert raw.ask("ping")["ok"]


def test_waits_end_with_their_client_and_are_few(raw: Raw, context: Sockets, daemon: ScriptedDaemon) -> None:
    waits: queue.Queue[Future[object]] = queue.Queue()
    daemon.script["device_wait"] = lambda request: waits.put(wait := Future()) or wait
    going = Raw(context, daemon)
    for client in (going, raw):
        for _ in range(MAX_WAITS):
            client.send("device_wait", name="mic", timeout_s=60)
    for client in (going, raw):
        refused = client.ask("device_wait", name="mic", timeout_s=60, id="one too many")
        assert refused["error"]["code"] == "invalid_request"
        assert refused["error"]["hint"].startswith("wait for their answers")
    theirs = [waits.get(timeout=60) for _ in range(2 * MAX_WAITS)]
    over = threading.Semaphore(0)
    for each in theirs:
        each.add_done_callback(lambda _: over.release())
    going.socket.close(linger=0)
    for _ in range(MAX_WAITS):
        assert over.acquire(timeout=60)
    assert raw.ask("ping")["ok"]
    lasting = [each for each in theirs if not each.cancelled()]
    assert len(lasting) == MAX_WAITS
    lasting[0].set_result({"device": "mic"})
    assert raw.receive()["result"] == {"device": "mic"}
    raw.send("device_wait", name="mic", timeout_s=60)
    assert not waits.get(timeout=60).done()


def test_a_name_taken_over_keeps_its_own_waits(context: Sockets, daemon: ScriptedDaemon) -> None:
    waits: queue.Queue[Future[object]] = queue.Queue()
    daemon.script["device_wait"] = lambda request: waits.put(wait := Future()) or wait
    found = []
    for _ in range(2):
        client = context.socket(zmq.DEALER)
        client.identity = b"controller"
        client.connect(daemon.config.endpoint)
        client.send(b'{"op": "device_wait", "name": "mic", "timeout_s": 60}')
        found.append(waits.get(timeout=60))
        if len(found) == 1:
            over = threading.Event()
            found[0].add_done_callback(lambda _, over=over: over.set())
            client.close(linger=0)
            assert over.wait(60)
    assert [each.cancelled() for each in found] == [True, False]


def test_a_client_that_does_not_read_is_dropped_in_time(
    raw: Raw, context: Sockets, daemon: ScriptedDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    daemon.script["status"] = {"pad": "x" * (1 << 20)}
    deaf = context.socket(zmq.DEALER)
    deaf.rcvhwm = 1
    deaf.reconnect_ivl = 60_000
    dropped = deaf.get_monitor_socket(zmq.EVENT_DISCONNECTED, "inproc://deaf")
    deaf.connect(daemon.config.endpoint)
    before = resident_kib()
    while "does not read its answers" not in caplog.text:
        if deaf.poll(100, zmq.POLLOUT):
            deaf.send(b'{"op": "status"}')
        assert resident_kib() - before < 400_000
    n_read = 0
    while not dropped.poll(0):
        n_read += deaf.poll(100) and bool(deaf.recv())
    deaf.disable_monitor()
    dropped.close()
    assert n_read < 300
    assert caplog.text.count("does not read its answers") == 1
    assert raw.ask("status")["ok"]


class Deaf:
    """A client that asks, and reads nothing."""

    def __init__(self, context: Sockets, daemon: ScriptedDaemon) -> None:
        self._socket = context.socket(zmq.DEALER)
        self._socket.rcvhwm, self._socket.sndhwm, self._socket.reconnect_ivl = 1, 0, 60_000
        self._socket.connect(daemon.config.endpoint)

    def send(self, n: int, raw: bytes = b'{"op": "status"}') -> None:
        for _ in range(n):
            self._socket.send(raw)

    def close(self) -> None:
        self._socket.close(linger=0)


@pytest.mark.parametrize(("n_clients", "n_commands", "n_dropped"), [(10, 70, 10), (60, 4, 1)])
def test_deaf_clients_together_fill_no_memory(
    context: Sockets, daemon: ScriptedDaemon, caplog: pytest.LogCaptureFixture,
    n_clients: int, n_commands: int, n_dropped: int,
) -> None:  # fmt: skip
    """2.4 GB and 0.8 GB in answers; others are served meanwhile, and what it cost is given back."""
    daemon.script["status"] = {"pad": "x" * 3_500_000}
    other = Raw(context, daemon)
    assert other.ask("ping")["ok"]
    watched, before = Most(), resident_kib()
    deaf = [Deaf(context, daemon) for _ in range(n_clients)]
    for each in deaf:
        each.send(n_commands)
    while n_disconnected(caplog) < n_dropped:
        assert other.ask("ping")["ok"]
    assert watched.grown_kib() < 600_000  # with what they hold themselves, who are in this process
    for each in deaf:
        each.close()
    while resident_kib() - before > 100_000:  # what is freed after a trim is given back at the next one
        one = Raw(context, daemon)
        assert one.ask("status")["ok"]
        one.socket.close(linger=0)


def test_answers_that_nobody_is_there_for_are_given_back(
    raw: Raw, context: Sockets, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands of a client that has gone are still done, and their answers made: after all else of it was freed."""
    trims: queue.Queue[int] = queue.Queue()
    monkeypatch.setattr(arrivals, "_malloc_trim", trims.put)
    monkeypatch.setattr(arrivals, "_TRIM_AGAIN_AFTER_S", 0.2)
    under_way: queue.Queue[Future[object]] = queue.Queue()
    daemon.script["status"] = lambda request: under_way.put(asked := Future()) or asked
    assert raw.ask("ping")["ok"]
    client = Raw(context, daemon)
    client.send("status")
    asked = under_way.get(timeout=60)
    client.socket.close(linger=0)
    while len(daemon.bus._asking) > 1:
        assert raw.ask("ping")["ok"]
    assert trims.empty()
    asked.set_result({"pad": "x" * 3_500_000})
    assert [trims.get(timeout=60) for _ in range(2)] == [0, 0]  # again, for what ZeroMQ frees later


def test_a_deaf_client_that_is_only_ever_refused_is_dropped(
    raw: Raw, context: Sockets, daemon: ScriptedDaemon, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """No command of its was ever accepted, and so none counted."""
    monkeypatch.setattr(bounds, "MAX_QUEUED_BYTES", 1 << 20)
    deaf = Deaf(context, daemon)
    deaf.send(20_000, json.dumps({"op": "nope", "id": "x" * MAX_ID_CHARACTERS}).encode())
    while "does not read its answers" not in caplog.text or daemon.bus._clients.is_behind:
        assert raw.ask("ping")["ok"]
    assert n_disconnected(caplog) == 1


def test_who_comes_back_under_its_name_is_told_what_was_wrong(context: Sockets, daemon: ScriptedDaemon) -> None:
    """Its first connection has ended, and a command of that one is still under way."""
    under_way: queue.Queue[Future[object]] = queue.Queue()
    daemon.script["status"] = lambda request: under_way.put(asked := Future()) or asked
    for number in range(2):
        client = Raw(context, daemon, name=b"controller")
        if number == 0:
            client.send("status")
            asked = under_way.get(timeout=60)
            client.socket.close(linger=0)
    assert client.ask("nope", id="bad")["id"] == "bad"
    asked.set_result({})
    assert client.ask("ping", id="good")["ok"]


def test_a_client_that_reads_late_gets_all_its_large_answers(
    raw: Raw, context: Sockets, daemon: ScriptedDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    """Within its own bound, while others who read nothing exceed that of all."""
    daemon.script["status"] = {"pad": "x" * (1 << 20)}
    for number in range(20):
        raw.send("status", id=str(number))
    deaf = [Deaf(context, daemon) for _ in range(8)]
    for each in deaf:
        each.send(60)
    read = [raw.receive()["id"] for _ in range(20)]
    assert read == [str(number) for number in range(20)]
    while n_disconnected(caplog) < len(deaf):
        assert raw.ask("ping")["ok"]


def test_a_client_that_reads_late_gets_all_its_answers(raw: Raw) -> None:
    for number in range(3000):
        raw.send("ping", id=f"{number:0250}")
    assert [int(raw.receive()["id"]) for _ in range(3000)] == list(range(3000))


def test_ids_are_short(raw: Raw) -> None:
    answer = raw.ask("ping", id="x" * (MAX_ID_CHARACTERS + 1))
    assert answer["id"] is None
    assert answer["error"]["code"] == "invalid_request"
    assert "`id`" in answer["error"]["message"]
    assert raw.ask("ping", id="\N{MUSICAL SYMBOL G CLEF}" * MAX_ID_CHARACTERS)["ok"]


def test_a_message_is_measured_as_a_whole(raw: Raw, context: Sockets, daemon: ScriptedDaemon) -> None:
    sender = context.socket(zmq.DEALER)
    sender.reconnect_ivl = 60_000
    dropped = sender.get_monitor_socket(zmq.EVENT_DISCONNECTED, "inproc://sender")
    sender.connect(daemon.config.endpoint)
    sender.send(b" " * (15 << 20) + b'{"op": "ping"}')
    assert json.loads(sender.recv())["error"]["code"] == "invalid_request"
    sender.send_multipart([b"x" * (9 << 20)] * 2)
    assert dropped.poll(WAIT_MS)
    sender.disable_monitor()
    dropped.close()
    assert raw.ask("ping")["ok"]


@pytest.mark.parametrize("frame_mib", [1, 15])
def test_a_message_that_does_not_end_fills_no_memory(
    raw: Raw, context: Sockets, daemon: ScriptedDaemon, caplog: pytest.LogCaptureFixture, frame_mib: int
) -> None:
    """2.5 GB in one message. The sender is here too, but its frames share one memory."""
    frame = b"x" * (frame_mib << 20)
    sender = context.socket(zmq.DEALER)
    sender.reconnect_ivl, sender.sndhwm = 60_000, 0
    dropped = sender.get_monitor_socket(zmq.EVENT_DISCONNECTED, "inproc://endless")
    sender.connect(daemon.config.endpoint)
    sender.send(b'{"op": "ping"}')
    assert json.loads(sender.recv())["ok"]
    watched = Most()
    sender.send_multipart([frame] * (2500 // frame_mib), copy=False)
    assert dropped.poll(WAIT_MS)
    assert watched.grown_kib() < 400_000
    sender.disable_monitor()
    dropped.close()
    assert "not a whole message" in caplog.text
    assert raw.ask("ping")["ok"]


def test_many_whole_messages_are_no_unfinished_one(raw: Raw, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(40):
        raw.socket.send_multipart([b"%d" % number, b"x" * (14 << 20)])
        assert raw.socket.recv_multipart()[0] == b"%d" % number
    assert "disconnected" not in caplog.text


@pytest.mark.parametrize(
    ("envelope", "why"),
    [
        ([b"e" * (MAX_ENVELOPE_BYTES + 1)], "an envelope of more than"),
        ([b"e" * (15 << 20)], "an envelope of more than"),
        ([b""] * MAX_FRAMES, "more than 16 frames"),
        ([b""] * 200_000, "more than 16 frames"),
    ],
)
def test_who_sends_more_than_can_be_kept_for_the_answer_is_dropped(
    raw: Raw, context: Sockets, daemon: ScriptedDaemon, caplog: pytest.LogCaptureFixture,
    envelope: list[bytes], why: str,
) -> None:  # fmt: skip
    """A command's envelope is kept until it is answered: 64 waits of one client held 1 GB."""
    daemon.script["device_wait"] = lambda request: Future()
    greedy = context.socket(zmq.DEALER)
    greedy.reconnect_ivl, greedy.sndhwm = 60_000, 0
    dropped = greedy.get_monitor_socket(zmq.EVENT_DISCONNECTED, "inproc://greedy")
    greedy.connect(daemon.config.endpoint)
    watched = Most()
    greedy.send_multipart([*envelope, b'{"op": "device_wait", "name": "mic", "timeout_s": 60}'])
    assert dropped.poll(WAIT_MS)
    greedy.disable_monitor()
    dropped.close()
    assert raw.ask("ping")["ok"]
    assert why in caplog.text
    assert daemon.requests == daemon.requests[-1:]  # the ping alone
    assert watched.grown_kib() < 200_000


def test_of_a_message_of_many_frames_no_list_is_made(raw: Raw, daemon: ScriptedDaemon) -> None:
    lengths: list[int] = []
    receive = daemon.bus._receive
    daemon.bus._receive = lambda: lengths.append(len(frames := receive())) or frames
    raw.socket.send_multipart([b""] * 10_000)
    while not lengths:
        raw.socket.poll(10)
    assert lengths == [MAX_FRAMES + 2]


def test_what_waits_kept_is_given_back_when_their_client_goes(
    raw: Raw, context: Sockets, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    trims: queue.Queue[int] = queue.Queue()
    monkeypatch.setattr(arrivals, "_malloc_trim", trims.put)
    waits: queue.Queue[Future[object]] = queue.Queue()
    daemon.script["device_wait"] = lambda request: waits.put(wait := Future()) or wait
    going = Raw(context, daemon)
    blank = b" " * 500_000
    for _ in range(4):
        going.socket.send(blank + b'{"op": "device_wait", "name": "mic", "timeout_s": 60}')
        waits.get(timeout=60)
    assert trims.empty()
    going.socket.close(linger=0)
    assert trims.get(timeout=60) == 0


def test_clients_that_vanish_hurt_nobody(raw: Raw, context: Sockets, daemon: ScriptedDaemon) -> None:
    slow: Future[dict[str, str]] = Future()
    daemon.script["status"] = slow
    for _ in range(20):
        gone = Raw(context, daemon)
        gone.send("status")
        gone.ask("ping")
        gone.socket.close(linger=0)
    slow.set_result({})
    assert raw.ask("ping")["ok"]


def test_a_client_that_comes_back_under_its_name_is_served(context: Sockets, daemon: ScriptedDaemon) -> None:
    for _ in range(5):
        client = context.socket(zmq.DEALER)
        client.identity = b"controller"
        client.connect(daemon.config.endpoint)
        client.send(b'{"op": "ping"}')
        assert json.loads(client.recv())["ok"]
        client.close(linger=0)


def test_only_whether_somebody_listens_for_heads_is_told(context: Sockets, daemon: ScriptedDaemon) -> None:
    first, second = context.socket(zmq.SUB), context.socket(zmq.SUB)
    for subscriber in (first, second):
        subscriber.connect(daemon.config.events_endpoint)
    first.subscribe(b"device_")
    first.subscribe(b"stream_")
    assert daemon.heads_wanted.get(timeout=60)
    second.subscribe(b"stream_head_position stream://desk/take")
    second.subscribe(b"")
    second.subscribe(b"stream_")
    second.subscribe(b"stream_gap")
    second.unsubscribe(b"")
    first.close(linger=0)
    second.unsubscribe(b"stream_")
    second.unsubscribe(b"stream_head_position stream://desk/take")
    assert not daemon.heads_wanted.get(timeout=60)
    second.subscribe(b"stream_head")
    assert daemon.heads_wanted.get(timeout=60)
    second.close(linger=0)
    assert not daemon.heads_wanted.get(timeout=60)
    assert daemon.heads_wanted.empty()


def test_a_client_with_too_many_prefixes_is_dropped(
    raw: Raw, context: Sockets, daemon: ScriptedDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    greedy = context.socket(zmq.SUB)
    greedy.reconnect_ivl, greedy.sndhwm = 60_000, 0
    dropped = greedy.get_monitor_socket(zmq.EVENT_DISCONNECTED, "inproc://greedy")
    greedy.connect(daemon.config.events_endpoint)
    before = resident_kib()
    for number in range(2 * MAX_PREFIXES):
        greedy.subscribe(f"stream_gap {URI}{number}".encode())
    assert dropped.poll(WAIT_MS)
    greedy.disable_monitor()
    dropped.close()
    assert raw.ask("ping")["ok"]
    assert resident_kib() - before < 100_000
    assert "subscribed to more than" in caplog.text


def test_of_all_subscribers_the_one_with_the_most_is_dropped(
    raw: Raw, context: Sockets, daemon: ScriptedDaemon, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """For each that leaves, ZeroMQ goes through the prefixes of all. The same ones count for each who has them."""
    monkeypatch.setattr(subscriptions, "MAX_STEPS", 50_000)
    small, greedy = context.socket(zmq.SUB), context.socket(zmq.SUB)
    small.connect(daemon.config.events_endpoint)
    for number in range(100):
        small.subscribe(b"stream_gap %d" % number)
    small.subscribe(b"stream_head_position")
    assert daemon.heads_wanted.get(timeout=60)
    greedy.reconnect_ivl, greedy.sndhwm = 60_000, 0
    dropped = greedy.get_monitor_socket(zmq.EVENT_DISCONNECTED, "inproc://greedy")
    greedy.connect(daemon.config.events_endpoint)
    for number in range(2000):
        greedy.subscribe(b"stream_gap %d" % number)
    assert dropped.poll(WAIT_MS)
    greedy.disable_monitor()
    dropped.close()
    assert caplog.text.count("the most of 2 clients") == 1
    small.subscribe(b"stream_gap")
    small.unsubscribe(b"stream_head_position")
    assert not daemon.heads_wanted.get(timeout=60)
    daemon.publish("stream_gap", URI, first_frame=1, n_frames=2, cause="missed", confidence="exact")
    assert small.recv_multipart()[0] == f"stream_gap {URI}".encode()


def test_subscribers_that_do_not_read_are_bounded_together(
    context: Sockets, daemon: ScriptedDaemon, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4,096 events were kept for each of up to a thousand. Who reads gets all of them."""
    monkeypatch.setattr(readers, "MAX_BYTES", 8 << 20)
    deaf, reading = [context.socket(zmq.SUB) for _ in range(4)], context.socket(zmq.SUB)
    for each in deaf:
        each.rcvhwm, each.reconnect_ivl = 1, 60_000
        each.connect(daemon.config.events_endpoint)
        each.subscribe(b"stream_gap")
    reading.connect(daemon.config.events_endpoint)
    reading.subscribe(b"")
    assert daemon.heads_wanted.get(timeout=60)
    for seq in range(1, 2001):  # 40 MB for each
        daemon.publish("stream_gap", URI, first_frame=1, n_frames=2, cause="x" * 20_000, confidence="exact")
        assert json.loads(reading.recv_multipart()[1])["seq"] == seq
    assert "it does not read its events" in caplog.text
    assert len([each for each in daemon.bus._listening if each.has_unread()]) < len(deaf)


def test_what_zeromq_does_for_subscribers_holds_up_no_command(
    raw: Raw, context: Sockets, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took 38 s over some who left."""
    is_held, goes_on = threading.Event(), threading.Event()

    def hold_up() -> None:
        is_held.set()
        assert goes_on.wait(60)

    monkeypatch.setattr(daemon.bus._listeners._subscriptions, "look", hold_up)
    subscriber = context.socket(zmq.SUB)
    subscriber.connect(daemon.config.events_endpoint)
    subscriber.subscribe(b"")
    assert is_held.wait(60)
    assert all(raw.ask("ping")["ok"] for _ in range(10))
    goes_on.set()
    daemon.publish("daemon_stopping")
    assert subscriber.recv_multipart()[0] == b"daemon_stopping"


def test_nonsense_on_the_event_socket_is_ignored(context: Sockets, daemon: ScriptedDaemon) -> None:
    odd = context.socket(zmq.XSUB)
    odd.connect(daemon.config.events_endpoint)
    odd.send_multipart([b"hello", b"\x01"])
    odd.send(b"\x01stream_")
    assert daemon.heads_wanted.get(timeout=60)


def test_events_come_in_order_and_by_topic(context: Sockets, daemon: ScriptedDaemon) -> None:
    everything, one = context.socket(zmq.SUB), context.socket(zmq.SUB)
    for subscriber, topic in ((one, f"stream_gap {URI}".encode()), (everything, b"")):
        subscriber.connect(daemon.config.events_endpoint)
        subscriber.subscribe(topic)
        subscriber.subscribe(b"stream_head_position")
        assert daemon.heads_wanted.get(timeout=60)
        subscriber.unsubscribe(b"stream_head_position")
        if subscriber is one:
            assert not daemon.heads_wanted.get(timeout=60)
    gap = {"first_frame": 1, "n_frames": 2, "cause": "missed", "confidence": "exact"}
    for _ in range(300):
        daemon.publish("stream_gap", URI, **gap)
        daemon.publish("stream_gap", "stream://other/take", **gap)
    received = [everything.recv_multipart() for _ in range(600)]
    assert [json.loads(payload)["seq"] for _, payload in received] == list(range(1, 601))
    assert all(topic.decode() == f"stream_gap {json.loads(payload)['stream_uri']}" for topic, payload in received)
    assert [json.loads(one.recv_multipart()[1])["seq"] for _ in range(300)] == list(range(1, 601, 2))


def test_close_sends_what_was_handed_in_and_answers_who_waits(tmp_path: Path, context: Sockets) -> None:
    daemon = ScriptedDaemon(tmp_path, {"device_wait": lambda request: Future(), "shutdown": {}})
    with daemon:
        subscriber = context.socket(zmq.SUB)
        subscriber.connect(daemon.config.events_endpoint)
        subscriber.subscribe(b"")
        daemon.heads_wanted.get(timeout=60)
        raw = Raw(context, daemon)
        raw.send("device_wait", name="mic", timeout_s=60, id="waiting")
        assert raw.ask("shutdown", id="last")["id"] == "last"
        for _ in range(1000):
            daemon.publish("daemon_stopping")
    assert raw.receive()["error"]["code"] == "timeout"
    assert [json.loads(subscriber.recv_multipart()[1])["seq"] for _ in range(1000)] == list(range(1, 1001))
    daemon.bus.close()
    daemon.publish("daemon_stopping")
    assert [path.name for path in tmp_path.iterdir() if path.is_file() or path.is_socket()] == []


def test_who_reads_gets_all_its_last_answers(tmp_path: Path, context: Sockets) -> None:
    """Also the 64th of a client's waits, while a client that reads nothing holds up nobody."""
    daemon = ScriptedDaemon(tmp_path, {"device_wait": lambda request: Future(), "status": {"pad": "x" * 3_000_000}})
    with daemon:
        deaf = Deaf(context, daemon)
        deaf.send(4)
        clients = [Raw(context, daemon) for _ in range(4)]
        for client in clients:
            for number in range(MAX_WAITS):
                client.send("device_wait", name="mic", timeout_s=60, id=str(number))
            assert client.ask("ping", id="here")["id"] == "here"
    for client in clients:
        answers = [client.receive() for _ in range(MAX_WAITS)]
        assert [each["id"] for each in answers] == [str(number) for number in range(MAX_WAITS)]
        assert {each["error"]["code"] for each in answers} == {"timeout"}


def test_a_second_daemon_is_refused_and_harms_nothing(tmp_path: Path, context: Sockets) -> None:
    with ScriptedDaemon(tmp_path) as first:
        with pytest.raises(InvalidRequest, match=f"process {os.getpid()}"):
            ScriptedDaemon(tmp_path)
        raw = Raw(context, first)
        assert raw.ask("ping")["ok"]
        assert Raw(context, first).ask("ping")["ok"]
    with ScriptedDaemon(tmp_path) as next_one:
        assert Raw(context, next_one).ask("ping")["ok"]


def test_a_daemon_that_shares_only_the_events_leaves_nothing_behind(tmp_path: Path) -> None:
    with ScriptedDaemon(tmp_path) as first:
        other = tmp_path / "other"
        config = type(first.config)(
            endpoint=f"ipc://{other}/command", events_endpoint=first.config.events_endpoint, store=tmp_path
        )
        other.mkdir()
        with pytest.raises(InvalidRequest):
            Bus(config, first._submit, first.heads_wanted.put)
        assert list(other.iterdir()) == []


def test_what_a_dead_daemon_left_is_no_obstacle(tmp_path: Path, context: Sockets) -> None:
    for name in ("command", "events"):
        stale = zmq.Context()
        with stale.socket(zmq.ROUTER) as dead:
            dead.bind(f"ipc://{tmp_path}/stale")
            (tmp_path / "stale").rename(tmp_path / name)
        stale.term()
        (tmp_path / f"{name}.lock").write_text("4194304")
        assert (tmp_path / name).is_socket()
    with ScriptedDaemon(tmp_path) as daemon:
        assert Raw(context, daemon).ask("ping")["ok"]


def test_sockets_are_the_users_alone(daemon: ScriptedDaemon) -> None:
    for endpoint in (daemon.config.endpoint, daemon.config.events_endpoint):
        assert stat.S_IMODE(ipc_path(endpoint).stat().st_mode) == 0o600


def test_a_file_at_the_endpoint_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "events").write_text("precious")
    with pytest.raises(InvalidRequest, match="not a socket"):
        ScriptedDaemon(tmp_path)
    assert (tmp_path / "events").read_text() == "precious"
    assert not (tmp_path / "command").exists()


def test_a_folder_that_cannot_hold_sockets_is_told(tmp_path: Path) -> None:
    with ScriptedDaemon(tmp_path) as daemon:
        config = type(daemon.config)(
            endpoint=f"ipc://{tmp_path}/none/c", events_endpoint=f"ipc://{tmp_path}/none/e", store=tmp_path
        )
        with pytest.raises(StorageFailed, match="none/c"):
            Bus(config, daemon._submit, daemon.heads_wanted.put)


def test_fifty_lives_leak_no_descriptor_and_no_thread(tmp_path: Path, context: Sockets) -> None:
    with ScriptedDaemon(tmp_path) as daemon:
        Raw(context, daemon).ask("ping")
    descriptors, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    for _ in range(50):
        with ScriptedDaemon(tmp_path) as daemon:
            client = Raw(context, daemon)
            assert client.ask("ping")["ok"]
            client.socket.close(linger=0)
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors + 2
