"""An uploader of the simulation, a process of its own: `python -m proof.fleetworker STORE URL RECORDER`.

The project's own uploader, taken round by round: for each line that comes on stdin it uploads all that is sealed and
says `done`, or `failed` and why; at the end of stdin its peak of memory (KiB).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from chaos.store.store import Store
from chaos.terms.errors import ChaosError
from chaos.upload.uploader import Uploader

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    folder, url, recorder = arguments
    uploader = Uploader(Store(Path(folder)), url, recorder, lambda _: None, metadata_s=0.0)
    print("ready", flush=True)
    for _ in sys.stdin:
        try:
            while not uploader.round(hurry=True):
                pass
            print("done", flush=True)
        except ChaosError as error:
            print(f"failed {error.message}", flush=True)
    uploader.close()
    # a process's resource usage begins with that of who started it
    status = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
