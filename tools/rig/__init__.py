"""A private PipeWire, and a microphone that numbers its frames: what tests, demo and benches stand on.

Put `tools` on `sys.path` to import it. It needs the programs of PipeWire, WirePlumber and D-Bus, util-linux'
`setpriv`, and cc with libpipewire's headers for the small C programs in this folder.
"""

from rig.counting import CountingSource, Findings, check, decode, encode, leading_silence, modulus
from rig.faulty import FaultyDriver
from rig.midi import CLICK, MIDI, UMP, Event, MidiSource, as_ump, long_sysex, random_tune, seen_events
from rig.programs import program
from rig.session import RigError, Session
from rig.slownode import SlowNode
from rig.tap import tap
from rig.witness import Cycle, Seen, Witness

__all__ = [
    "CLICK",
    "MIDI",
    "UMP",
    "CountingSource",
    "Cycle",
    "Event",
    "FaultyDriver",
    "Findings",
    "MidiSource",
    "RigError",
    "Seen",
    "Session",
    "SlowNode",
    "Witness",
    "as_ump",
    "check",
    "decode",
    "encode",
    "leading_silence",
    "long_sysex",
    "modulus",
    "program",
    "random_tune",
    "seen_events",
    "tap",
]
