"""Giving nodes their ports where no session manager does."""

from __future__ import annotations

from chaos._registry import Registry
from chaos.graph.devices import DeviceInfo, DeviceMap
from chaos.graph.portconfig import PORT_CONFIG, port_config

__all__ = ["Porting"]

DEFAULT_RATE = 48000


class Porting:
    """What a session manager would do, once for each node, as long as one PipeWire lives."""

    def __init__(self, devices: DeviceMap, listener: Registry) -> None:
        self._devices = devices
        self._listener = listener
        self._asked: dict[int, str | None] = {}

    def give(self, device: DeviceInfo) -> None:
        """Gives the device its ports; a capture of ours makes its own."""
        rate = device.sample_rate or self._devices.graph_rate or DEFAULT_RATE
        monitor = device.is_monitor
        if self._is_first(device.node_id):
            config = port_config(device.positions, rate, is_input=monitor, monitor=monitor)
            self._listener.set_node_param(device.node_id, PORT_CONFIG, config)

    def _is_first(self, node_id: int) -> bool:
        """Not asked before of the node that has this id now."""
        serial = self._devices.node_props(node_id).get("object.serial")
        if self._asked.get(node_id) == serial:
            return False
        self._asked[node_id] = serial
        return True
