"""chaosd: an audio capture engine for PipeWire that can account for every frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chaos.read.recording import open  # noqa: A004

__all__ = ["__version__", "open"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`chaos.open` comes with numpy, which neither the daemon nor the client pays for."""
    if name == "open":
        from chaos.read.recording import open  # noqa: A004

        return open
    raise AttributeError(name)
