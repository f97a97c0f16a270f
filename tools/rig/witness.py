"""What a graph shows to a client's ports, cycle by cycle: the clock, and buffers as they were found."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rig.child import Child
from rig.programs import program
from rig.session import RigError, Session

__all__ = ["Cycle", "Seen", "Witness"]

_CYCLE = struct.Struct("<4QIIQ")
_PORT = struct.Struct("<IIIIQ")
_CHUNK_EMPTY = 2
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Seen:
    """A port's buffer in one cycle: `offset`, `size` and `flags` as its chunk says, `room` its length (0: there was
    none), `data` the bytes of it that lie inside."""

    offset: int
    size: int
    flags: int
    room: int
    data: bytes

    @property
    def is_empty(self) -> bool:
        return bool(self.flags & _CHUNK_EMPTY)

    @property
    def samples(self) -> npt.NDArray[np.float32]:
        return np.frombuffer(self.data[: len(self.data) // 4 * 4], np.float32)


@dataclass(frozen=True)
class Cycle:
    """One run of the graph; `ports` in the order in which the witness has them."""

    position: int
    duration: int
    nsec: int
    xrun: int
    flags: int
    clock_id: int
    ports: tuple[Seen, ...]

    @property
    def samples(self) -> npt.NDArray[np.float32]:
        """Of all ports, (channels, frames). Raises ValueError where they don't hold the same number."""
        return np.stack([port.samples for port in self.ports])


class Witness(Child):
    """Sees what the ports of one node bring, once cycles run in which each brings something: `await_first`.

    `kinds` are those of its ports in the order of the node's: "audio", or for events "midi", "control", "ump".
    `linger_ms` is how long it waits in each cycle before it looks at the buffers. Raises `RigError`.
    """

    def __init__(self, session: Session, node_id: int, kinds: Sequence[str], *, linger_ms: int = 0) -> None:
        name = f"witness-{next(_numbers)}"
        self._path = session.root / name
        self._kinds = kinds
        command = [str(program("witness")), "--linger-ms", str(linger_ms), name, str(self._path), *kinds]
        super().__init__(session, name, *command)
        self.wait_for("ready")
        own = session.await_global("Node", {"node.name": name})["id"]
        for index in range(len(kinds)):
            there = {"node.id": str(node_id), "port.id": str(index), "port.direction": "out"}
            here = {"node.id": str(own), "port.name": f"in_{index + 1}"}
            ends = [session.await_global("Port", wanted)["id"] for wanted in (there, here)]
            session.run("pw-link", *map(str, ends))

    def await_first(self) -> None:
        """Waits until it sees cycles. Raises `RigError`."""
        self.wait_for("seeing")

    def see(self) -> list[Cycle]:
        """Ends it: all cycles that it saw from the first that brought something to each port. Raises `RigError` where
        there were more than it had room for."""
        done = self.finish("done")
        if done["full"]:
            raise RigError(f"the witness had no room for more than {done['cycles']} cycles")
        with self._path.open("rb") as file:
            written = file.read(done["bytes"])
        self._path.unlink()
        cycles: list[Cycle] = []
        at = 0
        while at < len(written):
            position, duration, nsec, xrun, clock_id, flags, length = _CYCLE.unpack_from(written, at)
            place, ports = at + _CYCLE.size, []
            for _ in self._kinds:
                size, offset, chunk_flags, room, kept = _PORT.unpack_from(written, place)
                place += _PORT.size
                ports.append(Seen(offset, size, chunk_flags, room, written[place : place + kept]))
                place += -(-kept // 8) * 8
            cycles.append(Cycle(position, duration, nsec, xrun, flags, clock_id, tuple(ports)))
            at += length
        return cycles
