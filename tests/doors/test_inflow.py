"""What subscribers may say: prefixes and messages without end cost bounded memory, and hold up no event for long."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq
from peers import Most, await_given_back, frame, peer
from serving import Serving


def is_cut_off(raw: socket.socket, says: bytes) -> bool:
    """Whether the other end closes the connection before, or after, all has been said."""
    try:
        raw.sendall(says)
        while raw.recv(1 << 20):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_who_subscribes_faster_than_can_be_taken_in_is_cut_off(tmp_path: Path) -> None:
    """20 with 9,000 prefixes of 800 bytes each cost 6.7 GB, and events came 78 s late."""
    many = [b"".join(frame(b"\1" + os.urandom(500)) for _ in range(9000))] * 20
    with Serving(tmp_path, 4096) as serving, serving.client() as client:
        serving.go()
        assert client.call("ping")
        before = serving.own_mib()
        with ExitStack() as stack, Most(serving) as most, ThreadPoolExecutor(len(many)) as pool:
            raws = [stack.enter_context(peer(tmp_path / "events", b"SUB")) for _ in many]
            assert all(pool.map(is_cut_off, raws, many))
        assert most.mib - before < 300  # 200 is the aim; a machine that has no time to look lets in more
        await_given_back(serving, client, before)
        with peer(tmp_path / "events", b"SUB") as too_long:
            assert is_cut_off(too_long, frame(b"\1" + bytes(600)))


@pytest.mark.parametrize("first", [b"\1", b"x"])
def test_a_subscriber_whose_message_does_not_end_fills_no_memory(tmp_path: Path, first: bytes) -> None:
    """1.5 million frames that are one message: 385 MB in a third of a second, and more as it goes on."""
    with Serving(tmp_path, 4096) as serving, serving.client() as client:
        serving.go()
        assert client.call("ping")
        before = serving.own_mib()
        with Most(serving) as most, peer(tmp_path / "events", b"SUB") as raw:
            assert is_cut_off(raw, frame(first + bytes(99), 1) * 2_000_000)
        assert most.mib - before < 400
        await_given_back(serving, client, before)


def test_what_clients_have_use_for_is_taken_in(tmp_path: Path) -> None:
    """20 at once with 500 prefixes each, and one with 3,000: nobody is cut off, and nothing is lost."""
    with Serving(tmp_path, 4096) as serving, serving.client() as client, zmq.Context() as context:
        serving.go()
        assert client.call("ping")
        listening = []
        for number in range(21):
            listening.append(each := context.socket(zmq.SUB))
            each.linger, each.sndhwm, each.reconnect_ivl = 0, 0, -1
            each.connect(f"ipc://{tmp_path}/events")
            for stream in range(3000 if number == 20 else 500):
                each.subscribe(f"stream_gap stream://desk/{stream}")
            each.subscribe("daemon_stopping")
        for each in listening:
            for _ in range(600):
                serving.publish()
                if each.poll(100):
                    break
            assert each.recv(zmq.NOBLOCK) == b"daemon_stopping"
        for each in listening:
            each.close()
