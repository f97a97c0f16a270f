"""A microphone that drives the graph and, when told to, breaks the rules that clocks and buffers should keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rig.child import Child
from rig.counting import Findings, Samples, check
from rig.programs import program
from rig.session import Session

__all__ = ["FaultyDriver"]


class FaultyDriver(Child):
    """A faulty driver that runs in a session; ready to be linked once made. Its frames are numbered (rig.counting).

    It is a node without an adapter: what it writes into the clock and into its buffers is what a client sees. The
    commands that `do` takes stand in faulty-driver.c. `start` is its first position; `hold` waits with the first cycle
    for `begin()`; `speed` and `patience_ms` are those of a counting source. Where another driver drives it, its own
    clock is `ppm` faster than the graph's. Its ports say that they are `delay` frames late. Without a session manager
    nobody gives it its ports: `ports=False`. Raises `RigError`.
    """

    def __init__(
        self,
        session: Session,
        *,
        name: str = "faulty-driver",
        channels: int = 2,
        rate: int = 48000,
        source_id: int = 0,
        start: int = 480_000,
        speed: float = 1,
        patience_ms: int = 1000,
        ppm: float = 0,
        delay: int = 0,
        hold: bool = False,
        ports: bool = True,
        properties: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self.channels = channels
        self.source_id = source_id
        command = [str(program("faulty-driver")), "--name", name, "--channels", str(channels), "--rate", str(rate)]
        command += ["--id", str(source_id), "--start", str(start), "--speed", str(speed), "--ppm", str(ppm)]
        command += ["--delay", str(delay)]
        command += ["--patience-ms", str(patience_ms), *(["--hold"] if hold else [])]
        for key, value in (properties or {}).items():
            command += ["--property", f"{key}={value}"]
        super().__init__(session, name, *command)
        self.node_id = int(self.wait_for("ready" if ports else "node", timeout_s)["node_id"])

    def begin(self) -> None:
        """Lets it begin, if it is held."""
        self.say("begin")

    def hold(self) -> None:
        """Lets it finish its cycle and begin no other before `begin`."""
        self.say("hold")
        self.wait_for("held")

    def delay(self, *frames: int) -> None:
        """Has each port, in the channels' order, say that it is so many frames late."""
        for channel, n_frames in enumerate(frames):
            self.say(f"delay {channel} {n_frames}")
            self.wait_for("delayed")

    def do(self, *commands: str) -> list[int]:
        """Gives commands and waits until they have taken effect: the positions of the cycles they did so in.

        While it is held they wait for `begin`: use `say` then. Raises `RigError` for a command that it doesn't know.
        """
        for command in commands:
            self.say(command)
        return [int(self.wait_for("done", command=command)["position"]) for command in commands]

    def check(
        self, samples: Samples, *, first: int | None = None, gaps: Sequence[tuple[int, int]] = ()
    ) -> Findings:
        return check(samples, self.source_id, first=first, gaps=gaps)
