"""Files that libsndfile writes: FLAC, Wave64, CAF and Opus."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chaos.export.encoding import BITS
from chaos.export.file import OutFile, Wanted, check_room
from chaos.export.source import Source
from chaos.export.wav import SPEAKERS
from chaos.terms.containers import Container, Subtype
from chaos.terms.errors import StorageFailed, StorageFull
from chaos.terms.moments import utc_text

__all__ = ["ENCODED", "EncodedFile"]

ENCODED: dict[Container, str] = {"flac": "FLAC", "w64": "W64", "caf": "CAF", "opus": "OGG"}
"""What EncodedFile writes, and what libsndfile calls it."""

_DTYPES: dict[Subtype, str] = {"FLOAT": "float32", "PCM_32": "int32", "PCM_24": "int32", "PCM_16": "int16"}
_COMMENT_ROOM = 128
_PLAIN_MASKS = (0x4, 0x3)
_COMMENT_BLOCK, _PADDING_BLOCK = 4, 1


class EncodedFile(OutFile):
    """A file of libsndfile's. FLAC's comment names the hash of what was read, and a tag its
    loudspeakers, where they are more than stereo."""

    def __init__(self, source: Source, out: Path, container: Container, wanted: Wanted, channel: int | None) -> None:
        super().__init__(source, out, container, wanted, channel)
        self._sound: Any = None
        self._fd = -1

    def begin(self, fd: int) -> None:
        import soundfile

        self._fd = fd
        subtype = "OPUS" if self.is_lossy else self.subtype
        if self.container in ("w64", "caf"):
            check_room(self.out.parent, self.source.n_frames * self.channels * BITS[self.subtype] // 8)
        with _storage_errors(self.out):
            self._sound = soundfile.SoundFile(
                fd,
                "w",
                self.source.recording.sample_rate,
                self.channels,
                subtype,
                format=ENCODED[self.container],
                closefd=False,
            )
            if self.container != "w64":
                self._sound.title = self.account.title
                self._sound.software = self.account.software
                self._sound.date = utc_text(self.account.wall_ns)
                is_told_later = self.container == "flac"
                comment = self.account.history(with_hash=is_told_later).strip()
                self._sound.comment = comment + " " * (_COMMENT_ROOM if is_told_later else 0)

    def take(self, frames: memoryview) -> None:
        with _storage_errors(self.out):
            self._sound.buffer_write(frames, _DTYPES[self.subtype])

    def end(self) -> None:
        with _storage_errors(self.out):
            self._sound.close()
        if self.container == "flac":
            told = {"COMMENT": self.account.history(with_hash=True).strip()}
            if mask := _mask(self.positions):
                told["WAVEFORMATEXTENSIBLE_CHANNEL_MASK"] = f"0x{mask:x}"
            _put_comments(self._fd, told)


def _mask(positions: list[str]) -> int:
    """The speakers' bits; 0 for mono and stereo, which need no word, and for channels that are no speakers.

    Readers differ in what they take five and six channels for (side or back), so these are always named.
    """
    if not all(position in SPEAKERS for position in positions):
        return 0
    mask = sum(1 << SPEAKERS.index(position) for position in positions)
    return 0 if mask in _PLAIN_MASKS else mask


def _put_comments(fd: int, told: dict[str, str]) -> None:
    """Puts these comments in place of those of their names in a FLAC file, and what room is left into a block of
    padding. There must be room: libsndfile can't write them once it has written samples."""
    at = 4
    while True:
        kind, length = _block_at(fd, at)
        if kind & 0x7F == _COMMENT_BLOCK:
            break
        if kind & 0x80:
            raise ValueError("the FLAC file has no comments")
        at += 4 + length
    body = os.pread(fd, length, at + 4)
    (n_vendor,) = struct.unpack_from("<I", body)
    kept = [text for text in _comments(body, 4 + n_vendor) if text.partition("=")[0].upper() not in told]
    texts = [text.encode() for text in (*kept, *(f"{name}={value}" for name, value in told.items()))]
    new = body[: 4 + n_vendor] + struct.pack("<I", len(texts))
    new += b"".join(struct.pack("<I", len(text)) + text for text in texts)
    room = length - len(new) - 4
    if room < 0:
        raise ValueError("the comments don't fit into the FLAC file")
    comments = bytes([kind & 0x7F]) + len(new).to_bytes(3, "big") + new
    padding = bytes([kind & 0x80 | _PADDING_BLOCK]) + room.to_bytes(3, "big") + bytes(room)
    os.pwrite(fd, comments + padding, at)


def _block_at(fd: int, at: int) -> tuple[int, int]:
    head = os.pread(fd, 4, at)
    return head[0], int.from_bytes(head[1:], "big")


def _comments(body: bytes, at: int) -> Iterator[str]:
    (n_comments,) = struct.unpack_from("<I", body, at)
    at += 4
    for _ in range(n_comments):
        (n_bytes,) = struct.unpack_from("<I", body, at)
        yield body[at + 4 : at + 4 + n_bytes].decode()
        at += 4 + n_bytes


@contextmanager
def _storage_errors(out: Path) -> Iterator[None]:
    """libsndfile doesn't tell why it couldn't write; the filesystem does. (A short write is an AssertionError of
    soundfile's.)"""
    import traceback

    import soundfile

    try:
        yield
    except (soundfile.SoundFileError, AssertionError) as error:
        # soundfile's frames hold a buffer on what was to be written: before 3.12.7 Python may crash where it finds that
        # among what it collects (CPython's issue 77894).
        traceback.clear_frames(error.__traceback__)
        folder = os.statvfs(out.parent)
        details = {"path": str(out.parent)}
        if folder.f_bavail * folder.f_frsize < 1 << 20:
            message = f"the disk of {out.parent} is full"
            raise StorageFull(message, hint="free some space there", details=details) from error
        message = f"could not write to {out.parent}: {error}"
        raise StorageFailed(message, hint="check the disk, its mount and its permissions", details=details) from error
