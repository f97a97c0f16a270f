"""Messages of many clients that are not whole: bounded together, given back, and no harm to who sends whole ones."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from pathlib import Path

from peers import Most, await_given_back, peer
from serving import Serving

CLIENTS = 400
HEADER = b"\x02" + (15 << 20).to_bytes(8, "big")


def say(raw: socket.socket, said: bytes) -> None:
    with suppress(OSError):
        raw.sendall(said)


def test_half_messages_of_many_clients_fill_no_memory(tmp_path: Path) -> None:
    """400 of 15 MiB, a MiB a round each: 2.5 GB in 9 rounds, and one client was cut off after the other."""
    with Serving(tmp_path, 4096) as serving, serving.client() as client:
        serving.go()
        assert client.call("ping")
        before = serving.own_mib()
        with ExitStack() as stack, Most(serving) as most:
            raws = [stack.enter_context(peer(tmp_path / "command", b"DEALER")) for _ in range(CLIENTS)]
            for said in (HEADER, *[bytes(1 << 20)] * 4):
                for raw in raws:  # one after the other: each is heard at one look, seldom at two
                    say(raw, said)
                assert client.call("ping")
        assert most.mib - before < 600  # 1,100 without a bound of the sum
        await_given_back(serving, client, before)


def test_what_half_messages_below_the_bound_cost_is_given_back(tmp_path: Path) -> None:
    """48 MiB of 400 clients stayed with the allocator when they had gone."""
    with Serving(tmp_path, 4096) as serving, serving.client() as client:
        serving.go()
        assert client.call("ping")
        before = serving.own_mib()
        with ExitStack() as stack:
            for _ in range(CLIENTS):
                raw = stack.enter_context(peer(tmp_path / "command", b"DEALER"))
                raw.sendall(HEADER + bytes(100_000))
                assert client.call("ping")
            assert serving.own_mib() > before + 20
        await_given_back(serving, client, before)
