"""A private PipeWire, and a microphone that numbers its frames: what tests, demo and benches stand on.

Put `tools` on `sys.path` to import it. It needs the programs of PipeWire, WirePlumber and D-Bus, util-linux'
`setpriv`, and cc with libpipewire's headers for the small C programs in this folder.
"""

from rig.counting import CountingSource, Findings, check, decode, encode, leading_silence, modulus
from rig.programs import program
from rig.session import RigError, Session
from rig.tap import tap

__all__ = [
    "CountingSource",
    "Findings",
    "RigError",
    "Session",
    "check",
    "decode",
    "encode",
    "leading_silence",
    "modulus",
    "program",
    "tap",
]
