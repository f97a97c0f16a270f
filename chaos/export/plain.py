"""Files that are written in one go, also into a pipe: WAV, RF64 and raw samples."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from chaos.export.encoding import BITS
from chaos.export.file import OutFile, Wanted, check_room
from chaos.export.source import Source
from chaos.export.wav import WavFormat, header, needs_rf64, trailer
from chaos.terms.containers import Container

__all__ = ["PLAIN", "PlainFile"]

PLAIN: tuple[Container, ...] = ("wav", "rf64", "raw")
"""What PlainFile writes."""

_HISTORY_ROOM = 64


class PlainFile(OutFile):
    """WAV (RF64 by itself where 4 GiB would overflow), RF64 or raw.

    What the source tells after it was read is put into the header then. A pipe has gone past it: there `bext` names no
    hash, and the cue points are those that were known at the beginning.
    """

    def __init__(self, source: Source, out: Path, container: Container, wanted: Wanted, channel: int | None) -> None:
        super().__init__(source, out, container, wanted, channel)
        self._wav = WavFormat(
            channels=self.channels,
            sample_rate=source.recording.sample_rate,
            sample_bits=BITS[self.subtype],
            is_float=self.subtype == "FLOAT",
            positions=self.positions,
        )
        self._trailer = trailer(self._wav, source.n_frames, self.account.cues())
        if container == "wav" and needs_rf64(self._wav, source.n_frames, len(self._trailer)):
            self.container = "rf64"
        self._file: Any = None
        self._is_pipe = False
        self._history_bytes = 0

    def begin(self, fd: int) -> None:
        check_room(self.out.parent, self.source.n_frames * self._wav.frame_bytes)
        self._open(os.fdopen(fd, "wb", buffering=0, closefd=False), is_pipe=False)

    def begin_pipe(self, stream: Any) -> None:
        """Opens it on anything that has `write`."""
        self._open(stream, is_pipe=True)

    def _open(self, file: Any, *, is_pipe: bool) -> None:
        self._file = file
        self._is_pipe = is_pipe
        if not is_pipe:
            self._history_bytes = len(self.account.history(with_hash=True)) + _HISTORY_ROOM
        if self.container != "raw":
            self._write_all(self._header())

    def take(self, frames: memoryview) -> None:
        self._write_all(_packed(frames) if BITS[self.subtype] == 24 else frames)

    def end(self) -> None:
        if self.container == "raw":
            return
        if not self._is_pipe:
            self._trailer = trailer(self._wav, self.source.n_frames, self.account.cues())
        self._write_all(self._trailer)
        if not self._is_pipe:
            self._file.seek(0)
            self._write_all(self._header())

    def _header(self) -> bytes:
        kind: Literal["wav", "rf64"] = "rf64" if self.container == "rf64" else "wav"
        broadcast = self.account.broadcast(with_hash=not self._is_pipe)
        n_behind = len(self._trailer)
        return header(self._wav, self.source.n_frames, broadcast, kind, n_behind, self._history_bytes)

    def _write_all(self, data: bytes | bytearray | memoryview) -> None:
        with memoryview(data) as view:
            n_done = 0
            while n_done < view.nbytes:
                n_done += self._file.write(view[n_done:])


def _packed(words: memoryview) -> bytearray:
    """The upper three bytes of each little-endian word."""
    packed = bytearray(len(words) // 4 * 3)
    for k in range(3):
        packed[k::3] = words[k + 1 :: 4]
    return packed
