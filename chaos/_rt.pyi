from typing import Final

CAPTURE_STATE: Final[int]
STATES: Final[dict[int, str]]
