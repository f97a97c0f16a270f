from collections.abc import Sequence

from chaos._connection import Connection
from chaos._slots import Slots

class Capture:
    def __init__(
        self,
        connection: Connection,
        slots: Slots,
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
    def go_on_with(self, following: Slots) -> None: ...
    def unlink(self) -> None: ...
    def close(self) -> None: ...
