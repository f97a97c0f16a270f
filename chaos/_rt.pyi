from typing import Final

CAPTURE_STATE: Final[int]
PORT_LATENCY: Final[int]
STATES: Final[dict[int, str]]

def judged(
    offset: int, size: int, flags: int, maxsize: int, n_bytes: int, *, linked: bool = True, made_up: bool = False
) -> str: ...
def begun(ns: int, now: int, seen: int) -> int: ...
