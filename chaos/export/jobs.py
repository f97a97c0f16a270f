"""Slices for clients of the daemon. Files are written by a process of their own: the daemon has no numpy, stays small,
and its threads stay free.

That process takes one `Job` as JSON on stdin and answers with one line of JSON: the report, or the error.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Literal

import msgspec

from chaos.protocol.requests import Slice
from chaos.store.info import load
from chaos.store.slices import chunk_spans, gaps_in, resolve
from chaos.system.files import make_folders, storage_errors
from chaos.terms.errors import ChaosError, InternalError, InvalidRequest, PathNotAllowed, error_from_code

__all__ = ["Job", "Slicer"]

_NICE = 10
_PR_SET_PDEATHSIG = 1


class Job(msgspec.Struct, frozen=True):
    """What the process is to write: frames of the recording at this path to the file `out`."""

    recording: str
    out: str
    first_frame: int
    n_frames: int
    gaps: Literal["zeros", "cut", "nan"]
    container: str | None


class _Done(msgspec.Struct, omit_defaults=True):
    report: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class Slicer:
    """Answers `slice` requests, from any thread, until `close`, which breaks off what is being written.

    Files that no path is given for go to `folder`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def slice(self, request: Slice, recording: Path, out: Path | None, head: int) -> dict[str, Any]:
        """The result of the request. `head` is the running stream's, 0 for one that has ended.

        A virtual slice has what is sealed or in a gap, and its head is the end of that. Raises InvalidRange,
        InvalidRequest, PathNotAllowed for a path that is taken, and what `chaos.export.audio.save` raises.
        """
        info = load(recording)
        if request.output == "virtual":
            if request.path or request.container:
                raise InvalidRequest("a virtual slice has no file", hint='ask for "materialize", or leave out the path')
            first, end = resolve(info, request.from_, request.to, info.n_frames)
            return {
                "first_frame": first,
                "n_frames": end - first,
                "chunks": chunk_spans(info, first, end),
                "gaps": [gap.to_wire() for gap in gaps_in(info.gaps, first, end)],
            }
        first, end = resolve(info, request.from_, request.to, max(head, info.n_frames))
        if out is None:
            stem = request.uri.removeprefix("stream://").replace("/", "-")
            out = self._folder / f"{stem}-{first}-{end}.{request.container or 'wav'}"
        if out.exists():
            raise PathNotAllowed(f"{out} exists and is left as it is", hint="name a new file")
        with storage_errors("make the folder", out.parent):
            make_folders(out.parent)
        report = self._write(Job(str(recording), str(out), first, end - first, request.gaps, request.container))
        return {**report, "chunks": chunk_spans(load(recording), first, end)}

    def _write(self, job: Job) -> dict[str, Any]:
        command = [sys.executable, "-m", "chaos.export.jobs"]
        stopping = InvalidRequest("chaosd is stopping", hint="start it again first")
        with self._lock:
            if self._closed:
                raise stopping
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._running.add(child)
        try:
            answer, _ = child.communicate(msgspec.json.encode(job))
        finally:
            with self._lock:
                self._running.discard(child)
        try:
            done = msgspec.json.decode(answer, type=_Done)
        except msgspec.DecodeError:
            if self._closed:
                raise stopping from None
            raise InternalError(
                f"the export of {job.out} broke off (exit code {child.returncode})", hint="the daemon's log has more"
            ) from None
        if done.error is not None:
            error = done.error
            raise error_from_code(error["code"], error["message"], error["hint"], error["details"])
        return done.report or {}

    def close(self) -> None:
        """Breaks off what is being written; nothing of it stays."""
        with self._lock:
            self._closed = True
            for child in self._running:
                child.terminate()


def main() -> None:
    """One job, from stdin to stdout. It steps back behind capture, and ends with the daemon."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.nice(_NICE)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    sys.stdout.buffer.write(msgspec.json.encode(_carry_out(job)))


def _carry_out(job: Job) -> _Done:
    from chaos.export.audio import save
    from chaos.read.recording import open as open_recording

    try:
        with open_recording(job.recording) as recording:
            out = Path(job.out)
            report = save(recording, out, job.first_frame, job.n_frames, job.gaps, job.container)
        return _Done(report=msgspec.to_builtins(report))
    except ChaosError as error:
        return _Done(error=error.to_wire())


if __name__ == "__main__":
    main()
