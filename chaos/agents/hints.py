"""Errors as an agent reads them: it has tools in place of a command line, so hints name those."""

from __future__ import annotations

import re

from chaos.client import DaemonUnreachable
from chaos.terms.errors import ChaosError

__all__ = ["error_for_agents"]

_HINTS = {
    "device_not_found": "call device_list, and give the identity of one of its devices",
    "device_ambiguous": "give the identity of one of the candidates",
    "stream_exists": "stream_status tells whether it runs; for another recording choose another uri",
    "stream_not_found": "stream_status without a uri lists the streams that run, recording_list what was recorded",
    "session_exists": "stop it with session_stop, or choose another name",
    "session_not_found": "start one with session_start",
    "recording_not_found": "recording_list tells what there is",
    "not_recovered": "a person has to bring it in on this machine: chaosctl recover (or chaosd, started)",
    "rate_mismatch": "leave sample_rate out: it is the device's own then",
    "channels_mismatch": "leave channels out: they are the device's own then",
}
"""By code; others say themselves what would work."""

_OPTIONS = (
    (re.compile(r",? or (replace it|say what the file shall be|one file per channel) with --\S+"), ""),
    (re.compile(r"use - and redirect standard output there"), "choose another name"),
    (re.compile(r"(?<!\S)--gaps (zeros|nan|cut)\b"), r'`gaps`: "\1"'),
    (re.compile(r"(?<!\S)--(last|gaps)(?!\S)"), r"`\1`"),
    (re.compile(r"(?<!\S)--from(?!\S)"), "`first`"),
    (re.compile(r"(?<!\S)--to(?!\S)"), "`end`"),
)
"""What people type, and what an agent has in its place."""

_URI = r"( stream://\S+)?"
_COMMANDS = (
    (
        re.compile(r"chaosctl (session )?start --standby 60s holds the last minute until chaosctl (session )?keep"),
        "stream_create with `standby_s` holds the last seconds until keep",
    ),
    (re.compile(r"chaosctl (session )?list (--running )?shows those that (run|are)"), "stream_status shows what runs"),
    (re.compile(r"chaosctl session stop \S+"), "session_stop"),
    (re.compile(rf"chaosctl stop{_URI}"), "stream_stop"),
    (re.compile(rf"chaosctl status{_URI}"), "stream_status"),
    (re.compile(rf"chaosctl list{_URI}"), "recording_list"),
    (re.compile(r"chaosctl devices"), "device_list"),
    (re.compile(rf"chaosctl keep{_URI}"), "keep"),
)
"""Commands, and the tools that do the same; what has none is a person's to type."""


def error_for_agents(error: ChaosError) -> dict[str, object]:
    """`code`, `message`, `hint` and `details`, as on the wire."""
    wire = error.to_wire()
    wire["message"], wire["hint"] = _in_arguments(error.message), _in_arguments(error.hint)
    if isinstance(error, DaemonUnreachable) and error.message.startswith("no chaosd"):
        wire["hint"] = "a person has to start it on this machine: chaosd. Then call again: this server finds it"
    elif error.code in _HINTS:
        wire["hint"] = _HINTS[error.code]
    else:
        wire["hint"] = _instead(str(wire["hint"]), _COMMANDS)
    return wire


def _in_arguments(text: str) -> str:
    return _instead(text, _OPTIONS)


def _instead(text: str, words: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    for word, instead in words:
        text = word.sub(instead, text)
    return text
