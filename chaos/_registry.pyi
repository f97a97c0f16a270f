from typing import Final

from chaos._rt import Connection

NOTE_KINDS: Final[dict[str, int]]
KINDS: Final[dict[str, int]]

class Registry:
    """Listens from construction to `close`; the notes come out of the connection's `drain`."""

    def __init__(self, connection: Connection) -> None: ...
    @property
    def closed(self) -> bool: ...
    def settle(self) -> None: ...
    def close(self) -> None: ...
