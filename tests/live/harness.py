"""What live tests hold in their hands: a raw client, a `chaosd` process, and a maker of counting sources."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import pytest
import zmq
from rig import CountingSource, Session

from chaos._connection import library_version

__all__ = ["TIMEOUT_S", "Daemon", "RawClient", "RefusedError", "SourceFactory", "is_pipewire_from"]


TIMEOUT_S = 60.0
"""Only bounds a hang: what is waited for comes at once, but on a machine that is busy with other things."""


def is_pipewire_from(major: int, minor: int) -> bool:
    """Whether the PipeWire of this process is that version or a later one."""
    return [int(part) for part in library_version().split(".")[:2]] >= [major, minor]


class RefusedError(Exception):
    """An answer with `ok: false`; `code`, `message`, `hint` and `details` are its error's."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']} ({error['hint']})")
        self.code: str = error["code"]
        self.message: str = error["message"]
        self.hint: str = error["hint"]
        self.details: dict[str, Any] = error["details"]


class RawClient:
    """A client made of json and zmq only: DEALER for commands, SUB for events.

    It subscribes to all events before it sends its first command, and so misses none of a stream it starts.
    """

    def __init__(self, command: str, events: str, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_ms = int(timeout_s * 1000)
        self._context = zmq.Context()
        self._commands = self._context.socket(zmq.DEALER)
        self._events = self._context.socket(zmq.SUB)
        for sock in (self._commands, self._events):
            sock.linger = 0
            sock.reconnect_ivl = 10
        self._connected = self._events.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._events.rcvhwm = 0
        self._events.subscribe(b"")
        self._commands.connect(command)
        self._events.connect(events)
        self._ids = itertools.count(1)
        self._early: dict[str, dict[str, Any]] = {}

    def close(self) -> None:
        if not self._events.closed:
            self._events.disable_monitor()
        self._context.destroy(linger=0)

    def await_events(self, timeout_s: float = TIMEOUT_S) -> None:
        """Returns when the daemon's events reach this client: its commands may be answered before."""
        assert self._connected.poll(int(timeout_s * 1000)), f"no connection for events in {timeout_s:g} s"
        while self._connected.poll(0):
            self._connected.recv_multipart()

    def send(self, op: str, **fields: Any) -> str:
        """Sends a command and returns its id, with which `answer` finds what came back."""
        request_id = str(next(self._ids))
        self._commands.send(json.dumps({"op": op, "id": request_id, **fields}).encode())
        return request_id

    def answer(self, request_id: str, timeout_s: float | None = None) -> dict[str, Any]:
        """The result of that command; answers to others are kept. Raises `RefusedError`."""
        wait_ms = self._timeout_ms if timeout_s is None else int(timeout_s * 1000)
        deadline = time.monotonic() + wait_ms / 1000
        while request_id not in self._early:
            left_ms = max(0, int((deadline - time.monotonic()) * 1000))
            assert self._commands.poll(left_ms), f"no answer to command {request_id} in {wait_ms} ms"
            answer = json.loads(self._commands.recv())
            self._early[answer["id"]] = answer
        answer = self._early.pop(request_id)
        if not answer["ok"]:
            raise RefusedError(answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def call(self, op: str, **fields: Any) -> dict[str, Any]:
        """A command and its result. Raises `RefusedError`."""
        return self.answer(self.send(op, **fields))

    def send_bytes(self, message: bytes, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """Sends any bytes at all as a command and returns the whole answer that comes next."""
        self._commands.send(message)
        assert self._commands.poll(int(timeout_s * 1000)), "no answer to raw bytes"
        answer: dict[str, Any] = json.loads(self._commands.recv())
        return answer

    def event(self, kind: str, timeout_s: float | None = None, **fields: Any) -> dict[str, Any]:
        """The next event of that type whose fields have these values; others before it are passed over."""
        wait_ms = self._timeout_ms if timeout_s is None else int(timeout_s * 1000)
        deadline = time.monotonic() + wait_ms / 1000
        others: deque[str] = deque(maxlen=12)
        while True:
            left_ms = max(0, int((deadline - time.monotonic()) * 1000))
            assert self._events.poll(left_ms), (
                f"no event {kind} with {fields} in {wait_ms} ms; the last ones: {', '.join(others) or 'none'}"
            )
            event = self.next_event()
            others.append(f"{event['type']} {event.get('state', '')}".strip())
            if event["type"] == kind and all(event.get(key) == value for key, value in fields.items()):
                return event

    def all_of(self, *wanted: dict[str, Any]) -> list[dict[str, Any]]:
        """For each of these the next event that has its values, in whatever order they come. Others are passed over.

        For what different threads of chaosd tell: which of them is first is chance. A value may be a function that is
        true of it.
        """

        def has(event: dict[str, Any], key: str, value: Any) -> bool:
            return bool(value(event.get(key)) if callable(value) else event.get(key) == value)

        found: dict[int, dict[str, Any]] = {}
        deadline = time.monotonic() + self._timeout_ms / 1000
        while len(found) < len(wanted):
            left_ms = max(0, int((deadline - time.monotonic()) * 1000))
            missing = [values for number, values in enumerate(wanted) if number not in found]
            assert self._events.poll(left_ms), f"not all events in {self._timeout_ms} ms: no {missing}"
            event = self.next_event()
            for number, values in enumerate(wanted):
                if number not in found and all(has(event, key, value) for key, value in values.items()):
                    found[number] = event
                    break
        return [found[number] for number in range(len(wanted))]

    def recording_of(self, uri: str) -> str:
        """The path of the take of that URI that is about to begin: its start may be answered before it has frames."""
        return str(self.event("stream_started", stream_uri=uri)["recording"])

    def next_event(self) -> dict[str, Any]:
        """The next event of whatever type."""
        assert self._events.poll(self._timeout_ms), f"no event in {self._timeout_ms} ms"
        event: dict[str, Any] = json.loads(self._events.recv_multipart()[1])
        return event

    def events_so_far(self) -> list[dict[str, Any]]:
        """All events that have arrived and were not taken yet."""
        taken: list[dict[str, Any]] = []
        while self._events.poll(0):
            taken.append(json.loads(self._events.recv_multipart()[1]))
        return taken


class Daemon:
    """A `chaosd` process in a session; `client` talks to it. `under` is a command that runs it, as prlimit does."""

    def __init__(
        self, session: Session, folder: Path, *options: str, timeout_s: float = TIMEOUT_S, under: Sequence[str] = ()
    ) -> None:
        self.session = session
        self.store = folder / "store"
        self.command = f"ipc://{session.runtime_dir}/{folder.name}.c"
        self.events = f"ipc://{session.runtime_dir}/{folder.name}.e"
        self._arguments = ["--endpoint", self.command, "--events", self.events, "--store", str(self.store)]
        self._arguments += options
        self._log = f"chaosd-{folder.name}"
        self._timeout_s = timeout_s
        self._under = under
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[RawClient] = []
        try:
            self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self.session.log(self._log)

    @property
    def client(self) -> RawClient:
        """The first client; `new_client` makes more."""
        return self._clients[0] if self._clients else self.new_client()

    def new_client(self) -> RawClient:
        client = RawClient(self.command, self.events)
        self._clients.append(client)
        return client

    def start(self) -> None:
        """Starts the process and waits until it answers `ping`."""
        chaosd = Path(sys.executable).with_name("chaosd")
        assert chaosd.exists(), f"{chaosd} is missing: install the package into this environment first"
        self._process = self.session.spawn(*self._under, str(chaosd), *self._arguments, log=self._log)
        asking = self.client.send("ping")
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                self.client.answer(asking, timeout_s=0.2)
                self.client.await_events()
                return
            except AssertionError:
                died = self._process.poll() is not None
                if died or time.monotonic() > deadline:
                    pytest.fail(f"chaosd {'ended at once' if died else 'does not answer'}:\n{self.log}")

    def held(self) -> tuple[int, int, int]:
        """File descriptors but for those of recordings, threads, and KiB of memory of its own (no slots)."""
        process = Path(f"/proc/{self.pid}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        open_files = 0
        for link in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                open_files += not str(link.readlink()).startswith(str(self.store))
        return open_files, int(status["Threads"]), int(status["RssAnon"].split()[0])

    def held_again(self, settled: tuple[int, int, int]) -> tuple[int, int, int]:
        """What it holds once that is no more descriptors and threads than `settled`, or a minute has passed: what has
        ended may be put away a little later."""
        deadline = time.monotonic() + TIMEOUT_S
        while (held := self.held())[0] > settled[0] or held[1] > settled[1]:
            if time.monotonic() > deadline:
                break
            self.client.call("ping")
        return held

    def stop(self) -> int:
        """Ends it with SIGTERM and returns its exit code; for a stopped one 0."""
        if self._process is None:
            return 0
        code = self.session.end(self._process, timeout_s=TIMEOUT_S + 10)  # chaosd itself gives up after a minute
        self._process = None
        return code

    def kill(self) -> None:
        """Ends it as a crash would."""
        assert self._process is not None
        self._process.kill()
        self.session.end(self._process)
        self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Closes it. Where the test has failed already, nothing of it goes over to the next and hides why."""
        if kind is None:
            self.close()
            return
        try:
            if self._process is not None:
                self.kill()
        finally:
            self._close_clients()

    def _close_clients(self) -> None:
        for client in self._clients:
            client.close()

    def close(self) -> None:
        """Stops it, and fails the test unless it ended cleanly."""
        code = self.stop()
        self._close_clients()
        assert code == 0, f"chaosd ended with {code}:\n{self.log}"


class SourceFactory(Protocol):
    def __call__(self, name: str = ..., **options: Any) -> CountingSource: ...
