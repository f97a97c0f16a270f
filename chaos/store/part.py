"""The part file: what a chunk that still fills has on disk, checkpoint by checkpoint.

It begins as the chunk will, with each frame in its place; behind that stands one record per checkpoint:
magic, first frame, end frame (in the chunk), BLAKE3 over both and the frames' bytes. A torn checkpoint tells
itself by that, and all before it are whole. A part of exactly the chunk's size was complete and about to be
renamed.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from blake3 import blake3

from chaos.system.files import make_read_only, open_regular, write_all
from chaos.system.holes import punch_zeros
from chaos.terms.form import Form

__all__ = ["Part", "checkpointed_frames", "committed_frames"]

_MAGIC = b"chaospt1"
_RECORD = struct.Struct("<8sQQ32s")
_SPAN = struct.Struct("<QQ")


class Part:
    """The part file of one chunk, made new. Methods raise OSError and may be called again.

    `n_frames` counts the frames that are committed; `is_named` is for whoever syncs the folder. Alive until `close` or
    `finish`.
    """

    def __init__(self, path: Path, form: Form) -> None:
        self.path = path
        self._text = str(path)  # it is looked for by every checkpoint, and a Path takes its time
        self.n_frames = 0
        self.is_named = False
        self._form = form
        self._n_records = 0
        path.unlink(missing_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        made = os.fstat(self._fd)
        self._identity = made.st_dev, made.st_ino
        try:
            os.posix_fallocate(self._fd, 0, form.chunk_bytes + _RECORD.size)
        except OSError:
            self.close()
            path.unlink()
            raise

    def is_there(self) -> bool:
        """Whether the file still has its name: somebody may have removed it."""
        try:
            found = os.stat(self._text)  # noqa: PTH116
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def commit(self, data: memoryview, n_frames: int) -> None:
        """Writes and syncs frames up to `n_frames` that are not committed yet; `data` is the whole slot."""
        if n_frames <= self.n_frames:
            return
        hasher = blake3(_SPAN.pack(self.n_frames, n_frames))
        for span in self._form.spans(self.n_frames, n_frames, data):
            with data[span] as new:
                hasher.update(new)
                write_all(self._fd, new, span.start)
        record = _RECORD.pack(_MAGIC, self.n_frames, n_frames, hasher.digest())
        end = self._form.chunk_bytes + self._n_records * _RECORD.size
        write_all(self._fd, record, end)
        os.fdatasync(self._fd)
        self.n_frames = n_frames
        self._n_records += 1

    def finish(self, data: memoryview, *, is_sparse: bool = False) -> None:
        """Fills up with what `data` has behind the committed frames, drops the records, makes the file durable and
        read-only, and closes it. With `is_sparse` long runs of zeros take no space."""
        if self._fd < 0:
            return
        for span in self._form.spans(self.n_frames, self._form.chunk_frames, data):
            with data[span] as rest:
                write_all(self._fd, rest, span.start)
        os.ftruncate(self._fd, self._form.chunk_bytes)
        if is_sparse:
            punch_zeros(self._fd, data)
        make_read_only(self._fd)
        os.fsync(self._fd)
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def checkpointed_frames(path: Path, form: Form) -> int:
    """How many frames the last checkpoint tells of, in the part file of a writer that lives: nothing is looked at but
    its record. 0 before the first, and for a part that is complete; OSError if it can't be read."""
    with os.fdopen(open_regular(path), "rb", buffering=0) as file:
        n_records = (os.fstat(file.fileno()).st_size - form.chunk_bytes) // _RECORD.size
        raw = os.pread(file.fileno(), _RECORD.size, form.chunk_bytes + (n_records - 1) * _RECORD.size)
    if n_records < 1 or len(raw) < _RECORD.size:
        return 0
    magic, _, last, _ = _RECORD.unpack(raw)
    return last if magic == _MAGIC and last <= form.chunk_frames else 0


def committed_frames(path: Path, form: Form) -> int:
    """How many frames of this part file are whole, from the chunk's first on; OSError if it can't be read.

    A file of exactly the chunk's size counts as full (`Sealing` in the journal tells if fewer are meant).
    """
    n_frames = 0
    with os.fdopen(open_regular(path), "rb", buffering=0) as file:
        fd = file.fileno()
        if os.fstat(fd).st_size == form.chunk_bytes:
            return form.chunk_frames
        chunk = os.pread(fd, form.chunk_bytes, 0)
        offset = form.chunk_bytes
        while len(raw := os.pread(fd, _RECORD.size, offset)) == _RECORD.size:
            magic, first, last, digest = _RECORD.unpack(raw)
            if magic != _MAGIC or first != n_frames or not first < last <= form.chunk_frames:
                break
            hasher = blake3(_SPAN.pack(first, last))
            for span in form.spans(first, last, chunk):
                hasher.update(chunk[span])
            if hasher.digest() != digest:
                break
            n_frames = last
            offset += _RECORD.size
    return n_frames
