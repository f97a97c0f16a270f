"""The door of ZeroMQ: commands in and answers out, events out."""

from chaos.doors.zmq.bus import MAX_PENDING_PER_CLIENT, Bus

__all__ = ["MAX_PENDING_PER_CLIENT", "Bus"]
