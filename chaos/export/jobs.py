"""Slices that the daemon writes for its clients, in a process of their own: the daemon has no numpy, stays small, and
its threads stay free.

That process takes one `Job` as JSON on stdin and answers with one line of JSON: the report, or the error.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from chaos.export.hidden import sweep
from chaos.store.info import load
from chaos.store.lines import Definition
from chaos.store.slices import chunk_spans, resolve
from chaos.store.store import Store
from chaos.system.files import is_taken, storage_errors
from chaos.system.folders import held_folder
from chaos.terms.containers import Container, GapFill, Subtype
from chaos.terms.errors import ChaosError, InternalError, InvalidRequest, PathNotAllowed, error_from_code
from chaos.terms.form import MidiForm
from chaos.terms.moments import Time

__all__ = ["Job", "Slicer"]

_NICE = 10
_PR_SET_PDEATHSIG = 1


class Job(msgspec.Struct, frozen=True):
    """What the process is to write: frames of the recording at this path, or of the stream of this URI in `store`, to
    the file `out`."""

    recording: str
    out: str
    first_frame: int
    n_frames: int
    gaps: GapFill
    container: Container | None
    subtype: Subtype | None
    store: str | None = None


class _Done(msgspec.Struct, omit_defaults=True):
    report: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class Slicer:
    """Writes slices as files, from any thread, until `close`, which breaks off what is being written.

    Files that no path is given for go to `folder`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def materialize(
        self,
        recording: Path,
        first: Time,
        end: Time,
        head: int = 0,
        out: Path | None = None,
        container: Container | None = None,
        gaps: GapFill = "zeros",
        subtype: Subtype | None = None,
    ) -> dict[str, Any]:
        """The result of a `slice` request. `head` is the running stream's, 0 for one that has ended.

        Raises InvalidRange, InvalidRequest, PathNotAllowed for a path that is taken, and what `save` raises.
        """
        info = load(recording)
        begin, stop = resolve(info, first, end, max(head, info.n_frames))
        job = Job(str(recording), "", begin, stop - begin, gaps, container, subtype)
        report = self._write_to(out, job, info.definition.uri, _ending_of(info.definition))
        return {**report, "chunks": chunk_spans(load(recording), begin, stop)}

    def materialize_stream(
        self,
        store: Store,
        uri: str,
        first: Time,
        end: Time,
        head: tuple[Path, int] | None = None,
        out: Path | None = None,
        container: Container | None = None,
        gaps: GapFill = "zeros",
        subtype: Subtype | None = None,
    ) -> dict[str, Any]:
        """As `materialize`, of a stream of several takes; `head` is the take that runs, and its own head."""
        from chaos.store.stretch import head_of, resolve_in, spans_in
        from chaos.store.takes import takes_of

        takes = takes_of(store, uri)
        reached = head_of(takes)
        if head is not None and head[0] == takes[-1].path:
            reached = max(reached, takes[-1].origin + head[1])
        begin, stop = resolve_in(takes, first, end, reached)
        job = Job(uri, "", begin, stop - begin, gaps, container, subtype, str(store.root))
        report = self._write_to(out, job, uri, _ending_of(takes[-1].digest.definition))
        return {**report, "chunks": spans_in(takes_of(store, uri), begin, stop)}

    def _write_to(self, out: Path | None, job: Job, uri: str, otherwise: Container) -> dict[str, Any]:
        """Does the job into a file that is not there yet, in a folder that is held meanwhile; without a
        name of its own it is `otherwise`."""
        if out is None:
            stem = uri.removeprefix("stream://").replace("/", "-")
            end = job.first_frame + job.n_frames
            out = self._folder / f"{stem}-{job.first_frame}-{end}.{job.container or otherwise}"
        if is_taken(out):
            raise PathNotAllowed(f"{out} exists already", hint="choose another path, or remove that file first")
        with ExitStack() as stack:
            with storage_errors("make the folder", out.parent):
                folder = stack.enter_context(held_folder(out.parent.resolve(), make=True))
            report = self._write(msgspec.structs.replace(job, out=str(folder / out.name)), int(folder.name), out)
        return {**report, "path": str(out)}

    def _write(self, job: Job, folder_fd: int, out: Path) -> dict[str, Any]:
        command = [sys.executable, "-I", "-m", "chaos.export.jobs"]  # -I: from no folder, and no variable, of others
        stopping = InvalidRequest("chaosd is stopping", hint="start it again with: chaosd")
        with self._lock:
            if self._closed:
                raise stopping
            child = subprocess.Popen(
                command, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[folder_fd]
            )
            self._running.add(child)
        try:
            answer, _ = child.communicate(msgspec.json.encode(job))
        finally:
            with self._lock:
                self._running.discard(child)
            if child.returncode != 0:
                sweep(Path(job.out).parent)
        try:
            done = msgspec.json.decode(answer, type=_Done)
        except msgspec.DecodeError:
            if self._closed:
                raise stopping from None
            raise InternalError(
                f"writing {out} failed (exit code {child.returncode})", hint="chaosd's log says why"
            ) from None
        if done.error is not None:
            error = done.error
            message = error["message"].replace(job.out, str(out))
            raise error_from_code(error["code"], message, error["hint"], error["details"])
        return done.report or {}

    def close(self) -> None:
        """Breaks off what is being written; nothing of it stays once `materialize` has raised."""
        with self._lock:
            self._closed = True
            for child in self._running:
                child.terminate()


def _ending_of(definition: Definition) -> Container:
    return "mid" if isinstance(definition.form, MidiForm) else "wav"


def main() -> None:
    """One job, from stdin to stdout. It steps back behind capture, and ends with the daemon."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.nice(_NICE)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    sys.stdout.buffer.write(msgspec.json.encode(_carry_out(job)))


def _carry_out(job: Job) -> _Done:
    from chaos.export.save import save
    from chaos.read.recording import open as open_recording

    try:
        with open_recording(job.recording, Path(job.store) if job.store else None) as recording:
            out = Path(job.out)
            report = save(recording, out, job.first_frame, job.n_frames, job.gaps, job.container, subtype=job.subtype)
        return _Done(report=msgspec.to_builtins(report))
    except ChaosError as error:
        return _Done(error=error.to_wire())


if __name__ == "__main__":
    main()
