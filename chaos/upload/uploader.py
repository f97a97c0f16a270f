"""The uploader: all takes of a store on their way, those that run included.

What is there already it knows from the store's own account (`chaos.store.uploaded`), never from a listing. Where the
object store can't be reached it waits, longer each time, and goes on where it was.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from chaos.protocol.uploads import Told, Uploaded, UploadState
from chaos.remote.bucket import Bucket, StoreUnreachable
from chaos.store.journal import JOURNAL_NAME
from chaos.store.store import Store
from chaos.store.uploaded import Uploads
from chaos.terms.buckets import check_recorder
from chaos.terms.errors import ChaosError, InvalidRequest, RecordingNotFound, StorageFull, Unauthorized
from chaos.upload.claim import PrefixClaim
from chaos.upload.pace import Backoff, Pace
from chaos.upload.take import TakeUpload

__all__ = ["METADATA_S", "Uploader"]

log = logging.getLogger(__name__)

METADATA_S = 60.0
_SLICE_S = 10.0
_LOOK_S = 30.0
_AGAIN_S = 600.0
_FRESH_NS = 1_000_000_000
_THREADS = 4
_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Uploader:
    """Uploads `store` to `url`, below `recorder`. `tell` is told how far it has come, on the thread of `run`.

    `metadata_s` is how often, at most, a take's metadata is replaced while it goes on.
    """

    def __init__(
        self,
        store: Store,
        url: str,
        recorder: str,
        tell: Callable[[Told], object],
        *,
        bytes_per_s: int | None = None,
        metadata_s: float = METADATA_S,
        opened: Callable[[str], Bucket] = Bucket,
    ) -> None:
        self._store = store
        self._recorder = check_recorder(recorder)
        self._prefix = f"{url.rstrip('/')}/{recorder}"
        self._tell = tell
        self._metadata_s = metadata_s
        self._opened = opened
        self._bucket: Bucket | None = None
        self._uploads = Uploads(store)
        self._claim = PrefixClaim(self._uploads, self._recorder)
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._hurry = threading.Event()  # nothing is waited for any more
        self._backoff = Backoff()
        self._pace = Pace(bytes_per_s, self._stop)
        self._pool = ThreadPoolExecutor(_THREADS, "put")
        self._folders: dict[str, int] = {}
        self._open: dict[Path, TakeUpload | None] = {}  # None: it has not been looked at
        self._due: dict[Path, float] = {}
        self._refused: dict[Path, str] = {}
        self._damaged: dict[Path, str] = {}
        self._again: dict[Path, float] = {}
        self._n_bytes = 0
        self._memory: Path | None = None  # where metadata is made while the disk is full
        self._told: UploadState | None = None
        self._is_draining = False

    # ---- from other threads

    def wake(self) -> None:
        """Something may have been sealed."""
        self._wake.set()

    def stop(self) -> None:
        """Has `run` end soon; what was not sent is sent by the next one."""
        self._stop.set()
        self._hurry.set()
        self._wake.set()

    def drain(self) -> None:
        """Has `run` end once all that is sealed is there and told of, or can't be reached."""
        self._is_draining = True
        self._hurry.set()
        self._wake.set()

    # ---- its own thread

    def run(self, *, until_done: bool = False) -> None:
        """Uploads until `stop`, or with `until_done` until all that is sealed is there: then it raises what stands in
        the way instead of waiting. Raises InvalidRequest where another recorder has the prefix, or another copy of this
        store."""
        try:
            while not self._stop.is_set():
                self._wake.clear()
                try:
                    wait_s = self.round(hurry=until_done or self._is_draining)
                except InvalidRequest as error:
                    reason = f"{error.message}: {error.hint}" if error.hint else error.message
                    self._say(UploadState("refused", reason, len(self._open), self._n_bytes))
                    raise
                except ChaosError as error:
                    if until_done:
                        raise
                    if self._is_draining:
                        return
                    if isinstance(error, Unauthorized):
                        self._bucket = None  # credentials may have been renewed where they are looked for
                    self._say(UploadState("waiting", error.message, len(self._open), self._n_bytes))
                    self._hurry.wait(self._backoff.wait_s())
                    continue
                self._backoff.reset()
                if wait_s and (until_done or self._is_draining):
                    return
                if wait_s:
                    self._say(UploadState("idle", self._why(), self._n_not_there(), self._n_bytes))
                    self._wake.wait(wait_s)
        finally:
            self.close()

    def close(self) -> None:
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)
        for take in self._open.values():
            if take is not None:
                take.close()
        self._open.clear()
        self._leave_memory()
        self._uploads.close()

    def round(self, *, hurry: bool = False) -> float:
        """Gives each take its turn; how long nothing is to be done then, 0 where there is more. `hurry`: metadata is
        told of at once."""
        self._uploads.reserve.keep()
        self._look()  # first: how many wait is told also where the bucket can't be reached
        bucket = self._claimed()
        chosen, has_more = self._next()
        for path in chosen:
            if self._stop.is_set():
                return 0.0
            try:
                has_more = self._turn(bucket, path, hurry=hurry) or has_more
                self._refused.pop(path, None)
            except RecordingNotFound:
                self._drop(path)
                self._refused.pop(path, None)
                self._damaged.pop(path, None)
                self._uploads.forget(self._prefix, path)
            except (Unauthorized, StoreUnreachable):
                raise
            except StorageFull as error:
                if self._memory is not None:
                    raise
                log.warning("%s: its metadata is made in memory meanwhile", error.message)
                self._go_to_memory()
                has_more = True
            except ChaosError as error:  # of this take alone: it is looked at again from time to time
                if hurry:
                    raise
                self._again[path] = time.monotonic() + _AGAIN_S
                if self._refused.get(path) != error.message:
                    self._refused[path] = error.message
                    log.warning("%s is not uploaded: %s", path, error.message)
        self._leave_memory()
        now = time.monotonic()
        next_due = min((due for path, due in self._due.items() if self._waits(path)), default=now + _LOOK_S)
        return 0.0 if has_more else max(0.05, min(next_due - now, _LOOK_S))

    def _next(self) -> tuple[list[Path], bool]:
        """Whose turn it is, and whether there are others: all that may go on, and of what has ended, or was not looked
        at yet, the first two and the last two found. So what begins now doesn't wait for what years have left."""
        now = time.monotonic()
        takes = {path: take for path, take in self._open.items() if self._again.get(path, 0.0) <= now}
        going = [path for path, take in takes.items() if take is not None and not take.has_ended]
        others = [path for path, take in takes.items() if take is None or take.has_ended]
        chosen = list(dict.fromkeys([*others[-2:], *others[:2]]))
        for path in others[:2]:  # another one's turn comes first next time
            self._open[path] = self._open.pop(path)
        return [*going, *chosen], len(others) > len(chosen)

    def _waits(self, path: Path) -> bool:
        """Whether something of it was sent and not told of."""
        take = self._open.get(path)
        return take is not None and not take.is_published and take.n_frames > 0

    def _turn(self, bucket: Bucket, path: Path, *, hurry: bool) -> bool:
        """Whether there is more to be sent of this take."""
        take = self._open[path]
        if take is None:
            folder = (self._memory or self._uploads.takes) / path.parent.name / path.name
            known = self._uploads.progress(self._prefix, path)
            take = TakeUpload(bucket, self._recorder, path, folder, self._pace, known)
            if take.is_external:  # its chunks are a controller's files
                self._drop(path)
                return False
            self._open[path] = take
            self._due[path] = 0.0
        take.bucket = bucket
        if take.has_more():
            until = time.monotonic() + _SLICE_S
            take.send(self._pool, lambda: self._stop.is_set() or time.monotonic() > until)
        more = take.has_more()
        if more:
            self._say(UploadState("uploading", "", len(self._open), self._n_bytes))
        is_over = take.has_ended and not more
        is_due = is_over or (hurry and not more) or time.monotonic() >= self._due[path]
        is_worth_it = take.has_ended or take.n_frames > 0
        if is_due and is_worth_it and not take.is_published and not (more and take.is_behind):
            self._publish(take)
        self._note_damaged(path, take)
        if is_over and take.is_published:
            self._drop(path)
        return more

    def _go_to_memory(self) -> None:
        """The disk takes nothing more until what is there already is retired: takes begin again, without it."""
        for path, take in self._open.items():
            if take is not None:
                take.close()
                self._open[path] = None
        self._memory = Path(tempfile.mkdtemp(prefix="chaos-upload-", dir=_MEMORY))

    def _leave_memory(self) -> None:
        """Back to the disk with the takes that come next, once no take is in memory."""
        if self._memory is not None and not any(self._open.values()):
            shutil.rmtree(self._memory, ignore_errors=True)
            self._memory = None

    def _publish(self, take: TakeUpload) -> None:
        before = take.progress.n_bytes
        progress = take.publish()
        self._uploads.note(self._prefix, take.path, progress)
        self._due[take.path] = time.monotonic() + self._metadata_s
        self._n_bytes += progress.n_bytes - before
        self._tell(
            Uploaded(
                take.uri, str(take.path), progress.sure_frame, progress.is_complete, progress.n_bytes, take.n_absent
            )
        )

    def _note_damaged(self, path: Path, take: TakeUpload) -> None:
        """Says once which chunks of this take can't be uploaded."""
        if not (damaged := take.damaged):
            self._damaged.pop(path, None)
            return
        which = ", ".join(map(str, damaged[:8])) + (" and more" if len(damaged) > 8 else "")
        reason = (
            f"chunk {which} of {take.uri} can't be uploaded, as it is damaged or missing here:"
            f" see chaosctl verify {take.uri}"
        )
        if self._damaged.get(path) != reason:
            self._damaged[path] = reason
            log.warning("%s", reason)

    def _claimed(self) -> Bucket:
        """The bucket, once it is sure that the prefix is this store's."""
        bucket = self._bucket or self._opened(self._prefix)
        self._claim.check(bucket)
        self._bucket = bucket
        return bucket

    def _look(self) -> None:
        """Finds takes that have come since. What has come and is all there is not among the open ones."""
        found = self._store.names()
        now_ns = time.time_ns()
        for name, mtime_ns in found.items():
            if self._folders.get(name) == mtime_ns:
                continue
            for take in self._store.takes(name):
                path = self._store.place(name, take)
                if path not in self._open and not self._is_there(path):
                    self._open[path] = None
            if now_ns - mtime_ns > _FRESH_NS:  # what comes in the same tick of the clock wouldn't show
                self._folders[name] = mtime_ns

    def _is_there(self, path: Path) -> bool:
        known = self._uploads.progress(self._prefix, path)
        with suppress(OSError):
            found = (path / JOURNAL_NAME).stat()
            is_as_it_was = known is not None and (found.st_mtime_ns, found.st_size) == (known.mtime_ns, known.n_read)
            return known is not None and known.is_complete and is_as_it_was
        return True  # gone meanwhile

    def _why(self) -> str:
        return "; ".join(sorted({*self._refused.values(), *self._damaged.values()})[:3])

    def _n_not_there(self) -> int:
        """How many takes can't be uploaded as they are."""
        return len(self._refused.keys() | self._damaged.keys())

    def _say(self, state: UploadState) -> None:
        if state != self._told:
            self._told = state
            self._tell(state)

    def _drop(self, path: Path) -> None:
        take = self._open.pop(path, None)
        self._due.pop(path, None)
        if take is not None:
            take.close()
