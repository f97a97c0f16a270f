"""The door of ZeroMQ: commands in and answers out, events out."""

from chaos.doors.zmq.bus import Bus

__all__ = ["Bus"]
