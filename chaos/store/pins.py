"""Pins: what retention has to leave alone. A pin is a file in the store's `pins`, and lasts until `unpin`."""

from __future__ import annotations

import errno
import logging
import re
from pathlib import Path

import msgspec

from chaos.store.holds import held
from chaos.store.info import RecordingInfo
from chaos.store.slices import ChunkSpan, chunk_spans
from chaos.store.store import Store
from chaos.system.files import IRREGULAR, make_folders, read_regular, replace, storage_errors
from chaos.terms.errors import RecordingNotFound
from chaos.terms.uri import parse_uri

__all__ = ["RETENTION", "Pin", "pin", "pinned_hashes", "pins", "unpin"]

RETENTION = "retention"
"""The lock under which it is decided what stays and what goes."""
_MOST_BYTES = 1 << 30
_NO_PIN = frozenset({*IRREGULAR, errno.EFBIG})
_HASH = re.compile(rb"[0-9a-f]{64}")
log = logging.getLogger(__name__)


class Pin(msgspec.Struct, frozen=True):
    """A range of a recording whose chunks stay, whatever retention says, until `unpin`.

    Of a stream of several takes frames count on its timeline; a chunk's number is that in its take.
    """

    name: str
    uri: str
    first_frame: int
    n_frames: int
    chunks: list[ChunkSpan]


def pins(store: Store) -> list[Pin]:
    """All pins of a store, by name, but for damaged ones."""
    found = []
    for path in _pin_files(store):
        try:
            found.append(_read_pin(path))
        except OSError as error:
            log.warning("the pin %s can't be read: %s", path, error.strerror)
    return [each for each in found if isinstance(each, Pin)]


def _pin_files(store: Store) -> list[Path]:
    return sorted(store.pins.glob("*.json"))


def _read_pin(path: Path) -> Pin | bytes:
    """The pin, or the bytes of a damaged one. Raises OSError."""
    raw = read_regular(path, _MOST_BYTES, follow=True)
    try:
        return msgspec.json.decode(raw, type=Pin)
    except ValueError:
        log.warning("the pin %s is damaged: only the chunks whose hashes can still be read in it are kept", path)
        return raw


def pinned_hashes(store: Store) -> set[str]:
    """The hashes of all chunks that are pinned or being read. Of a damaged pin, those that still stand in it; what is
    not even a file is none.

    Raises StorageFailed where one can't be read: nobody knows then what has to stay.
    """
    hashes = held(store)
    for path in _pin_files(store):
        try:
            found = _read_pin(path)
        except OSError as error:
            if error.errno in _NO_PIN or (path.is_symlink() and not path.exists()):
                log.warning("%s keeps nothing: %s", path, error.strerror)
                continue
            if not path.exists():  # unpinned meanwhile
                continue
            with storage_errors("read", path):
                raise
        if isinstance(found, Pin):
            hashes.update(span.hash for span in found.chunks)
        else:
            hashes.update(digest.decode() for digest in _HASH.findall(found))
    return hashes


def pin(store: Store, name: str, what: RecordingInfo | str, first_frame: int, end_frame: int) -> Pin:
    """Keeps the sealed chunks that hold frames [first_frame, end_frame) of a recording, or of what a URI stands for: a
    stream's are those of all its takes. A pin of that name is replaced.

    Raises InvalidURI for a name that can't be part of a URI, StorageFull or StorageFailed; for a URI also what
    `takes_of` does.
    """
    path = _pin_path(store, name)
    with store.locked(RETENTION), storage_errors("pin", path):
        uri, spans = _spans(store, what, first_frame, end_frame)
        made = Pin(name, uri, first_frame, end_frame - first_frame, spans)
        make_folders(path.parent)
        is_replaced = path.exists()
        replace(path, msgspec.json.encode(made))
    if is_replaced:
        _wake(store)
    return made


def _spans(store: Store, what: RecordingInfo | str, first: int, end: int) -> tuple[str, list[ChunkSpan]]:
    if isinstance(what, str):
        from chaos.store.stretch import spans_in
        from chaos.store.takes import takes_of

        return what, spans_in(takes_of(store, what), first, end)
    what.refresh()
    return what.definition.uri, chunk_spans(what, first, end)


def unpin(store: Store, name: str) -> None:
    """Raises RecordingNotFound if there is no such pin."""
    path = _pin_path(store, name)
    if not path.exists():
        names = ", ".join(each.name for each in pins(store)) or "none"
        raise RecordingNotFound(f"there is no pin {name}", hint=f"pinned: {names}")
    with storage_errors("unpin", path):
        path.unlink()
    _wake(store)


def _wake(store: Store) -> None:
    """A pin has ended: what waited for that is looked at again."""
    from chaos.store.catalog import Catalog  # SQLite is loaded where it is used
    from chaos.store.due import Due

    with Catalog(store) as catalog:
        Due(catalog).wake()


def _pin_path(store: Store, name: str) -> Path:
    parse_uri(f"stream://pin/{name}")
    return store.pins / f"{name}.json"
