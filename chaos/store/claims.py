"""Who is about to record what: from a start on nobody else takes its URI, whichever process begins first."""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import weakref

from blake3 import blake3

from chaos.store.store import Store
from chaos.system.files import storage_errors
from chaos.terms.errors import StreamExists

__all__ = ["Claim"]

_LOCKS = ".claims.lock"
_FORM = "hhqqi"  # struct flock: type, whence, start, length, pid


class Claim:
    """Held until `close`, or until its process ends, however it does: a lock of that byte of a file in the store which
    stands for the URI. Nothing is left of it, and the file stays empty.

    Raises StreamExists where somebody else holds it, StorageFull, and StorageFailed, also where there is no store.
    """

    def __init__(self, store: Store, uri: str) -> None:
        path = store.root / _LOCKS
        with storage_errors("lock", path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)  # the umask is the store's
        self._lock = threading.Lock()
        self._close = weakref.finalize(self, os.close, fd)
        byte = int.from_bytes(blake3(uri.encode()).digest(length=7))
        try:
            with storage_errors("lock", path):
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_FORM, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
        except BaseException as error:
            self.close()
            if isinstance(error.__cause__, BlockingIOError | PermissionError):  # EAGAIN or EACCES
                raise StreamExists(
                    f"{uri} is being recorded already, by another process",
                    hint="choose another take, or wait until it has ended",
                ) from None
            raise

    def close(self) -> None:
        """Returns once nothing of it is left. Twice is harmless, also from two threads."""
        with self._lock:
            self._close()
