"""An engine in this process that is asked as a running chaosd is: the same ops, answers and events, and no socket.

with Local(Config()) as chaosd:
    chaosd.start(uri="stream://desk/1", device_identity="USB Mic", format={"type": "audio"})
"""

from __future__ import annotations

import os
import queue
from concurrent.futures import TimeoutError as NotYet
from typing import Any, Self

import msgspec

from chaos.client import Asking, encoded
from chaos.engine.engine import Engine
from chaos.protocol.codec import decode_request
from chaos.protocol.config import Config, session_folder
from chaos.protocol.events import Published
from chaos.system.descriptors import raise_limit
from chaos.system.files import share_as
from chaos.terms.errors import TimedOut

__all__ = ["Local"]

_PATIENCE_S = 300.0


class Local(Asking):
    """Alive while it is entered; leaving it stops every stream and stores all they have. Meanwhile the process has the
    store's umask: what becomes the person's own is written before or after.

    `timeout_s` is how long an op may take. Raises what `Engine.start` does.
    """

    def __init__(self, config: Config, timeout_s: float = _PATIENCE_S) -> None:
        self._timeout_s = timeout_s
        self._engine = Engine(config)
        self._config = config
        self.is_clean = True
        self._umask = 0

    def __enter__(self) -> Self:
        raise_limit()
        self._umask = share_as(self._config.store_mode)
        if (folder := session_folder()) is not None:
            os.environ["XDG_RUNTIME_DIR"] = str(folder)  # PipeWire looks for its socket there
        try:
            self._engine.start()
        except BaseException:
            os.umask(self._umask)
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.is_clean = self._engine.close()
        finally:
            os.umask(self._umask)

    def call(self, op: str, /, **fields: Any) -> dict[str, Any]:
        """The result of an op, as on the wire. Raises the ChaosError that it is answered with, or TimedOut."""
        asked = self._engine.submit(decode_request(encoded({"op": op, **fields})))
        patience_s = self._timeout_s + fields.get("timeout_s", 0.0)
        try:
            answer = asked.result(patience_s)
        except NotYet:
            raise TimedOut(f"{op} was not done within {patience_s:g} s", hint="a disk may hang") from None
        return dict(msgspec.json.decode(msgspec.json.encode(answer)))

    def events(self, *prefixes: str, timeout_s: float | None = None) -> _Told:
        """The events from now on whose topic begins with one of `prefixes`; all of them where none is given."""
        return _Told(self._engine, prefixes or ("",), timeout_s)


class _Told:
    """An iterator of events, as `chaos.client.Events`; TimedOut after a silence of `timeout_s`."""

    def __init__(self, engine: Engine, prefixes: tuple[str, ...], timeout_s: float | None) -> None:
        self._engine = engine
        self._prefixes = tuple(prefix.encode() for prefix in prefixes)
        self._timeout_s = timeout_s
        self._heard: queue.SimpleQueue[Published] = queue.SimpleQueue()
        engine.add_sink(self._hear)

    def _hear(self, made: Published) -> None:
        if made.topic.startswith(self._prefixes):
            self._heard.put(made)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._engine.remove_sink(self._hear)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        try:
            made = self._heard.get(timeout=self._timeout_s)
        except queue.Empty:
            raise TimedOut(f"no event within {self._timeout_s:g} s") from None
        event: dict[str, Any] = msgspec.json.decode(made.payload)
        return event
