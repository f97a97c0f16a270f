"""The kinds of file that a recording can be saved as. Each is declared here, once.

Kept free of imports that take time: chaosctl's help lists them.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

__all__ = ["CONTAINERS", "GAP_FILLS", "Container", "GapFill"]

Container: TypeAlias = Literal["wav", "rf64", "flac", "raw"]
CONTAINERS: tuple[Container, ...] = get_args(Container)

GapFill: TypeAlias = Literal["zeros", "cut", "nan"]
"""What becomes of a gap in a file: zeros, nothing (what follows moves up), or NaN (float containers)."""
GAP_FILLS: tuple[GapFill, ...] = get_args(GapFill)
