"""A folder that was opened, and stays the same one wherever it is moved to."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["OpenFolder"]


class OpenFolder:
    """What is done below `path` is done in the folder that was opened, under whatever name it has now; once it has been
    removed it fails with ENOENT, and nothing comes into being in its place. Alive until `close`; raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self._name = path
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.path = Path(f"/proc/self/fd/{self._fd}")

    @property
    def name(self) -> Path:
        """Where it is now: the name it was opened by (or `renamed` to), as long as that leads to it."""
        if self._fd >= 0 and not self._leads_here(self._name):
            found = Path(str(self.path.readlink()).removesuffix(" (deleted)"))
            if self._leads_here(found):  # not so where its filesystem was unmounted
                self._name = found
        return self._name

    def _leads_here(self, path: Path) -> bool:
        try:
            return os.path.samestat(path.stat(), os.fstat(self._fd))
        except OSError:
            return False

    def renamed(self, path: Path) -> None:
        """Tells which of its names is the one to show."""
        self._name = path

    def look_again(self) -> None:
        """Takes the folder that its name leads to now: its filesystem may have gone and come back."""
        fd = os.open(self._name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.dup2(fd, self._fd, inheritable=False)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Calling it twice is harmless."""
        if self._fd >= 0:
            name = self.name
            os.close(self._fd)
            self._fd, self._name = -1, name
