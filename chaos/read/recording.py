"""Recordings as numpy arrays: `open` finds them by URI, folder or URL."""

from __future__ import annotations

from pathlib import Path

from chaos.read.stream import StreamRecording
from chaos.read.take import Recording
from chaos.store.store import Store
from chaos.terms.buckets import is_remote_url

__all__ = ["Recording", "StreamRecording", "open"]


def open(what: str | Path, store: Path | None = None) -> Recording:  # noqa: A001
    """The recording of a stream URI, looked for in `store` (by default the user's), or in a `.zarr` folder,
    or at its URL in an object store (s3://bucket/prefix/recorder/recordings/name/take; .../take.START.zarr is a single
    take).

    A stream that has rolled is all its takes, on one timeline; `stream://name/take.0001` and so on are single takes.
    Raises RecordingNotFound, InvalidURI, InvalidRequest where the takes differ in format, or StorageFailed if a journal
    can't be read.
    """
    if isinstance(what, str) and is_remote_url(what):
        from chaos.read.remotestream import open_there

        return open_there(what)
    if isinstance(what, str) and "://" in what:
        if store is None:
            from chaos.protocol.config import Config

            store = Config().store
        return _of_stream(Store(store), what)
    return Recording(Path(what))


def _of_stream(store: Store, uri: str) -> Recording:
    from chaos.store.takes import take_paths

    paths = take_paths(store, uri)
    if len(paths) == 1:
        return Recording(paths[0])
    return StreamRecording(store, uri)
