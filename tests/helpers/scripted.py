"""A daemon that answers from a script, over a real bus: bus, client and chaosctl are tested against it."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

import msgspec

from chaos.doors.zmq import Bus
from chaos.protocol.codec import make_event
from chaos.protocol.config import Config
from chaos.protocol.events import EVENTS
from chaos.protocol.requests import Request

Script = dict[str, Any]
"""Per op: a result, an exception, a Future, or a function of the request that gives or raises one of them."""


class ScriptedDaemon:
    """Answers each op as `script` has it; keeps the requests, and whether somebody listens for heads."""

    def __init__(self, folder: Path, script: Script | None = None, **settings: Any) -> None:
        endpoints = {"endpoint": f"ipc://{folder}/command", "events_endpoint": f"ipc://{folder}/events"}
        places = {"store": folder / "store", "staging_dir": folder / "staging"}
        self.config = Config(**{**(endpoints if "endpoint" not in settings else {}), **places, **settings})
        self.config.prepare()
        self.script: Script = {"ping": {"name": "chaosd"}, **(script or {})}
        self.requests: list[Request] = []
        self.heads_wanted: queue.Queue[bool] = queue.Queue()
        self._seq = 0
        self.bus = Bus(self.config, self._submit, self.heads_wanted.put)

    def __enter__(self) -> Self:
        self.bus.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.bus.close()

    def publish(self, kind: str, uri: str | None = None, **fields: Any) -> None:
        self._seq += 1
        event = EVENTS[kind](**fields)
        made = make_event(event, seq=self._seq, topic_seq=self._seq, run_id="run", stream_uri=uri)
        self.bus.publish(made.topic, made.payload)

    def _submit(self, request: Request) -> Future[Any]:
        self.requests.append(request)
        answer = self.script[str(type(request).__struct_config__.tag)]
        if isinstance(answer, Callable):
            answer = answer(request)
        if isinstance(answer, Future):
            return answer
        done: Future[Any] = Future()
        if isinstance(answer, BaseException):
            done.set_exception(answer)
        else:
            done.set_result(msgspec.to_builtins(answer))
        return done
