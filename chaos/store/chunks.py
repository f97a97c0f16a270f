"""The chunk files of a recording: those that are sealed, and the parts of those that still fill.

A sealed chunk lies in the folder under its number, a part under a hidden name beside it. A chunk gets its name only
when it is whole and durable; until then its part has everything that was committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from chaos.store.objects import ObjectStore
from chaos.store.part import Part, committed_frames
from chaos.system.files import FULL, MOST_BYTES, read_regular, sync_folder, write_new
from chaos.terms.form import Form

__all__ = ["ChunkFiles", "Put", "chunk_number", "part_path"]


class Put(NamedTuple):
    """A chunk that is to get its name: its bytes, how many frames of it count, its hash, and whether `write_ahead` was
    called for it."""

    chunk: int
    data: memoryview
    n_frames: int
    digest: str
    is_ahead: bool = False


class ChunkFiles:
    """Alive until `close`. Methods raise OSError and may then be called again."""

    def __init__(self, folder: Path, form: Form, objects: ObjectStore) -> None:
        self.folder = folder
        self._form = form
        self._objects = objects
        self._parts: dict[int, Part] = {}

    def path(self, chunk: int) -> Path:
        return self.folder / str(chunk)

    def commit(self, chunk: int, data: memoryview, n_frames: int) -> None:
        """Makes the chunk's first `n_frames` durable in its part, writing only what is new."""
        if self._part(chunk) is None:
            self._parts[chunk] = Part(part_path(self.folder, chunk), self._form)
        part = self._parts[chunk]
        try:
            part.commit(data, n_frames)
            if not part.is_named:
                sync_folder(self.folder)
                part.is_named = True
        except OSError as error:
            self._give_up_part(chunk, error)
            raise

    def write_ahead(self, chunk: int, data: memoryview) -> str:
        """Hashes a chunk without a part and, unless the object store has its bytes, makes them durable under a hidden
        name; gives the hash. For any thread."""
        digest = blake3(data).hexdigest()
        if not self._objects.has(digest):
            write_new(self._fresh_path(chunk), data, read_only=True)
        return digest

    def has_part(self, chunk: int) -> bool:
        return self._part(chunk) is not None

    def put(self, chunks: Sequence[Put]) -> None:
        """Brings chunks under their names, durable and immutable: from the object store if that has them, else from
        their parts where there are, else in one go. Each file is durable before it has a name; names become so for
        all together."""
        changed: dict[Path, None] = {}
        ready = [self._ready(each, changed) for each in chunks]
        for folder in changed:
            sync_folder(folder)
        for each, path in zip(chunks, ready, strict=True):
            path.replace(self.path(each.chunk))
            part = self._parts.pop(each.chunk, None)
            if part is not None:
                part.close()
            for left_over in (self._fresh_path(each.chunk), part_path(self.folder, each.chunk)):
                left_over.unlink(missing_ok=True)
        sync_folder(self.folder)

    def _ready(self, each: Put, changed: dict[Path, None]) -> Path:
        """The durable file of a chunk that gets its name now, linked in the object store; adds the folders whose names
        are not durable yet."""
        ready = fresh = self._fresh_path(each.chunk)
        is_short = each.n_frames < self._form.chunk_frames  # the last one of a take: what is behind its end is zeros
        if not (each.is_ahead and fresh.exists() and not self._objects.has(each.digest)):
            fresh.unlink(missing_ok=True)
            if self._objects.link(each.digest, fresh):
                return fresh
            part = self._part(each.chunk)
            if part:
                try:
                    part.commit(each.data, each.n_frames)
                    part.finish(each.data, is_sparse=is_short)
                except OSError as error:
                    self._give_up_part(each.chunk, error)
                    raise
                ready = part_path(self.folder, each.chunk)
            else:
                write_new(fresh, each.data, read_only=True, is_sparse=is_short)
        changed.update(dict.fromkeys(self._objects.take_in(each.digest, ready)))
        return ready

    def _fresh_path(self, chunk: int) -> Path:
        return self.folder / f".{chunk}.new"

    def _part(self, chunk: int) -> Part | None:
        """The chunk's part, unless there is none or its file was removed."""
        part = self._parts.get(chunk)
        if part is not None and not part.is_there():
            self._parts.pop(chunk).close()
            return None
        return part

    def _give_up_part(self, chunk: int, error: OSError) -> None:
        """A part that can't be written is made anew next time, unless all it needs is space."""
        if error.errno not in FULL:
            self._parts.pop(chunk).close()

    def close(self) -> None:
        """Closes the parts; what they hold stays on disk."""
        for part in self._parts.values():
            part.close()
        self._parts.clear()

    # -- what a dead writer left

    def tidy(self, is_sealed: Callable[[int], bool]) -> None:
        """Removes files that hold no frame which is not elsewhere."""
        for path in self.folder.glob(".*"):
            chunk = chunk_number(path)
            if chunk is None or is_sealed(chunk) or not committed_frames(path, self._form):
                path.unlink()

    def left(self, is_sealed: Callable[[int], bool]) -> dict[int, tuple[int, bytes]]:
        """The chunks that were not sealed: whole frames, and the chunk's bytes with zeros behind those."""
        found: dict[int, tuple[int, bytes]] = {}
        for path in sorted(self.folder.glob("*")):
            chunk = chunk_number(path)
            if chunk is not None and not is_sealed(chunk):
                n_frames = committed_frames(path, self._form)
                data = read_regular(path, MOST_BYTES)[: self._form.chunk_bytes]
                found[chunk] = n_frames, self._form.whole(data, n_frames)
        return found


def part_path(folder: Path, chunk: int) -> Path:
    """Where the part of a chunk lies that still fills."""
    return folder / f".{chunk}.part"


def chunk_number(path: Path) -> int | None:
    """The number of the chunk that lies, whole or in part, in this file; None if it is neither."""
    name = path.name.removeprefix(".").removesuffix(".part")
    return int(name) if name.isascii() and name.isdecimal() else None
