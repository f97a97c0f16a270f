from collections.abc import Sequence
from typing import Final

from chaos._connection import Connection
from chaos._slots import SlotWriter

CAPTURE_STATE: Final[int]
STATES: Final[dict[int, str]]

class Capture:
    def __init__(
        self,
        connection: Connection,
        writer: SlotWriter,
        *,
        name: str,
        description: str,
        positions: list[str],
        sample_format: str = "f32",
        sample_rate: int = 0,
        interleaved: bool = False,
        latency_frames: int | None = None,
    ) -> None: ...
    @property
    def handle(self) -> int: ...
    @property
    def node_id(self) -> int | None: ...
    def link(self, pairs: Sequence[tuple[int, int, int, int, int]]) -> None: ...
    def go_on_with(self, following: SlotWriter) -> None: ...
    def unlink(self) -> None: ...
    def close(self) -> None: ...
