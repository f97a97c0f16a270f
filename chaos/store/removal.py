"""Removing a whole recording, because somebody said so: not retention's work, and it leaves no ledger."""

from __future__ import annotations

import shutil

import msgspec

from chaos.store.holds import held
from chaos.store.info import RecordingInfo, load
from chaos.store.journal import JOURNAL_NAME, Journal
from chaos.store.pins import pins
from chaos.store.retired import gone_chunks
from chaos.store.store import Store
from chaos.system.files import storage_errors, sync_folder
from chaos.terms.errors import InvalidRequest, StreamExists

__all__ = ["Removal", "removable", "remove"]


class Removal(msgspec.Struct, frozen=True):
    """A recording that goes, or went. Files of a controller's (`chunk_path`) stay, and are not counted."""

    uri: str
    recording: str
    n_frames: int
    n_chunks: int
    n_bytes: int


def removable(store: Store, uri: str) -> Removal:
    """What would go with the recording of exactly this URI (see `take_uris` for a stream's).

    Raises RecordingNotFound, InvalidURI, StreamExists while it is being recorded, and InvalidRequest where it is
    pinned, being read or waits to be recovered.
    """
    return _removal(_checked(store, uri))


def remove(store: Store, uri: str) -> Removal:
    """Removes the recording: at once for all who look for it, then its files.

    Raises what `removable` does, StorageFull and StorageFailed. What of the files is left then, or when the process is
    killed, nobody takes for a recording any more: recovery and retention remove it.
    """
    info = _checked(store, uri)
    removal = _removal(info)
    journal = Journal.reopen(info.path / JOURNAL_NAME)
    try:
        hidden = store.hidden(info.path)
        with storage_errors("remove", info.path):
            info.path.rename(hidden)
            sync_folder(hidden.parent)
            shutil.rmtree(hidden)
            for digest in set() if info.definition.external else {sealed.hash for sealed in info.chunks}:
                store.objects.drop(digest)
    finally:
        journal.close()
    return removal


def _checked(store: Store, uri: str) -> RecordingInfo:
    info = load(store.existing(uri))
    if info.is_live:
        raise StreamExists(f"{uri} is being recorded", hint=f"stop it first: chaosctl stop {uri}")
    if not info.finish:
        raise InvalidRequest(f"{uri} was interrupted and not recovered yet", hint="run: chaosctl recover")
    hashes = {sealed.hash for sealed in info.chunks}
    names = [pin.name for pin in pins(store) if not hashes.isdisjoint(span.hash for span in pin.chunks)]
    if names:
        raise InvalidRequest(
            f"{uri} has pinned audio: {', '.join(names)}", hint=f"remove the pin first: chaosctl unpin {names[0]}"
        )
    if not hashes.isdisjoint(held(store)):
        raise InvalidRequest(f"{uri} is being saved by another program", hint="try again when that has ended")
    return info


def _removal(info: RecordingInfo) -> Removal:
    n_chunks = 0 if info.definition.external else len(info.chunks) - len(gone_chunks(info))
    n_bytes = n_chunks * info.definition.form.chunk_bytes
    return Removal(info.definition.uri, str(info.path), info.n_frames, n_chunks, n_bytes)
