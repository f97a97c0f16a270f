"""Who is said to fill the memory with a message that does not end, and who is not."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from chaos.doors.zmq import arrivals
from chaos.doors.zmq.arrivals import MAX_UNFINISHED_BYTES, Arrivals

GROWN = 2 * MAX_UNFINISHED_BYTES


class Scene:
    """One client that has sent something, and a process of which the test says what it holds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, is_read: bool = True) -> None:
        self.held = 0
        self.ours = 0
        monkeypatch.setattr(arrivals, "_own_memory_bytes", lambda: self.held)
        monkeypatch.setattr(arrivals, "_LOOK_AFTER_S", 0.0)
        self.arrivals = Arrivals()
        self.arrivals.ours = lambda: self.ours
        self._server, self._client = socket.socketpair()
        self.fd = self._server.fileno()
        self.arrivals.opened(self.fd)
        self._client.send(b"x")
        self._is_read = is_read
        self.look()

    def look(self) -> list[int]:
        return [fd for _ in range(3) for fd in self._once_more()]

    def _once_more(self) -> list[int]:
        if self._is_read:  # as ZeroMQ does, and more comes
            self._client.send(b"xx")
            assert self._server.recv(1)
        return self.arrivals.greedy()

    def rounds(self) -> None:
        for _ in range(2):
            self.arrivals.round()

    def close(self) -> None:
        self.arrivals.close()
        self._server.close()
        self._client.close()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    made = Scene(monkeypatch)
    yield made
    made.close()


def test_who_does_not_end_while_memory_grows_is_told(scene: Scene) -> None:
    scene.held = GROWN
    scene.rounds()
    assert scene.fd in scene.look()


def test_nobody_is_told_of_a_message_that_only_waits_to_be_taken(scene: Scene) -> None:
    """A ping behind answers of 3.5 MB to others cost its client the connection."""
    scene.held = GROWN
    scene.arrivals.round()
    assert not scene.look()
    scene.arrivals.finished(scene.fd)
    scene.rounds()
    assert not scene.look()


def test_answers_that_others_leave_unread_are_nobody_elses_greed(scene: Scene) -> None:
    scene.held = scene.ours = GROWN
    scene.rounds()
    assert not scene.look()
    scene.ours = 0  # forgotten, and the allocator keeps the memory: that is trimmed, and is not told either
    scene.held = MAX_UNFINISHED_BYTES
    assert not scene.look()


def test_what_zeromq_has_not_read_yet_is_nobodys_greed(monkeypatch: pytest.MonkeyPatch) -> None:
    """While its thread had no turn, answers were made for others: whoever had sent a ping lost the connection."""
    scene = Scene(monkeypatch, is_read=False)
    scene.held = GROWN
    scene.rounds()
    assert not scene.look()
    scene.close()


def test_many_who_send_a_little_each_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has sent whole messages meanwhile is not among them, and what is whole counts no more."""
    scene = Scene(monkeypatch)
    pairs = [socket.socketpair() for _ in range(20)]
    for server, _ in pairs:
        scene.arrivals.opened(server.fileno())
    told: set[int] = set()
    for _ in range(2):
        for server, client in pairs:
            scene.held += GROWN // 20
            client.send(b"xx")
            assert server.recv(1)
            told.update(scene.look())
            scene.arrivals.round()
            scene.arrivals.finished(scene.fd)
    told.update(scene.look())
    assert len(told) > 10
    assert scene.fd not in told
    for server, client in pairs:
        server.close()
        client.close()
    scene.close()
