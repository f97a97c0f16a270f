"""What all tests share: the rig in `tools`, importable, and hypothesis' pace."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

# A busy machine makes an example slow, not wrong.
settings.register_profile("chaosd", deadline=None)
settings.load_profile("chaosd")
