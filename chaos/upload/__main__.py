"""The uploader's process: `python -m chaos.upload STORE URL RECORDER [BYTES_PER_S]`, started by chaosd.

It works at the lowest priority, tells what it does on stdout (`chaos.protocol.uploads`), looks again at each byte that
comes on stdin, and ends when that does: its parent has.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from chaos.protocol.uploads import Told, encode_told
from chaos.store.store import Store
from chaos.system.priority import be_last
from chaos.terms.errors import ChaosError
from chaos.upload.uploader import Uploader

__all__ = ["main"]

_DRAIN_S = 5.0


def main(arguments: Sequence[str]) -> int:
    """0 at the end of stdin, 2 where the URL or the prefix can't be used."""
    folder, url, recorder, *limit = arguments
    logging.basicConfig(format="chaosd: %(levelname)s: upload: %(message)s")
    be_last()
    store = Store(Path(folder))
    store.share()
    out = sys.stdout.buffer

    def tell(told: Told) -> None:
        try:
            out.write(encode_told(told))
            out.flush()
        except OSError:
            os._exit(0)  # nobody listens any more

    uploader = Uploader(store, url, recorder, tell, bytes_per_s=int(limit[0]) if limit else None)
    threading.Thread(target=_hear, args=(uploader,), daemon=True).start()
    try:
        uploader.run()
    except ChaosError:  # it has told why
        return 2
    return 0


def _hear(uploader: Uploader) -> None:
    while os.read(0, 4096):
        uploader.wake()
    end = threading.Timer(_DRAIN_S, os._exit, (0,))
    end.daemon = True
    end.start()
    uploader.drain()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
