"""What `import chaos` offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import chaos


def test_what_is_loaded_late_is_listed() -> None:
    assert set(chaos.__all__) <= set(dir(chaos))
    assert "TYPE_CHECKING" not in dir(chaos)
    for name in dir(chaos):
        getattr(chaos, name)


def test_the_client_for_asyncio_is_there_and_loads_nothing_before_it_is_asked_for() -> None:
    script = (
        "import sys, chaos; dir(chaos); before = [m for m in sys.modules if m.startswith('chaos.')];"
        " print(before, chaos.aio.Client.__module__)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == "[] chaos.aio\n"
