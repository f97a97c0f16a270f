"""libzmq ends a process that has no descriptor left for a client: it must never come to that."""

from __future__ import annotations

import os
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest
import zmq
from serving import Serving

from chaos.doors.zmq.subscriptions import MAX_PREFIXES
from chaos.system import descriptors
from chaos.system.descriptors import GUARANTEED
from chaos.terms.errors import ChaosError, LimitReached


@pytest.fixture(autouse=True)
def room_for_clients() -> Iterator[None]:
    """Here more clients are made than a login may open files, unless it raises its limit as chaosd does."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert descriptors.raise_limit() >= 2 * GUARANTEED
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def connected(path: Path, n: int) -> Iterator[list[socket.socket]]:
    """Up to `n` connections that say nothing, made as fast as can be: fewer where no more are taken for a while."""
    made: list[socket.socket] = []
    try:
        with suppress(OSError):
            for _ in range(n):
                made.append(connecting := socket.socket(socket.AF_UNIX))
                connecting.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 500_000))
                connecting.connect(str(path))
        yield made
    finally:
        for each in made:
            each.close()


@pytest.mark.parametrize("endpoint", ["command", "events"])
def test_a_burst_of_connections_is_accepted_no_faster_than_it_is_counted(tmp_path: Path, endpoint: str) -> None:
    """While nobody counts, ZeroMQ's thread waits before half of all files are open; then all beyond the cap end."""
    with Serving(tmp_path, 4096) as serving:
        before = serving.n_open()
        with connected(tmp_path / endpoint, 3000) as burst:
            assert len(burst) < 3000
            assert serving.n_open() - before < GUARANTEED // 2
            serving.go()
            with connected(tmp_path / endpoint, 3000):
                assert serving.n_open() < 4096
                await_cap(serving, before)


def await_cap(serving: Serving, before: int) -> None:
    """No more than an eighth of the files that may be open stay connections."""
    deadline = time.monotonic() + 60
    while (n := serving.n_open() - before) > 4096 // 8 + 16:  # and what the door itself has opened
        assert time.monotonic() < deadline, n
        os.sched_yield()


def test_more_idle_connections_than_are_allowed_end_nothing(tmp_path: Path) -> None:
    with Serving(tmp_path, 4096) as serving, serving.client() as client:
        before = serving.n_open()
        serving.go()
        assert client.call("ping")
        for endpoint in ("command", "events"):
            for _ in range(3):
                with connected(tmp_path / endpoint, 1100):
                    assert client.call("ping")
                    await_cap(serving, before)
                assert client.call("ping")
        await_room(serving)


def await_room(serving: Serving) -> None:
    """A new client is served again once the idle ones have gone."""
    for _ in range(100):
        with serving.client() as client, suppress(ChaosError):
            client.call("ping")
            return
    raise AssertionError("no new client is served")


def test_what_subscribers_beyond_the_cap_cost_is_given_back(tmp_path: Path) -> None:
    """Each left over a megabyte behind, and one with many prefixes all of them until it had been read."""
    with Serving(tmp_path, 4096) as serving, serving.client() as client:
        serving.go()
        assert client.call("ping")
        before = serving.own_mib()
        for number in range(10):
            with zmq.Context() as context, context.socket(zmq.SUB) as greedy:
                greedy.linger, greedy.sndhwm, greedy.reconnect_ivl = 0, 0, 60_000
                dropped = greedy.get_monitor_socket(zmq.EVENT_DISCONNECTED)
                greedy.connect(f"ipc://{tmp_path}/events")
                for each in range(2 * MAX_PREFIXES):
                    greedy.subscribe(b"stream_gap stream://a/%d-%d" % (number, each))
                assert dropped.poll(60_000)
                greedy.disable_monitor()
                dropped.close()
        deadline = time.monotonic() + 60
        while (held := serving.own_mib()) > before + 4:
            assert time.monotonic() < deadline, f"{before} MiB before, {held} after"
            assert client.call("ping")


@pytest.mark.parametrize("limit", [64, 1024])
def test_a_stream_is_refused_before_descriptors_run_out(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    n_open = 0
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    monkeypatch.setattr(descriptors, "n_open", lambda: n_open)
    while limit - n_open - descriptors.max_connections() - min(128, limit // 8) >= descriptors.OF_STREAM:
        descriptors.check_room(0)
        n_open += descriptors.OF_STREAM
    assert n_open
    with pytest.raises(LimitReached, match=str(limit)) as refused:
        descriptors.check_room(0)
    assert "ulimit" in refused.value.hint
    assert n_open + descriptors.max_connections() < limit


def test_streams_that_are_starting_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, 64))
    monkeypatch.setattr(descriptors, "n_open", lambda: 20)
    descriptors.check_room(0)
    with pytest.raises(LimitReached):
        descriptors.check_room(3)


@pytest.mark.parametrize(("limit", "fits"), [(64, False), (GUARANTEED - 1, False), (GUARANTEED, True)])
def test_below_what_clients_may_take_it_does_not_begin(monkeypatch: pytest.MonkeyPatch, limit: int, fits: bool) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    with nullcontext() if fits else pytest.raises(LimitReached, match=f"only {limit} files and needs {GUARANTEED}"):
        descriptors.check_clients_fit()


def test_the_limit_is_raised_as_far_as_it_goes() -> None:
    script = (
        "import resource; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard));"
        "from chaos.system.descriptors import raise_limit;"
        "assert raise_limit() == hard == resource.getrlimit(resource.RLIMIT_NOFILE)[0]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_what_is_open_is_counted() -> None:
    before = descriptors.n_open()
    fd = os.open("/", os.O_RDONLY)
    assert descriptors.n_open() == before + 1
    os.close(fd)
