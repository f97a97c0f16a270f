from typing import Final

from typing_extensions import Buffer

CAUSES: Final[dict[str, int]]
CONFIDENCES: Final[dict[str, int]]
NOTE_KINDS: Final[dict[str, int]]
OFFSETS: Final[dict[str, int]]
ENTRY_BYTES: Final[int]
NOTE_BYTES: Final[int]
RT_BYTES: Final[int]
LAYOUT: Final[int]
CONTROL: Final[int]

def acquire_fence() -> None: ...
def load(buffer: Buffer, at: int) -> int: ...
def store(buffer: Buffer, at: int, value: int) -> None: ...
