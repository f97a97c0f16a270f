"""What the daemon does with recordings: list, recover, verify, slice, retire; all of it beside it, as it takes long.

What does the work is loaded by the thread that does it: chaosd answers before that.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaos.engine.messages import refuse, settle
from chaos.engine.supervised import as_chaos_error
from chaos.engine.view import StreamView
from chaos.protocol.answers import Marked
from chaos.protocol.config import Config
from chaos.protocol.requests import RecordingList, Retire, SetMark, Slice, Verify
from chaos.store.info import load
from chaos.store.places import Places
from chaos.store.store import Store
from chaos.system.workers import Workers
from chaos.terms.errors import StorageFailed
from chaos.terms.moments import Time, wall_ns_of
from chaos.terms.units import parse_keep

if TYPE_CHECKING:
    from chaos.export.jobs import Slicer
    from chaos.store.catalog import Catalog
    from chaos.store.kept import Kept
    from chaos.store.recovery import RecoveryReport
    from chaos.store.retention import Retired
    from chaos.store.verify import VerifyReport

__all__ = ["Recordings"]

_FINISH_S = 1.0  # for tasks that are under way at the end
WORKERS = 4


class Recordings:
    """Carries out requests, each on a thread of its own, until `close`, which breaks off slices.

    To be called on the daemon's thread, where nothing asks the disk: one that hangs costs its own requests alone.
    `running(uri)` gives the view of a stream that runs. `on_retired` is told what was retired and
    `on_doubt` why something was not, on other threads.
    """

    def __init__(
        self,
        config: Config,
        running: Callable[[str], StreamView | None],
        on_retired: Callable[[list[Retired]], object],
        on_doubt: Callable[[Kept], object],
    ) -> None:
        self._config = config
        self._running = running
        self._on_retired = on_retired
        self._on_doubt = on_doubt
        self._store = Store(config.store)
        self._lock = threading.Lock()
        self._opened: Catalog | None = None
        self._is_closed = False
        self._places = Places(self._store, config.allow_paths)
        self._slicing: Slicer | None = None
        self._is_closed = False
        self._workers = Workers(WORKERS, "long")

    def catalog(self) -> Catalog:
        """For the threads of the pool, which load SQLite."""
        with self._lock:
            if self._opened is None:
                from chaos.store.catalog import Catalog

                self._opened = Catalog(self._store)
            return self._opened

    @property
    def _slicer(self) -> Slicer:
        from chaos.export.jobs import Slicer

        with self._lock:
            if self._slicing is None:
                self._slicing = Slicer(self._store.slices)
                if self._is_closed:
                    self._slicing.close()
            return self._slicing

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            slicing = self._slicing
        if slicing is not None:
            slicing.close()
        self._workers.close(_FINISH_S)
        self._is_closed = True
        self._close_catalog()

    def _close_catalog(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def work(self, future: Future[Any], work: Callable[[], Any]) -> None:
        """Answers with what `work` gives or raises."""

        def settled() -> None:
            try:
                settle(future, work())
            except OSError as error:
                refuse(future, _as_storage_failed(error))
            except Exception as error:
                refuse(future, as_chaos_error(error))
            if self._is_closed:  # a task that outlived `close` may have opened it again
                self._close_catalog()

        try:
            self._workers.submit(settled)
        except RuntimeError as error:  # no thread can be started
            refuse(future, as_chaos_error(error))

    def list_all(self, request: RecordingList, future: Future[Any]) -> None:
        def found() -> dict[str, Any]:
            from chaos.store.summary import summaries

            self._store.check()
            entries = self.catalog().entries(
                uri=request.uri,
                device=request.device,
                since_ns=None if request.since is None else wall_ns_of(request.since),
                until_ns=None if request.until is None else wall_ns_of(request.until),
                limit=request.limit,
            )
            return {"recordings": summaries(self._store, entries)}

        self.work(future, found)

    def recover(self, staging_dir: Path, brought_in: Future[RecoveryReport], rechecked: Future[RecoveryReport]) -> None:
        """Brings in what dead daemons left, and then, when captures may begin, looks after what is finished."""

        def bring_all_in() -> RecoveryReport:
            from chaos.store.recovery import bring_in

            return bring_in(self._store, staging_dir, self.catalog())

        def look_again() -> RecoveryReport:
            import chaos.engine.stream  # noqa: F401  what a start needs is there before one comes
            from chaos.store.recovery import recheck

            return recheck(self.catalog())

        brought_in.add_done_callback(lambda _: self.work(rechecked, look_again))
        self.work(brought_in, bring_all_in)

    def verify(self, request: Verify, future: Future[Any]) -> None:
        def report() -> VerifyReport:
            from chaos.store.verify import verify_uri

            return verify_uri(self._store, request.uri)

        self.work(future, report)

    def mark(self, request: SetMark, future: Future[Any]) -> None:
        """Of a recording that has ended."""

        def work() -> Marked:
            from chaos.store.marking import mark_in

            path, mark = mark_in(self._store, request.uri, request.frame, request.label)
            return Marked(request.uri, str(path), mark.frame, mark.label)

        self.work(future, work)

    def _is_low(self) -> bool:
        try:
            return shutil.disk_usage(self._config.store).free < self._config.free_margin_bytes
        except OSError:
            return False

    def slice(self, request: Slice, future: Future[Any]) -> None:
        first, end = request.from_, request.to
        how = request.container, request.gaps, request.subtype
        view = self._running(request.uri)

        def found() -> dict[str, Any]:
            from chaos.store.slices import virtual
            from chaos.store.takes import take_paths

            *_, newest = paths = take_paths(self._store, request.uri)
            if len(paths) == 1 and not newest.exists():
                newest = self._store.existing(request.uri)
            if request.output == "virtual":
                return self._virtual(request.uri, first, end) if len(paths) > 1 else virtual(load(newest), first, end)
            out = None if request.path is None else self._places.permit(request.path)
            head = view.head_frame if view is not None and view.recording == str(newest) else 0
            if len(paths) > 1:
                running = (newest, head) if head else None
                return self._slicer.materialize_stream(self._store, request.uri, first, end, running, out, *how)
            return self._slicer.materialize(newest, first, end, head, out, *how)

        self.work(future, found)

    def _virtual(self, uri: str, first: Time, end: Time) -> dict[str, Any]:
        from chaos.store.stretch import virtual_in
        from chaos.store.takes import takes_of

        return virtual_in(takes_of(self._store, uri), first, end)

    def retire(self, request: Retire, future: Future[Any]) -> None:
        """For somebody who asked, and so is told why something stays."""
        self._retire(request, future, afresh=True)

    def retire_regularly(self, future: Future[Any]) -> None:
        """What is due by what was configured."""
        self._retire(Retire(), future, afresh=False)

    def _retire(self, request: Retire, future: Future[Any], *, afresh: bool) -> None:
        chosen = request.keep or self._config.keep
        keep = None if chosen is None else parse_keep(chosen)

        def work() -> dict[str, Any]:
            from chaos.store.retention import limits, plan, retire

            self._store.check()
            kept: list[Kept] = []
            catalog = self.catalog()
            if request.dry_run:
                found = plan(self._store, keep, on_kept=kept.append, catalog=catalog, afresh=afresh)
            else:
                found = retire(self._store, keep, on_kept=kept.append, catalog=catalog, afresh=afresh)
                self._on_retired(found)
                for each in kept:
                    if each.reason == "doubt" or (each.reason == "not_uploaded" and self._is_low()):
                        self._on_doubt(each)
            own = limits(catalog)
            return {"retired": [each.to_wire() for each in found], "kept": kept, "keep": chosen, "stream_keeps": own}

        self.work(future, work)


def _as_storage_failed(error: OSError) -> StorageFailed:
    """The store is not what it was: gone, or a file or a link in its place. No defect of ours."""
    where = f": {error.filename}" if error.filename else ""
    return StorageFailed(f"{error.strerror or error}{where}", hint="`chaosctl status` says where the store is")
