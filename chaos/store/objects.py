"""The content-addressed store: sealed chunks under their BLAKE3-256, as read-only hard links.

`<root>/ab/cdef...` is the file whose 64 hex digits of hash are `abcdef...`. Methods raise OSError; whoever
calls turns it into a storage error.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Container
from contextlib import suppress
from io import FileIO
from pathlib import Path

from blake3 import blake3

from chaos.system.files import make_folders, open_regular, sync_folder

__all__ = ["BLOCK_BYTES", "ObjectStore", "hash_file", "open_chunk"]

BLOCK_BYTES = 1 << 20
_IS_DIGEST = re.compile("[0-9a-f]{64}").fullmatch


def open_chunk(path: Path) -> FileIO:
    """A chunk's file for reading, unbuffered; OSError for what is not a regular file."""
    return FileIO(open_regular(path, follow=True))


def hash_file(path: Path) -> str:
    """BLAKE3-256 (64 hex digits) over a file's bytes, read block by block."""
    hasher = blake3()
    buffer = memoryview(bytearray(BLOCK_BYTES))
    with open_chunk(path) as file:
        while n_bytes := file.readinto(buffer):
            hasher.update(buffer[:n_bytes])
    return hasher.hexdigest()


class ObjectStore:
    """The objects below `root`; several writers, also of several processes, may use one store at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Where the object with this hash (64 hex digits) lies or would lie."""
        if not _IS_DIGEST(digest):
            raise ValueError(f"{digest!r} is not a BLAKE3-256 hash in hex")
        return self.root / digest[:2] / digest[2:]

    def link(self, digest: str, target: Path) -> bool:
        """Makes `target` (a name that must be free) a hard link to the object; False if there is none to use.

        The object's bytes are hashed before they are trusted; one that has decayed is put away so that `add`
        can bring a good one. An object with as many links as the filesystem allows counts as none.
        """
        source = self.path(digest)
        if not source.exists():
            return False
        try:
            sound = hash_file(source) == digest
        except OSError:
            sound = False
        if not sound:
            with suppress(FileNotFoundError):
                source.unlink()
            return False
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno in (errno.EMLINK, errno.ENOENT):
                return False
            raise
        return True

    def drop(self, digest: str) -> bool:
        """Removes the object, if no recording has it any more; whether it did."""
        path = self.path(digest)
        with suppress(FileNotFoundError):
            if path.stat().st_nlink == 1:
                path.unlink()
                return True
        return False

    def collect(self, kept: Container[str] = ()) -> int:
        """Removes all objects that no recording has and that are not in `kept`; how many."""
        names = (path.parent.name + path.name for path in self.root.glob("[0-9a-f][0-9a-f]/*"))
        return sum(self.drop(name) for name in list(names) if _IS_DIGEST(name) and name not in kept)

    def add(self, digest: str, source: Path) -> Path:
        """Takes a finished file in by a hard link, durably; harmless if the object is there."""
        for folder in self.take_in(digest, source):
            sync_folder(folder)
        return self.path(digest)

    def take_in(self, digest: str, source: Path) -> list[Path]:
        """As `add`, but durable only once the folders that this gives are synced."""
        target = self.path(digest)
        changed = [target.parent]
        if not target.parent.is_dir():
            make_folders(self.root)
            target.parent.mkdir(exist_ok=True)
            changed.append(self.root)
        with suppress(FileExistsError):
            os.link(source, target)
            return changed
        return []

    def has(self, digest: str) -> bool:
        """Whether there is such an object; nothing is said of its bytes."""
        return self.path(digest).exists()
