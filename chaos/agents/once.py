"""Calls that are done once: whoever repeats one with its request_id gets the first answer."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

from chaos.terms.errors import InvalidRequest

__all__ = ["Once"]

_REMEMBERED = 1000


class _Call(NamedTuple):
    asked: bytes
    answer: Future[Any]


class Once:
    """Remembers the last 1,000 calls that were answered, for as long as the process lives; for any thread."""

    def __init__(self) -> None:
        self._calls: OrderedDict[tuple[str, str], _Call] = OrderedDict()
        self._lock = threading.Lock()

    def do(self, tool: str, request_id: str, asked: bytes, work: Callable[[], Any]) -> Any:
        """What `work` gives, or gave when this was asked before; a call that is still being done is waited for.

        What failed is forgotten, and is tried anew. Raises what `work` does, and InvalidRequest for a request_id that
        another call has used.
        """
        key = tool, request_id
        with self._lock:
            known = self._calls.get(key)
            if known is None:
                mine: Future[Any] = Future()
                self._calls[key] = _Call(asked, mine)
        if known is not None:
            if known.asked != asked:
                raise InvalidRequest(
                    f"request_id {request_id[:50]!r} was used for another call of {tool}",
                    hint="give each call a request_id of its own, and a repeated one the arguments that it had",
                )
            return known.answer.result()
        try:
            answer = work()
        except BaseException as error:
            with self._lock:
                del self._calls[key]
            mine.set_exception(error)
            raise
        mine.set_result(answer)
        with self._lock:
            done = [each for each, call in self._calls.items() if call.answer.done()]
            for each in done[: max(0, len(done) - _REMEMBERED)]:
                del self._calls[each]
        return answer
