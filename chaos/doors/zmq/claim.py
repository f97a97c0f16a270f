"""An endpoint's socket file, claimed for one daemon."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from chaos.terms.errors import InvalidRequest, StorageFailed

__all__ = ["Claim"]


class Claim:
    """An endpoint's socket file, held by a lock beside it: ZeroMQ alone takes it from a living daemon."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_path = path.with_name(f"{path.name}.lock")
        self._fd = self._locked()
        try:
            if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
                raise InvalidRequest(f"{path} is a file, not a socket", hint="choose another endpoint")
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, str(os.getpid()).encode(), 0)
        except BaseException:
            os.close(self._fd)
            raise

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        self._lock_path.unlink(missing_ok=True)
        os.close(self._fd)

    def _locked(self) -> int:
        while True:
            try:
                fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except OSError as e:
                raise StorageFailed(
                    f"cannot make {self._lock_path}: {e.strerror}",
                    hint="choose another endpoint",
                    details={"errno": e.errno},
                ) from e
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._lock_path.exists() and os.path.samestat(os.fstat(fd), self._lock_path.stat()):
                    return fd
            except BlockingIOError:
                owner = os.pread(fd, 32, 0).decode(errors="replace") or "unknown"
                os.close(fd)
                raise InvalidRequest(
                    f"another chaosd (process {owner}) already answers at {self._path}",
                    hint="use that one, or give this one another --endpoint and --events",
                    details={"pid": owner},
                ) from None
            os.close(fd)
