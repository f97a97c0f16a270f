"""A stream of several takes in an object store, by one URL: as on the disk, all of it on one timeline.

    s3://bucket/prefix/recorder/recordings/NAME/TAKE          without the moment and the .zarr that a single take has

Where the URI was used again after its recordings were removed, it is the newest that counts.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from chaos.read.remote import RemoteInfo, RemoteRecording, is_take, open_remote, verify_info, verify_remote
from chaos.read.stream import StreamRecording
from chaos.read.take import Recording
from chaos.remote.bucket import Bucket
from chaos.remote.layout import RECORDINGS
from chaos.store.store import Store
from chaos.store.takes import Take, takes_of
from chaos.store.verdict import VerifyReport, joined
from chaos.terms.buckets import check_url
from chaos.terms.errors import InvalidRequest, RecordingNotFound
from chaos.terms.ledger import Gap

__all__ = ["RemoteStream", "open_there", "verify_there"]

_AGAIN_S = 5.0
_FOLDER = re.compile(r"(?P<take>.+)\.(?P<started>\d{8}T\d{6}\.\d{6}Z)\.zarr")


class _Home(NamedTuple):
    """Where the takes of a stream are over there, and the folder that they are fetched to."""

    bucket: Bucket
    name: str
    take: str
    store: Store

    @property
    def uri(self) -> str:
        return f"stream://{self.name}/{self.take}"

    def found(self) -> Iterator[tuple[Path, str]]:
        """The takes that are there, each with the folder it is fetched to and its key; none where there is none."""
        pattern = re.compile(re.escape(self.take) + r"(\.\d{4,})?")
        folders = [_FOLDER.fullmatch(each) for each in self.bucket.folders(f"{RECORDINGS}/{self.name}")]
        ours = [each for each in folders if each is not None and pattern.fullmatch(each["take"])]
        newest = {each["take"]: each for each in sorted(ours, key=lambda each: each["started"])}
        began = newest[self.take]["started"] if self.take in newest else ""
        for take, each in newest.items():
            if each["started"] >= began:
                yield self.store.place(self.name, take), f"{RECORDINGS}/{self.name}/{each[0]}"


class RemoteStream(StreamRecording):
    """All takes of a stream in an object store, as far as they have been uploaded."""

    def __init__(self, url: str) -> None:
        self.url = check_url(url)
        self._folder = tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True)
        self._infos: dict[Path, RemoteInfo] = {}
        self._asked_at = 0.0
        try:
            self._home = _home(self.url, Path(self._folder.name))
            super().__init__(self._home.store, self._home.uri)
        except BaseException:
            self._folder.cleanup()
            raise

    def _found(self) -> list[Take]:
        if time.monotonic() - self._asked_at >= _AGAIN_S:
            self._asked_at = time.monotonic()
            for path, key in self._home.found():
                if path not in self._infos:
                    self._infos[path] = RemoteInfo(Bucket(self._home.bucket.url_of(key)), path)
        if not self._infos:
            raise RecordingNotFound(f"no recording at {self.url}", hint="chaosctl list s3://BUCKET/PREFIX shows them")
        return takes_of(self._store, self._stream_uri)

    def _recording(self, take: Take) -> Recording:
        if take.path not in self._open:
            self._open[take.path] = RemoteRecording(self._infos[take.path])
        return self._open[take.path]

    def _gaps_in(self, take: Take) -> list[Gap]:
        return self._recording(take).gaps  # its journal is here, its table is not

    def close(self) -> None:
        super().close()
        self._folder.cleanup()


def _home(url: str, folder: Path) -> _Home:
    """Raises InvalidRequest where a URL is not that of a stream."""
    root, *parts = url.rsplit("/", 3)
    if len(parts) != 3 or parts[0] != RECORDINGS:
        raise InvalidRequest(
            f"{url} is not a recording",
            hint=f"a take's URL ends in .zarr, a stream's in /{RECORDINGS}/NAME/TAKE; chaosctl list {url} shows takes",
        )
    return _Home(Bucket(root), parts[1], parts[2], Store(folder))


def open_there(url: str) -> Recording:
    """The take or the stream at this URL. Raises InvalidRequest, RecordingNotFound, StorageFailed, or Unauthorized."""
    return open_remote(url) if is_take(url) else RemoteStream(url)


def verify_there(
    url: str, progress: Callable[[int, int], None] | None = None, share: float = 1.0
) -> VerifyReport:
    """Verifies the take or all takes of the stream at this URL, as `chaos.read.remote.verify_remote` does one."""
    if is_take(url):
        return verify_remote(url, progress, share)
    with RemoteStream(url) as stream:
        takes = takes_of(stream._store, stream._stream_uri, alike=False)
        n_all, n_before = sum(take.digest.n_chunks for take in takes), 0
        reports = []
        for take in takes:
            advance = None if progress is None else partial(_advance, progress, n_before, n_all)
            reports.append((take, verify_info(stream._infos[take.path], advance, share)))
            n_before += reports[-1][1].n_chunks
        if len(reports) == 1:
            return reports[0][1]
        return msgspec.structs.replace(joined(stream.uri, reports), recording=stream.url)


def _advance(progress: Callable[[int, int], None], n_before: int, n_all: int, n_done: int, _: int) -> None:
    progress(n_before + n_done, max(n_all, n_before + n_done))
