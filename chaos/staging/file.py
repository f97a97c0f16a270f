"""Staging files: the slots that the RT callback fills, on tmpfs, locked, open to readers in any process.

One file per stream. Its first page is control, then come the slot table, three rings and the slots; each slot is one
chunk, (channels, chunk_frames) planar in C order. `chaos/_layout.pxd` declares the layout once, for C and for here.
A disk stall costs nothing until the slots run out; `kill -9` costs nothing at all, since tmpfs keeps the file.
Whoever makes the file holds a lock (flock) on it for life: so what a dead daemon left is told from a living one's.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from chaos import _layout
from chaos._audio import AudioSlots
from chaos.terms.errors import StagingFull, StorageFailed
from chaos.terms.formats import SAMPLE_BYTES

__all__ = ["SUFFIX", "Staging", "StagingReader", "boot_id", "slots_for"]

MAGIC: Final = b"CHAOSSTG"
SUFFIX: Final = ".staging"
SAMPLE_FORMATS: Final = {"f32": 1, "s16": 2, "s32": 3}
N_NOTES: Final = 4096
NONE: Final = (1 << 64) - 1
PAGE: Final = mmap.PAGESIZE


def slots_for(staging_s: float, chunk_frames: int, sample_rate: int) -> int:
    """How many slots hold `staging_s` seconds while one more is being filled; at least three."""
    return max(3, -(-int(staging_s * sample_rate) // chunk_frames) + 1)


def boot_id() -> str:
    """What tells this run of the kernel from all others: 32 hex digits."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _pages(n: int) -> int:
    return -(-n // PAGE) * PAGE


class Staging:
    """A staging file that this process owns: made, populated and locked before the stream starts.

    Attributes:
        path: where it lies.
        slots: what the callback fills and the rotator empties (`chaos._slots.Slots`).
        locked_bytes: how much of it the memlock limit let us lock.
    """

    def __init__(
        self,
        path: Path,
        *,
        uri: str,
        recording: Path | str,
        run_id: str,
        channels: int,
        sample_format: str,
        chunk_frames: int,
        n_slots: int,
        sample_rate: int,
        wake_fd: int,
        about: bytes = b"",
    ) -> None:
        """Makes the file.

        Args:
            run_id: 32 hex digits.
            sample_rate: Hz; 0 where only the graph will tell.
            wake_fd: eventfd that the callback writes once per full slot.
            about: kept in the file for recovery (`chaos.store.recovery.about`).

        Raises:
            StagingFull: tmpfs has no room for the slots.
            StorageFailed: the file can't be made.
        """
        self.path = path
        self.channels = channels
        self.sample_format = sample_format
        self.chunk_frames = chunk_frames
        self.n_slots = n_slots
        self.chunk_bytes = channels * chunk_frames * SAMPLE_BYTES[sample_format]
        ring_size = _power_of_two(n_slots)
        table = _layout.CONTROL
        free = table + n_slots * _layout.ENTRY_BYTES
        full = free + ring_size * 4
        notes = -(-(full + ring_size * 4) // 64) * 64
        beyond = notes + N_NOTES * _layout.NOTE_BYTES
        data = _pages(beyond + len(about))
        self._slot_bytes = _pages(self.chunk_bytes)
        self._data = data
        self.file_bytes = data + n_slots * self._slot_bytes
        self._map = self._make()
        put = self._put
        put("magic", "8s", MAGIC)
        put("channels", "I", channels)
        put("sample_bytes", "I", SAMPLE_BYTES[sample_format])
        put("sample_format", "I", SAMPLE_FORMATS[sample_format])
        put("n_slots", "I", n_slots)
        put("ring_size", "I", ring_size)
        put("n_notes", "I", N_NOTES)
        put("pid", "I", os.getpid())
        put("chunk_frames", "Q", chunk_frames)
        put("slot_bytes", "Q", self._slot_bytes)
        put("table_offset", "Q", table)
        put("free_offset", "Q", free)
        put("full_offset", "Q", full)
        put("notes_offset", "Q", notes)
        put("data_offset", "Q", data)
        put("file_bytes", "Q", self.file_bytes)
        put("sample_rate", "Q", sample_rate)
        put("run_id", "16s", bytes.fromhex(run_id))
        put("boot_id", "16s", bytes.fromhex(boot_id()))
        put("uri", "192s", uri.encode())
        put("recording", "1024s", os.fsencode(recording))
        put("about_offset", "Q", beyond)
        put("about_bytes", "Q", len(about))
        self._map[beyond : beyond + len(about)] = about
        put("version", "I", _layout.LAYOUT)
        self.slots = AudioSlots(self._map, wake_fd)
        self.locked_bytes = self.slots.lock()

    def _make(self) -> mmap.mmap:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageFailed(
                f"the staging file {self.path} can't be made: {error.strerror}",
                hint="chaosd --staging-dir names another folder, best on tmpfs",
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # until the mapping, which keeps the open file, is closed
            os.posix_fallocate(fd, 0, self.file_bytes)
            return mmap.mmap(fd, self.file_bytes, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        except OSError as error:
            self.path.unlink()
            raise StagingFull(
                f"staging needs {self.file_bytes} bytes in {self.path.parent}, and there is no room: {error.strerror}",
                hint="ask for fewer staging_seconds or smaller chunks, or stop another stream",
                details={"needed_bytes": self.file_bytes},
            ) from error
        finally:
            os.close(fd)

    def _put(self, field: str, code: str, value: int | bytes) -> None:
        struct.pack_into("<" + code, self._map, _layout.OFFSETS[field], value)

    def set_recording(self, recording: Path) -> None:
        """Where the recording lies, for whoever finds this file after a crash."""
        self._put("recording", "1024s", os.fsencode(recording))

    def slot(self, index: int) -> memoryview:
        """The bytes of one slot's chunk, (channels, chunk_frames) planar; release it before `close`."""
        at = self._data + index * self._slot_bytes
        return memoryview(self._map)[at : at + self.chunk_bytes]

    def close(self, *, remove: bool = True) -> None:
        """Lets the mapping go and removes the file. The callback must have been detached. Twice is harmless."""
        if self._map.closed:
            return
        self.slots.close()
        if remove:
            self.path.unlink(missing_ok=True)
        self._map.close()


class StagingReader:
    """A staging file of any process, read-only: the head, and committed frames that still stand in a slot.

    Raises:
        FileNotFoundError: there is none.
        StorageFailed: the file is no staging file, or of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _layout.CONTROL:
                raise StorageFailed(f"{path} is too short to be a staging file", hint="a half-made one may be removed")
            self._map = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
        version = self._get("version", "I")
        if self._bytes("magic", 8) != MAGIC or version != _layout.LAYOUT or self._get("file_bytes", "Q") > size:
            self._map.close()
            raise StorageFailed(
                f"{path} is no staging file of version {_layout.LAYOUT}",
                hint="another release of chaosd may have made it; it was left as it is",
                details={"version": version},
            )
        self.channels = self._get("channels", "I")
        self.sample_bytes = self._get("sample_bytes", "I")
        code = self._get("sample_format", "I")
        self.sample_format = next((name for name, value in SAMPLE_FORMATS.items() if value == code), "")
        self.chunk_frames = self._get("chunk_frames", "Q")
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
            hint = "it was left as it is"
            raise StorageFailed(f"{path} is damaged: its control block makes no sense", hint=hint)

    def _makes_sense(self, size: int) -> bool:
        """Whether all that the control block names lies in the file."""
        chunk_bytes = self.channels * self.chunk_frames * self.sample_bytes
        ends = (
            self._table + self.n_slots * _layout.ENTRY_BYTES,
            self._get("notes_offset", "Q") + N_NOTES * _layout.NOTE_BYTES,
            self._get("about_offset", "Q") + self._get("about_bytes", "Q"),
            self._data + self.n_slots * self._slot_bytes,
        )
        return (
            SAMPLE_BYTES.get(self.sample_format) == self.sample_bytes
            and 0 < chunk_bytes <= self._slot_bytes
            and self._get("n_notes", "I") == N_NOTES
            and max(ends) <= size
        )

    def _get(self, field: str, code: str) -> int:
        return int(struct.unpack_from("<" + code, self._map, _layout.OFFSETS[field])[0])

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
    def head_frame(self) -> int:
        """Frames of the timeline so far; all before it are committed."""
        head = self._get("head_frame", "Q")
        _layout.acquire_fence()
        return head

    def state(self, field: str) -> int:
        """One of the 64-bit fields of the control block, by its name in `chaos._layout.OFFSETS`."""
        return self._get(field, "Q")

    @property
    def open_gap(self) -> tuple[int, int] | None:
        """(first_frame, cause) of a gap that has not ended, or None."""
        first = self._get("gap_first", "Q")
        return None if first == NONE else (first, self._get("gap_cause", "Q"))

    def notes(self, since: int) -> Iterator[tuple[int, ...]]:
        """The callback's notes from index `since` on, as `Slots.take_notes` gives them."""
        at = self._get("notes_offset", "Q")
        for index in range(since, self._get("note_write", "Q")):
            yield struct.unpack_from("<4I5Q", self._map, at + (index & (N_NOTES - 1)) * _layout.NOTE_BYTES)

    def notes_left(self) -> list[tuple[int, ...]]:
        """All notes that still stand in the ring, also those that were taken; for when the writer is dead."""
        return list(self.notes(max(0, self._get("note_write", "Q") - N_NOTES + 1)))

    def chunks(self) -> dict[int, int]:
        """Chunk number → slot index, of all slots that hold one."""
        found = {}
        for slot in range(self.n_slots):
            chunk = self._chunk_in(slot)
            if chunk != NONE:
                found[chunk] = slot
        return found

    def read_chunk(self, chunk: int, first: int, last: int) -> bytes | None:
        """Frames [first, last) of a chunk (counted within it), planar: channel after channel.

        Returns:
            `channels * (last - first)` samples; None when no slot holds the chunk any more, or when the callback's
            side took the slot back during the copy (the reader has been lapped): never mixed data.
        """
        slot = self._slot_of(chunk)
        if slot is None:
            return None
        _layout.acquire_fence()
        width = self.sample_bytes
        base = self._data + slot * self._slot_bytes
        pieces = []
        for channel in range(self.channels):
            at = base + (channel * self.chunk_frames + first) * width
            pieces.append(self._map[at : at + (last - first) * width])
        _layout.acquire_fence()
        return b"".join(pieces) if self._chunk_in(slot) == chunk else None

    def _chunk_in(self, slot: int) -> int:
        (chunk,) = struct.unpack_from("<Q", self._map, self._table + slot * _layout.ENTRY_BYTES)
        return int(chunk)

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
        """Lets the mapping go. Twice is harmless."""
        self._map.close()

    def __enter__(self) -> StagingReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
