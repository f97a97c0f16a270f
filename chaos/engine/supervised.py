"""What all actors here share: no message ends one, and whoever waits for an answer gets it."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Any

import pykka

from chaos.engine.messages import refuse
from chaos.system.threads import name_thread
from chaos.terms.errors import ChaosError, InternalError

__all__ = ["Supervised", "as_chaos_error"]

log = logging.getLogger(__name__)


class Supervised(pykka.ThreadingActor):
    """An actor whose `carry_out` may raise, and which goes on all the same.

    What it raises is logged and given to `failed`, where an actor sets right what it can. A future in the message is
    then refused, unless it has been answered. The same goes for `begin`, with which its life begins. Where no thread
    can be started, `start` raises RuntimeError and leaves nothing behind.
    """

    use_daemon_thread = True
    thread_name = "chaosd"
    """At most 15 letters."""

    def begin(self) -> None:
        """What is to be done before the first message."""

    def carry_out(self, message: Any) -> None:
        """Does what the message asks for."""
        raise NotImplementedError

    def failed(self, message: Any, error: ChaosError) -> None:
        """`carry_out(message)` has failed so, or `begin` where `message` is None."""

    def on_start(self) -> None:
        name_thread(self.thread_name)
        try:
            self.begin()
        except BaseException as error:
            self._set_right(None, error)

    def on_receive(self, message: Any) -> None:
        try:
            self.carry_out(message)
        except BaseException as error:  # for any but Exception pykka would stop every actor of the process
            self._set_right(message, error)

    def _set_right(self, message: Any, error: BaseException) -> None:
        what = "its start" if message is None else type(message).__name__
        log.error("%s failed at %s: %s", type(self).__name__, what, error)
        told = as_chaos_error(error)
        try:
            self.failed(message, told)
        except Exception:
            log.exception("%s could not be set right", type(self).__name__)
        for name in getattr(message, "__struct_fields__", ()):
            if isinstance(future := getattr(message, name), Future):
                refuse(future, told)

    def _start_actor_loop(self) -> None:
        try:
            super()._start_actor_loop()
        except BaseException:
            pykka.ActorRegistry.unregister(self.actor_ref)
            self.actor_stopped.set()
            raise


def as_chaos_error(error: BaseException) -> ChaosError:
    """The error as it is; of a defect of ours the log has more than people are told."""
    if isinstance(error, ChaosError):
        return error
    log.error("a defect", exc_info=error)
    return InternalError(f"{type(error).__name__}: {error}", hint="this is a defect of chaosd; its log has more")
