"""A private PipeWire, and a microphone that numbers its frames: what tests, demo and benches stand on.

Put `tools` on `sys.path` to import it. It needs the programs of PipeWire, WirePlumber and D-Bus, util-linux'
`setpriv`, and cc with libpipewire's headers for the small C programs in this folder.
"""

from rig.counting import CountingSource, Findings, check, decode, encode, leading_silence, modulus
from rig.faulty import FaultyDriver
from rig.programs import program
from rig.session import RigError, Session
from rig.tap import tap
from rig.witness import Cycle, Seen, Witness

__all__ = [
    "CountingSource",
    "Cycle",
    "FaultyDriver",
    "Findings",
    "RigError",
    "Seen",
    "Session",
    "Witness",
    "check",
    "decode",
    "encode",
    "leading_silence",
    "modulus",
    "program",
    "tap",
]
