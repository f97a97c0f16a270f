"""What a program plays as something to capture. Pure.

These are the streams of PipeWire's and PulseAudio's clients, and the nodes of JACK clients and other filters, as far as
they have ports that send audio. They bear the program's name and what it says that it plays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chaos.graph.identity import Identity, first, program_ladder
from chaos.graph.objects import DSP_AUDIO, Port

__all__ = ["describe_program", "is_program", "program_ports"]


def is_program(props: Mapping[str, str]) -> bool:
    """Is a node with these properties a program's? One without ports that send plays nothing."""
    return props.get("media.class", "") in ("", "Stream/Output/Audio")


def program_ports(ports: Iterable[Port]) -> list[Port]:
    """Of a node's ports those that send what the program plays."""
    return [port for port in ports if port.direction == "output" and port.dsp == DSP_AUDIO and not port.monitor]


def describe_program(props: Mapping[str, str]) -> tuple[str, tuple[Identity, ...]]:
    """The description and the names for good of the node with these properties.

    The program's name is followed by the title of what it plays; where none is told, by the node's name, which JACK
    keeps apart where several are of one program.
    """
    program = first(props, "application.name", "node.name")
    title = first(props, "media.name", "node.name")
    if title == program:
        title = ""
    return f"{program}: {title}" if title else program, program_ladder(program, title)
