"""What ZeroMQ tells of a socket's connections, over the monitor socket that pyzmq makes for it."""

from __future__ import annotations

import struct

import zmq

__all__ = ["read_monitor"]

_TOLD = struct.Struct("=hi")  # zmq_socket_monitor(3): 16 bits of event, 32 bits of value


def read_monitor(monitor: zmq.Socket[bytes]) -> tuple[int, int]:
    """The next event (`zmq.EVENT_...`) and its value, a descriptor for most.

    `zmq.utils.monitor` reads the same, and imports asyncio for it: 60 ms in every command, and 9 MB in chaosd.
    """
    event, value = _TOLD.unpack(monitor.recv_multipart()[0])
    return event, value
