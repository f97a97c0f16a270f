"""The life of the handles on PipeWire: unborn, alive, closed; and nothing of them left behind."""

from __future__ import annotations

import json
import sys

from rig import Session

SCRIPT = """
import json, os, sys
from pathlib import Path
from chaos.terms.form import AudioForm
from chaos._connection import Connection
from chaos._capture import Capture
from chaos.terms.errors import ChaosError
from chaos.staging.owner import Staging

def held():
    maps = Path("/proc/self/maps").read_text().splitlines()
    threads = len(list(Path("/proc/self/task").iterdir()))
    return [len(os.listdir("/proc/self/fd")), threads, sum(".staging" in line or "pipewire" in line for line in maps)]

def once(n, interleaved):
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    path = Path(os.environ["XDG_RUNTIME_DIR"]) / f"{n}.staging"
    staging = Staging(path, uri="stream://h/1", recording="", run_id="0" * 32,
                      form=AudioForm(2, 1024, "f32"), n_slots=3, sample_rate=48000, wake_fd=wake)
    connection = Connection()
    capture = Capture(connection, staging.slots, name=f"handle-{n}", description="a handle", positions=["FL", "FR"],
                      sample_rate=48000, interleaved=interleaved)
    if n % 4 > 1:           # else it is closed before PipeWire has made its node
        while capture.node_id is None:
            connection.sync()
    capture.link([])
    if n % 3 == 0:
        connection.close()
    capture.close()
    capture.close()
    connection.close()
    connection.close()
    refused = []
    for call in (capture.unlink, lambda: capture.node_id, connection.sync, connection.lock):
        try:
            call()
        except ChaosError as error:
            refused.append(error.code)
    assert len(refused) == 4, refused
    staging.close()
    os.close(wake)

for n in range(4):
    once(n, n % 2 == 1)
before = held()
for n in range(100):
    once(n, n % 2 == 1)
print(json.dumps([before, held()]))
"""


def test_a_hundred_handles_leave_nothing_behind(own_session: Session) -> None:
    before, after = json.loads(own_session.run(sys.executable, "-c", SCRIPT, timeout_s=60))
    assert after == before


def test_without_pipewire_the_error_says_so(own_session: Session) -> None:
    own_session.kill_pipewire()
    script = (
        "from chaos._connection import Connection\n"
        "from chaos.terms.errors import PipeWireUnavailable\n"
        "try:\n    Connection()\nexcept PipeWireUnavailable as e:\n    print(e.code, bool(e.hint))\n"
    )
    assert own_session.run(sys.executable, "-c", script).split() == ["pipewire_unavailable", "True"]


UNCLOSED = """
import gc, os, warnings
from pathlib import Path
from chaos._capture import Capture
from chaos._connection import Connection
from chaos._registry import Registry
from chaos.staging.owner import Staging
from chaos.terms.form import AudioForm

wake = os.eventfd(0, os.EFD_NONBLOCK)
path = Path(os.environ["XDG_RUNTIME_DIR"]) / "u.staging"
staging = Staging(path, uri="stream://h/1", recording="", run_id="0" * 32,
                  form=AudioForm(2, 1024, "f32"), n_slots=3, sample_rate=48000, wake_fd=wake)
connection = Connection()
for make in (
    lambda: Capture(connection, staging.slots, name="lost", description="lost", positions=["FL", "FR"]),
    lambda: Registry(connection),
    lambda: Connection(),
):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        handle = make()
        del handle
        gc.collect()
    print(*(f"{w.category.__name__}: {w.message}" for w in told), sep="; ")
connection.sync()
connection.close()
staging.close()
"""


def test_handles_that_nobody_closed_say_so(own_session: Session) -> None:
    said = own_session.run(sys.executable, "-c", UNCLOSED, timeout_s=60).splitlines()
    assert said == [f"ResourceWarning: unclosed {kind}" for kind in ("Capture", "Registry", "Connection")]
