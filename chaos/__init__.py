"""chaosd: an audio capture engine for PipeWire that can account for every frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chaos import aio
    from chaos.client import Client
    from chaos.hosts import Hosts
    from chaos.live import Capture, capture
    from chaos.read.recording import Recording, open  # noqa: A004
    from chaos.recorders.fleet import Fleet, fleet
    from chaos.recorders.relate import relate
    from chaos.terms.errors import ChaosError
    from chaos.terms.formats import AudioFormat, MidiFormat

__all__ = [
    "AudioFormat",
    "Capture",
    "ChaosError",
    "Client",
    "Fleet",
    "Hosts",
    "MidiFormat",
    "Recording",
    "__version__",
    "aio",
    "capture",
    "fleet",
    "open",
    "relate",
]

__version__ = "0.2.0"


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


def __getattr__(name: str) -> Any:
    """Each is loaded when it is asked for: `import chaos` costs next to nothing, and the daemon has no numpy."""
    if name == "aio":
        import chaos.aio as loaded

        return loaded
    if name in ("open", "Recording"):
        from chaos.read import recording

        return getattr(recording, name)
    if name in ("fleet", "Fleet"):
        from chaos.recorders import fleet

        return getattr(fleet, name)
    if name == "relate":
        from chaos.recorders.relate import relate

        return relate
    if name in ("capture", "Capture"):
        from chaos import live

        return getattr(live, name)
    if name == "Client":
        from chaos.client import Client

        return Client
    if name == "Hosts":
        from chaos.hosts import Hosts

        return Hosts
    if name == "ChaosError":
        from chaos.terms.errors import ChaosError

        return ChaosError
    if name in ("AudioFormat", "MidiFormat"):
        from chaos.terms import formats

        return getattr(formats, name)
    raise AttributeError(f"module 'chaos' has no attribute {name!r}")
