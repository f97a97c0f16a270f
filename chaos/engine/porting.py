"""Giving nodes their ports where no session manager does."""

from __future__ import annotations

import logging

from chaos._connection import Connection
from chaos._registry import Registry
from chaos.engine.followers import Unported
from chaos.graph.devices import DeviceMap
from chaos.graph.portconfig import PORT_CONFIG, port_config
from chaos.terms.errors import PipeWireUnavailable

__all__ = ["Porting"]

log = logging.getLogger(__name__)

DEFAULT_RATE = 48000


class Porting:
    """What a session manager would do, once for each node, as long as one PipeWire lives."""

    def __init__(self, remote: str | None, devices: DeviceMap, listener: Registry) -> None:
        self._remote = remote
        self._devices = devices
        self._listener = listener
        self._asked: dict[int, str | None] = {}

    def give(self, unported: Unported) -> None:
        """Gives the device its ports, and an interleaved stream of ours too (a planar one makes its own)."""
        device, node_id = unported.device, unported.node_id
        rate = device.sample_rate or self._devices.graph_rate or DEFAULT_RATE
        monitor = device.is_monitor
        if not device.ports and self._is_first(device.node_id):
            config = port_config(device.positions, rate, is_input=monitor, monitor=monitor)
            self._listener.set_node_param(device.node_id, PORT_CONFIG, config)
        if node_id is None or self._devices.node_props(node_id).get("media.class") != "Stream/Input/Audio":
            return
        if self._is_first(node_id):
            self._configure_from_outside(node_id, port_config(device.positions, rate, is_input=True))

    def _is_first(self, node_id: int) -> bool:
        """Not asked before of the node that has this id now."""
        serial = self._devices.node_props(node_id).get("object.serial")
        if self._asked.get(node_id) == serial:
            return False
        self._asked[node_id] = serial
        return True

    def _configure_from_outside(self, node_id: int, config: bytes) -> None:
        """PipeWire listens to no client that waits for a param of its own node: here another connection waits."""
        try:
            other = Connection(self._remote)
        except PipeWireUnavailable as error:
            log.warning("%s", error.message)
            return
        try:
            Registry(other).set_node_param(node_id, PORT_CONFIG, config)
            other.sync()
        except PipeWireUnavailable as error:
            log.warning("%s", error.message)
        finally:
            other.close()
