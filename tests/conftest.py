"""What all tests share: the rig in `tools`, importable, and hypothesis' pace."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

# A busy machine makes an example slow, not wrong.
settings.register_profile("chaosd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("chaosd")
