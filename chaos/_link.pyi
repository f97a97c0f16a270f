from typing import Final

LINK_STATE: Final[int]
LINK_GONE: Final[int]
LINK_ACTIVE: Final[int]
