"""Who may come in from the network: CURVE, and only keys that are authorized."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import zmq

from chaos.doors.zmq.connections import Connections
from chaos.system.keys import Keys
from chaos.terms.errors import ChaosError, Unauthorized

if TYPE_CHECKING:
    from zmq.auth.thread import ThreadAuthenticator

__all__ = ["Gate"]

log = logging.getLogger(__name__)

_DOMAIN = "chaos"
_HANDSHAKE_MS = 5_000  # strangers take up connections no longer
_HEARTBEAT_MS = 10_000
_GIVE_UP_MS = 30_000


class Gate:
    """Lets authorized keys in, until `close`; a key that is removed is out at once, also where it is connected.

    The constructor raises Unauthorized without a key pair of one's own that others could not have read, for folders
    that they could have changed, and where no authorized key can be used. A single one that can't is told in the log.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: Keys) -> None:
        self._keys = keys
        self._own = keys.own()
        self._stamp = keys.stamp()
        self._told: frozenset[str] = frozenset()
        self._known = frozenset(keys.authorized().values())
        self._lock = threading.Lock()
        self._looked: dict[Connections, frozenset[str]] = {}
        self._tell_unused()
        if not self._known:
            for error in keys.unused():
                raise error
            raise Unauthorized("no key is authorized, so nobody could come in", hint="chaosctl keys add NAME KEY")
        from zmq.auth.thread import ThreadAuthenticator  # asyncio comes with it: only for those who need it

        self._authenticator: ThreadAuthenticator = ThreadAuthenticator(context)
        self._authenticator.configure_curve_callback(_DOMAIN, self)
        self._authenticator.start()

    def guard(self, unbound: zmq.Socket[bytes]) -> None:
        """Has a socket let nobody in but through here. To be called before it is bound."""
        unbound.curve_server = True
        unbound.curve_secretkey = self._own.secret.encode()
        unbound.zap_domain = _DOMAIN.encode()
        unbound.set(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without an answer from us: nobody
        unbound.set(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        unbound.set(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)  # a machine that has gone says nothing
        unbound.set(zmq.HEARTBEAT_TIMEOUT, _GIVE_UP_MS)

    def admits(self, key: str) -> bool:
        """Whether what comes with this key is still to be heard."""
        return key in self._known

    def callback(self, domain: str, key: bytes) -> bool:
        """The authenticator asks, on its own thread."""
        is_known = key.decode() in self._authorized()
        if not is_known:
            log.warning("a client with the key %s was not let in", key.decode())
        return is_known

    def look(self, door: Connections) -> None:
        """Closes the connections of keys that are not authorized any more; each door on its own thread."""
        with self._lock:
            stamp = self._keys.stamp()
            if stamp != self._stamp:
                self._stamp, self._known = stamp, self._authorized()
                with suppress(ChaosError):  # the folder's, and told
                    self._tell_unused()
            known = self._known
        if self._looked.get(door) is not known:
            self._looked[door] = known
            door.look()

    def close(self) -> None:
        self._authenticator.stop()

    def _tell_unused(self) -> None:
        """Once for each, also where it was mended and is damaged again."""
        unused = self._keys.unused()
        for error in unused:
            if error.message not in self._told:
                log.error("a key is not used: %s (%s)", error.message, error.hint)
        self._told = frozenset(error.message for error in unused)

    def _authorized(self) -> frozenset[str]:
        try:
            return frozenset(self._keys.authorized().values())
        except ChaosError as error:
            log.error("nobody is let in: %s (%s)", error.message, error.hint)
            return frozenset()
