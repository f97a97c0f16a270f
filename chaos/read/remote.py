"""Recordings in an object store, read like those on the disk: what is asked for is fetched into a folder of one's own.

A chunk is fetched whole, once, when something of it is read; the newest `_KEPT_BYTES` stay until the recording is
closed. The journal grows with the recording over there; `refresh` asks for it again, at most every `_AGAIN_S`.
"""

from __future__ import annotations

import math
import os
import random
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from chaos.read.take import Recording
from chaos.remote.bucket import Bucket, KeyMissing
from chaos.remote.layout import CLAIM, JOURNAL, RECORDINGS, TAKES, TakeEntry, segment_key
from chaos.store.info import RecordingInfo, SealedChunk
from chaos.store.verify import VerifyReport, verify
from chaos.system.files import replace, storage_errors
from chaos.terms.buckets import check_url
from chaos.terms.errors import InvalidRequest, RecordingNotFound, StorageFailed

__all__ = [
    "Listed", "RemoteInfo", "RemoteRecording", "is_take", "open_remote", "takes_in", "verify_info", "verify_remote",
]  # fmt: skip

_KEPT_BYTES = 256 << 20
_AGAIN_S = 5.0
_GROUP = "zarr.json"
_ENDING = ".zarr"


class RemoteInfo(RecordingInfo):
    """What is known of a recording in an object store. Alive until `close`, which removes what was fetched; what is
    fetched into a `home` of somebody's is theirs to remove.

    Raises RecordingNotFound, StorageFailed where the store can't be reached, and as RecordingInfo.
    """

    def __init__(self, bucket: Bucket, home: Path | None = None) -> None:
        self.bucket = bucket
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if home is None:
            name, _, take = bucket.url.rpartition("/")
            self._folder = tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True)
            home = Path(self._folder.name) / RECORDINGS / name.rpartition("/")[2] / take
        self._home = home
        self._has_ended = False
        self._n_fetched = self._piece = 0
        self._asked_at = 0.0
        self._kept: OrderedDict[Path, int] = OrderedDict()
        try:
            with storage_errors("make", self._home):
                self._home.mkdir(parents=True)
            self._fetch_journal()
            super().__init__(self._home)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Twice is harmless; arrays that were given out stay good."""
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def state(self) -> str:
        """"finished", or "recording" as far as is known over there."""
        return "finished" if self.finish else "recording"

    def refresh(self) -> None:
        if not self._has_ended and time.monotonic() - self._asked_at >= _AGAIN_S:
            self._fetch_journal()
        super().refresh()

    def bring(self, sealed: SealedChunk) -> None:
        path = Path(sealed.path)
        if path in self._kept:
            self._kept.move_to_end(path)
            return
        try:
            data = self.bucket.get(f"{self.definition.form.folder}/{sealed.chunk}")
        except KeyMissing:
            return  # retired before it was uploaded, or missing: who reads the file finds out
        with storage_errors("write", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self._kept[path] = len(data)
        while sum(self._kept.values()) > _KEPT_BYTES and len(self._kept) > 1:
            self._kept.popitem(last=False)[0].unlink(missing_ok=True)

    def fetch_metadata(self) -> None:
        """Fetches all but the chunks, and gives the chunks that are there a file of the same size with nothing in it,
        as far as none was fetched: so that what nobody knows is seen, and what is cut short."""
        chunks = f"{self.definition.form.folder}/"
        for key, n_bytes in list(self.bucket.objects()):
            path = self._home / key
            if key.startswith((chunks, "journal")) and not key.startswith(chunks):
                continue
            with storage_errors("write", path):
                path.parent.mkdir(parents=True, exist_ok=True)
                if not key.startswith(chunks):
                    path.write_bytes(self.bucket.get(key))
                elif not path.exists():
                    path.touch()
                    os.truncate(path, n_bytes)

    def _fetch_journal(self) -> None:
        """Appends what has come to the journal here. The group says which journal counts over there."""
        self._asked_at = time.monotonic()
        url = self.bucket.url
        try:
            group = self.bucket.get(_GROUP)
        except KeyMissing:
            hint = "chaosctl list s3://BUCKET/PREFIX shows what there is"
            raise RecordingNotFound(f"no recording at {url}", hint=hint) from None
        path = self._home / JOURNAL
        try:
            state = msgspec.json.decode(group)["attributes"]["state"]
            self._has_ended = state == "finished"
            with storage_errors("write", path):
                if self._has_ended:
                    replace(path, self.bucket.get(JOURNAL), durable=False)
                else:
                    self._fetch_pieces(path)
        except (msgspec.DecodeError, KeyError, TypeError, KeyMissing):
            raise StorageFailed(f"the recording at {url} is not complete", hint="upload it once more") from None

    def _fetch_pieces(self, path: Path) -> None:
        """Those from the last one on, which may have grown; each begins where the one before it ends."""
        with path.open("ab") as file:
            while (data := self.bucket.find(segment_key(self._piece))) is not None and data:
                new = data[self._n_fetched - self._piece :]
                file.write(new)
                self._n_fetched += len(new)
                if not self._is_followed(len(data)):
                    return
                self._piece += len(data)

    def _is_followed(self, n_bytes: int) -> bool:
        return self.bucket.size(segment_key(self._piece + n_bytes)) is not None


class RemoteRecording(Recording):
    """A recording in an object store: the same as one on the disk, of what has been uploaded."""

    def __init__(self, info: RemoteInfo) -> None:
        super().__init__(info.path, info)
        self._remote = info
        self.url = info.bucket.url

    def close(self) -> None:
        super().close()
        self._remote.close()


def open_remote(url: str) -> RemoteRecording:
    """The take in this folder of an object store (s3://bucket/prefix/recorder/recordings/name/take.START.zarr).

    Raises InvalidRequest, RecordingNotFound, StorageFailed, or Unauthorized.
    """
    return RemoteRecording(RemoteInfo(_bucket_of(url)))


def verify_remote(
    url: str, progress: Callable[[int, int], None] | None = None, share: float = 1.0
) -> VerifyReport:
    """Verifies a take in an object store: every chunk is fetched and hashed, or with `share` below 1 that share of
    them, at least one, drawn anew each time. Raises as `open_remote`.
    """
    info = RemoteInfo(_bucket_of(url))
    try:
        return verify_info(info, progress, share)
    finally:
        info.close()


def verify_info(info: RemoteInfo, progress: Callable[[int, int], None] | None, share: float) -> VerifyReport:
    """The same, of what is open."""
    info.fetch_metadata()
    report = verify(info.path, progress, info, _sample(info, share))
    return msgspec.structs.replace(report, recording=info.bucket.url)


def _sample(info: RemoteInfo, share: float) -> set[int] | None:
    if share >= 1:
        return None
    numbers = [sealed.chunk for sealed in info.chunks]
    return set(random.SystemRandom().sample(numbers, math.ceil(len(numbers) * share)))


def is_take(url: str) -> bool:
    """Whether it is the URL of a single take. Raises InvalidRequest."""
    return check_url(url).endswith(_ENDING)


def _bucket_of(url: str) -> Bucket:
    if not is_take(url):
        raise InvalidRequest(
            f"{url} is not a recording", hint=f"a recording's URL ends in {_ENDING}; chaosctl list {url} shows them"
        )
    return Bucket(url)


class Listed(NamedTuple):
    """Takes, each with its own URL; whether there are more; and the URLs of entries that can't be read."""

    takes: list[tuple[str, TakeEntry]]
    has_more: bool
    unreadable: list[str]


def takes_in(url: str, newest: int | None = None) -> Listed:
    """The takes below a URL, a recorder's or that of all, the newest `newest` of them by start. Of a take that goes on
    it says how it stood at its first upload, but for its length.

    Raises InvalidRequest, StorageFailed, Unauthorized.
    """
    bucket = Bucket(url)
    names = [] if bucket.size(CLAIM) is not None else [name for name in bucket.folders() if not name.startswith(".")]
    recorders = [f"{name}/" for name in names] or [""]  # with a dot begins what is an index over all
    keys = sorted(
        ((key.rpartition("/")[2], recorder, key) for recorder in recorders for key in _entry_keys(bucket, recorder)),
    )
    chosen = keys if newest is None else keys[-newest:]
    found, unreadable = [], []
    for _, recorder, key in chosen:
        try:
            entry = msgspec.json.decode(bucket.get(key), type=TakeEntry)
        except KeyMissing:
            continue
        except msgspec.DecodeError:
            unreadable.append(bucket.url_of(key))
            continue
        where = f"{recorder}{entry.key}"
        found.append((bucket.url_of(where), entry if entry.state == "finished" else _as_it_is(bucket, where, entry)))
    return Listed(found, len(keys) > len(chosen), unreadable)


def _entry_keys(bucket: Bucket, recorder: str) -> Iterator[str]:
    for key, _ in bucket.objects(f"{recorder}{TAKES}"):
        yield key


def _as_it_is(bucket: Bucket, where: str, entry: TakeEntry) -> TakeEntry:
    """How long a take that goes on is now."""
    try:
        arrays = msgspec.json.decode(bucket.get(f"{where}/{_GROUP}"))["consolidated_metadata"]["metadata"]
        if "audio" in arrays:
            n_frames = int(arrays["audio"]["shape"][1])
        else:
            n_frames = int(arrays["events/raw"]["shape"][0]) // entry.chunk_bytes * entry.chunk_frames
    except (msgspec.DecodeError, KeyError, IndexError, TypeError, ValueError, ZeroDivisionError, KeyMissing):
        return entry
    added_ns = (n_frames - entry.n_frames) * 1_000_000_000 // entry.sample_rate
    return msgspec.structs.replace(entry, n_frames=n_frames, ended_wall_ns=entry.ended_wall_ns + added_ns)
