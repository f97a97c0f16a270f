"""Staging files: the slots that the RT callback fills, on tmpfs, locked, open to readers in any process.

One file per stream. A large one takes seconds to populate: a thread prepares the slots one by one, and the callback
gets each as it is there. A disk stall costs nothing until the slots run out; `kill -9` costs nothing at
all, since tmpfs keeps the file. Whoever makes the file holds a lock (flock) on it for life: that tells what a dead
daemon left from what a living one is using.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import struct
import threading
from pathlib import Path
from typing import Final

from chaos import _layout
from chaos._audio import AudioSlots
from chaos._memory import Mapping
from chaos._midi import MidiSlots
from chaos.staging.layout import MAGIC, N_NOTES, Note
from chaos.system.machine import boot_id
from chaos.terms.errors import StagingFull, StorageFailed
from chaos.terms.form import AudioForm, MidiForm
from chaos.terms.ledger import Cause, Confidence, Gap

__all__ = ["Staging"]

log = logging.getLogger(__name__)

PAGE: Final = mmap.PAGESIZE
FIRST_FRAMES: Final = 48_000  # as many slots as hold these are there when capture begins

_owed: dict[Path, int] = {}
"""By folder, the bytes that this process's staging files there have promised and not allocated yet."""
_owing = threading.Lock()


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _pages(n: int) -> int:
    return -(-n // PAGE) * PAGE


class Staging:
    """A staging file that this process owns. Each slot is populated, and locked as far as the memlock limit allows,
    before the callback may have it; they are so in their order. The first ones are there when this is made, unless
    they are to come `behind` it: a capture that has no slot yet does not begin.

    Attributes:
        path: where it lies.
        form: how each slot holds its chunk.
        slots: what the callback fills and the rotator empties (`chaos._slots.Slots`).
        locked_bytes: how much of it is locked so far.
    """

    def __init__(
        self,
        path: Path,
        *,
        uri: str,
        recording: Path | str,
        run_id: str,
        form: AudioForm | MidiForm,
        n_slots: int,
        sample_rate: int,
        wake_fd: int,
        about: bytes = b"",
        behind: bool = False,
    ) -> None:
        """Makes the file.

        Args:
            run_id: 32 hex digits.
            sample_rate: Hz; 0 where only the graph will tell.
            wake_fd: eventfd that the callback writes once per full slot.
            about: kept in the file for recovery (`chaos.store.about`).
            behind: whether the first slots, too, come from the thread.

        Raises:
            StagingFull: tmpfs has no room for the slots.
            StorageFailed: the file can't be made.
        """
        self.path = path
        self.form = form
        self.n_slots = n_slots
        ring_size = _power_of_two(n_slots)
        table = _layout.CONTROL
        free = table + n_slots * _layout.ENTRY_BYTES
        full = free + ring_size * 4
        notes = -(-(full + ring_size * 4) // 64) * 64
        beyond = notes + N_NOTES * _layout.NOTE_BYTES
        data = _pages(beyond + len(about))
        self._slot_bytes = _pages(form.chunk_bytes)
        self._data = data
        self.file_bytes = data + n_slots * self._slot_bytes
        self._owed_bytes = 0
        self._map = self._make()
        self.locked_bytes = self._map.hold(0, data)
        put = self._put
        put("magic", "8s", MAGIC)
        put("channels", "I", form.channels)
        put("sample_bytes", "I", form.sample_bytes)
        put("sample_format", "I", form.code)
        put("n_slots", "I", n_slots)
        put("ring_size", "I", ring_size)
        put("n_notes", "I", N_NOTES)
        put("pid", "I", os.getpid())
        put("chunk_frames", "Q", form.chunk_frames)
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
        put("chunk_bytes", "Q", form.chunk_bytes)
        with memoryview(self._map) as whole:
            whole[beyond : beyond + len(about)] = about
        put("version", "I", _layout.LAYOUT)
        kind = MidiSlots if isinstance(form, MidiForm) else AudioSlots
        self.slots: AudioSlots | MidiSlots = kind(self._map, wake_fd)
        self._base_frame = 0
        self._ending = False
        n_first = 0 if behind else min(n_slots, -(-FIRST_FRAMES // form.chunk_frames))
        self._admit(0, n_first)
        self._rest: threading.Thread | None = None
        if n_first < n_slots:
            args = (n_first, n_slots)
            self._rest = threading.Thread(target=self._admit, args=args, name="chaosd-slots", daemon=True)
            self._rest.start()

    def _admit(self, first: int, end: int) -> None:
        for slot in range(first, end):
            if self._ending:
                return
            at = self._data + slot * self._slot_bytes
            try:
                os.posix_fallocate(self._fd, at, self._slot_bytes)
            except OSError as error:  # others have taken what was free when this was made
                log.error("%s: %d of %d slots are there: %s", self.path, slot, self.n_slots, error.strerror)
                self._owe(0)
                return
            self._owe(self._owed_bytes - self._slot_bytes)
            self.locked_bytes += self._map.hold(at, at + self._slot_bytes)
            self.slots.admit(slot)

    def _owe(self, n_bytes: int) -> None:
        """So much of the file is still to be allocated."""
        with _owing:
            _owed[self.path.parent] = _owed.get(self.path.parent, 0) + n_bytes - self._owed_bytes
            self._owed_bytes = n_bytes

    @property
    def is_ready(self) -> bool:
        """Whether all slots are there."""
        return self._rest is None or not self._rest.is_alive()

    def _make(self) -> Mapping:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageFailed(
                f"could not make the staging file {self.path}: {error.strerror}",
                hint="choose another folder with chaosd --staging-dir; it should be on tmpfs",
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # until the mapping, which keeps the open file, is closed
            self._reserve(fd)
            made = Mapping(fd, self.file_bytes)
        except OSError as error:
            self._owe(0)
            self.path.unlink()
            os.close(fd)
            raise StagingFull(
                f"no room for a staging file of {self.file_bytes} bytes in {self.path.parent}: {error.strerror}",
                hint="ask for a shorter --staging-seconds or a smaller --chunk-size, or stop another stream",
                details={"needed_bytes": self.file_bytes},
            ) from error
        self._fd = fd
        return made

    def _reserve(self, fd: int) -> None:
        """Allocates what stands before the slots, and sees that there is room for these: they are allocated one by
        one, since the kernel clears all that it gives. OSError where there is none."""
        self._owe(self.file_bytes)
        room = os.fstatvfs(fd)
        if room.f_blocks and _owed[self.path.parent] > room.f_bavail * room.f_frsize:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.ftruncate(fd, self.file_bytes)
        os.posix_fallocate(fd, 0, self._data)
        self._owe(self.file_bytes - self._data)

    def _put(self, field: str, code: str, value: int | bytes) -> None:
        struct.pack_into("<" + code, self._map, _layout.OFFSETS[field], value)

    def _publish(self, field: str, value: int) -> None:
        """A word that others may be reading: whole, and after those that were written before it."""
        _layout.store(self._map, _layout.OFFSETS[field], value)

    def set_recording(self, recording: Path) -> None:
        """Where the recording lies, for whoever finds this file after a crash."""
        self._put("recording", "1024s", os.fsencode(recording))

    def slot(self, index: int) -> memoryview:
        """The bytes of one slot's chunk, as the form has them; release it before `close`."""
        at = self._data + index * self._slot_bytes
        return memoryview(self._map)[at : at + self.form.chunk_bytes]

    def notes(self) -> list[Note]:
        """What the callback has told since the last call, in order; of a gap what lies in the recording."""
        notes = (Note(*note).since(self._base_frame) for note in self.slots.take_notes())
        return [note for note in notes if not note.is_past]

    def hold(self) -> None:
        """What is captured is not a recording yet: after a crash nobody brings it in. Until `keep`."""
        self._publish("standby", 1)

    def keep(self, base_chunk: int, base_ns: int, *, n_lost: int, n_gaps: int) -> None:
        """The recording begins with this chunk, at that moment (CLOCK_MONOTONIC; 0: with the capture); so many gaps had
        ended before it, and so many frames before it were in gaps. All frames and chunks count from there. For the
        rotator's thread; `hold_on` takes it back."""
        for field, value in (("base_ns", base_ns), ("base_lost", n_lost), ("base_gaps", n_gaps)):
            self._publish(field, value)
        self._publish("base_chunk", base_chunk)
        self._publish("standby", 0)
        self._base_frame = base_chunk * self.form.chunk_frames

    def hold_on(self) -> None:
        """Goes back to what was before `keep`."""
        self.keep(0, 0, n_lost=0, n_gaps=0)
        self.hold()

    def finish(self, end_ns: int | None) -> tuple[int, Gap | None]:
        """Ends the take (see `Slots.finish`): its length in frames, and the gap that was open, if one was."""
        n_frames, gap = self.slots.finish(end_ns)
        return n_frames, None if gap is None else Gap(gap[0], gap[1], Cause(gap[2]), Confidence(gap[3]))

    def open_gap(self) -> Gap | None:
        """The gap that has not ended, up to the head; None without one."""
        stats = self.slots.stats()
        first = stats["gap_first"]
        if first < 0 or first > stats["head_frame"]:
            return None
        return Gap.open(first, stats["head_frame"], Cause(stats["gap_cause"]))

    def close(self, *, remove: bool = True) -> None:
        """Unmaps and removes the file. The callback must have been detached. Calling it twice is harmless."""
        if self._map.closed:
            return
        self._ending = True
        if self._rest is not None:
            self._rest.join()
        self._owe(0)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.slots.close()
        try:
            if remove:
                self.path.unlink(missing_ok=True)
        finally:
            self._map.close()
