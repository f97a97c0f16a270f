"""Many daemons asked side by side, each over CURVE: what one answers says nothing of another.

with Hosts(["rig1", "rig2:47900"]) as rigs:
    for host, answer in rigs.call("status").items():
        print(host, answer if isinstance(answer, ChaosError) else answer["streams"])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from chaos.client import Client
from chaos.protocol.config import remote_endpoints
from chaos.terms.errors import ChaosError

__all__ = ["Hosts"]

_MOST = 32

_T = TypeVar("_T")


class Hosts:
    """A client for each host (HOST or HOST:PORT, as `chaosctl keys` knows them), for one thread at a time.

    Raises InvalidRequest where two of them name one host at one port. A host that is away costs its own answer, and as
    long as `timeout_s`; the others are not kept waiting for it.
    """

    def __init__(self, hosts: Sequence[str], *, timeout_s: float = 5.0, keys: Path | None = None) -> None:
        named = remote_endpoints(hosts)
        self._clients = {host: Client(endpoint, timeout_s=timeout_s, keys=keys) for host, endpoint in named.items()}
        self._pool = ThreadPoolExecutor(max(1, min(len(self._clients), _MOST)), "host")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closing twice is harmless."""
        self._pool.shutdown()
        for client in self._clients.values():
            client.close()

    def call(self, op: str, /, **fields: Any) -> dict[str, dict[str, Any] | ChaosError]:
        """What each answers to an op (see `Client.call`), in the order of the hosts; an error in place of a result is
        that host's, and is not raised."""
        return self.each(lambda chaosd: chaosd.call(op, **fields))

    def each(self, ask: Callable[[Client], _T]) -> dict[str, _T | ChaosError]:
        """What `ask` gives for each host, on threads: it may call several ops. A ChaosError stands in the place of
        that host's result; others are raised."""

        def asked(client: Client) -> _T | ChaosError:
            try:
                return ask(client)
            except ChaosError as error:
                return error

        return dict(zip(self._clients, self._pool.map(asked, self._clients.values()), strict=True))
