"""A staging file seen from any process, read-only, without a message to its owner."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from chaos import _layout
from chaos.staging.layout import MAGIC, N_NOTES, NONE, NOTE, Note
from chaos.system.files import IRREGULAR, open_regular
from chaos.system.machine import boot_id
from chaos.terms.errors import StorageFailed
from chaos.terms.form import form_of
from chaos.terms.ledger import Cause

__all__ = ["StagingReader"]


class StagingReader:
    """A staging file of any process, read-only: the head, and committed frames that still stand in a slot.

    Raises:
        FileNotFoundError: there is none.
        StorageFailed: this is not a staging file, or one of another version.
        OSError: it can't be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            opened = open_regular(path)
        except OSError as error:
            if error.errno not in IRREGULAR:
                raise
            raise StorageFailed(f"{path}: {error.strerror}", hint="it can be deleted") from error
        with os.fdopen(opened, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _layout.CONTROL:
                raise StorageFailed(f"{path} is too short to be a staging file", hint="it can be deleted")
            self._map = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
        version = self._get("version", "I")
        if self._bytes("magic", 8) != MAGIC or version != _layout.LAYOUT or self._get("file_bytes", "Q") > size:
            self._map.close()
            raise StorageFailed(
                f"{path} is not a staging file of version {_layout.LAYOUT}",
                hint="another release of chaosd may have made it; it was left as it is",
                details={"version": version},
            )
        try:
            self.form = form_of(
                self._get("sample_format", "I"),
                channels=self._get("channels", "I"),
                chunk_frames=self._get("chunk_frames", "Q"),
                chunk_bytes=self._get("chunk_bytes", "Q"),
            )
        except ValueError:
            self._map.close()
            raise _damaged(path) from None
        self.n_slots = self._get("n_slots", "I")
        self.pid = self._get("pid", "I")
        self.run_id = self._bytes("run_id", 16).hex()
        self.same_boot = self._bytes("boot_id", 16).hex() == boot_id()
        self.uri = self._bytes("uri", 192).rstrip(b"\0").decode(errors="replace")
        self._table = self._get("table_offset", "Q")
        self._data = self._get("data_offset", "Q")
        self._slot_bytes = self._get("slot_bytes", "Q")
        self._last_slot = 0
        if not self._makes_sense(size):
            self._map.close()
            raise _damaged(path)

    def _makes_sense(self, size: int) -> bool:
        """Whether all that the control block names lies in the file."""
        ends = (
            self._table + self.n_slots * _layout.ENTRY_BYTES,
            self._get("notes_offset", "Q") + N_NOTES * _layout.NOTE_BYTES,
            self._get("about_offset", "Q") + self._get("about_bytes", "Q"),
            self._data + self.n_slots * self._slot_bytes,
        )
        return (
            self._get("sample_bytes", "I") == self.form.sample_bytes
            and 0 < self.form.chunk_bytes <= self._slot_bytes
            and self._get("n_notes", "I") == N_NOTES
            and max(ends) <= size
        )

    def _get(self, field: str, code: str) -> int:
        return int(struct.unpack_from("<" + code, self._map, _layout.OFFSETS[field])[0])

    def _load(self, field: str) -> int:
        """A word that the callback writes; what it wrote before is there for what is read after."""
        return _layout.load(self._map, _layout.OFFSETS[field])

    def _bytes(self, field: str, size: int) -> bytes:
        at = _layout.OFFSETS[field]
        return self._map[at : at + size]

    @property
    def recording(self) -> Path:
        """Where the recording lies that these frames belong to."""
        return Path(os.fsdecode(self._bytes("recording", 1024).rstrip(b"\0")))

    @property
    def about(self) -> bytes:
        """What the owner left for recovery."""
        at = self._get("about_offset", "Q")
        return self._map[at : at + self._get("about_bytes", "Q")]

    @property
    def is_standby(self) -> bool:
        """Whether what it holds is not a recording yet, and was promised to nobody."""
        return self._load("standby") != 0

    @property
    def _base_chunk(self) -> int:
        return self._load("base_chunk")

    @property
    def _base_frame(self) -> int:
        """The recording's first frame, as the callback counts."""
        return self._base_chunk * self.form.chunk_frames

    @property
    def first_ns(self) -> int:
        """CLOCK_MONOTONIC of the recording's first frame."""
        return self._load("base_ns") or self._load("first_ns")

    @property
    def head_frame(self) -> int:
        """Frames of the timeline so far; all before it are committed."""
        return self._load("head_frame") - self._base_frame

    def state(self, field: str) -> int:
        """One of the 64-bit fields of the control block, by its name in `chaos._layout.OFFSETS`, as it stands there."""
        return self._load(field)

    def open_gap(self) -> tuple[int, int] | None:
        """(first_frame, cause) of a gap that has not ended, or None. Read the head first: it may be ahead of that.

        Where no cycle comes any more the gap stands at the head: how long it is, the clock tells when it goes on.
        """
        first, base = self._load("gap_first"), self._base_frame
        while first != NONE:
            cause = self._load("gap_cause")
            before, first = first, self._load("gap_first")
            if first == before:
                return max(first, base) - base, cause
        head = self._load("head_frame")
        if self._load("stalled") == head + 1:
            return head - base, self._load("hint") or Cause.MISSED
        return None

    def notes(self, since: int) -> Iterator[Note]:
        """The callback's notes from index `since` on."""
        at, base = self._get("notes_offset", "Q"), self._base_frame
        for index in range(since, self._load("note_write")):
            place = at + (index & (N_NOTES - 1)) * _layout.NOTE_BYTES
            yield Note(*struct.unpack_from(NOTE, self._map, place)).since(base)

    def notes_left(self) -> list[Note]:
        """All notes that still stand in the ring, also those that were taken; for when the writer is dead."""
        return [each for each in self.notes(max(0, self._load("note_write") - N_NOTES + 1)) if not each.is_past]

    def chunks(self) -> dict[int, int]:
        """Chunk number → slot index, of all slots that hold one."""
        found = {}
        for slot in range(self.n_slots):
            chunk = self._chunk_in(slot)
            if chunk is not None:
                found[chunk] = slot
        return found

    def read_chunk(self, chunk: int, first: int, last: int) -> bytes | None:
        """Frames [first, last) of a chunk (counted within it).

        Returns:
            Their bytes, as the form has them; None when no slot holds the chunk any more, or when the callback's
            side took the slot back during the copy (the reader has been lapped): never mixed data.
        """
        slot = self._slot_of(chunk)
        if slot is None:
            return None
        base = self._data + slot * self._slot_bytes
        with memoryview(self._map) as whole, whole[base : base + self.form.chunk_bytes] as there:
            pieces = [bytes(there[span]) for span in self.form.spans(first, last, there)]
        _layout.acquire_fence()
        return b"".join(pieces) if self._chunk_in(slot) == chunk else None

    def _chunk_in(self, slot: int) -> int | None:
        chunk = _layout.load(self._map, self._table + slot * _layout.ENTRY_BYTES)
        return None if chunk == NONE or chunk < self._base_chunk else chunk - self._base_chunk

    def _slot_of(self, chunk: int) -> int | None:
        """The slot that holds the chunk: mostly that of the last call, or the next one."""
        for slot in (self._last_slot, (self._last_slot + 1) % self.n_slots):
            if self._chunk_in(slot) == chunk:
                break
        else:
            found = self.chunks().get(chunk)
            if found is None:
                return None
            slot = found
        self._last_slot = slot
        return slot

    def close(self) -> None:
        """Unmaps the file. Calling it twice is harmless."""
        self._map.close()

    def __enter__(self) -> StagingReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _damaged(path: Path) -> StorageFailed:
    return StorageFailed(f"{path} is damaged: its control block makes no sense", hint="it was left as it is")
