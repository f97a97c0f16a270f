"""Takes that a crash ended, and the next take of that device: what it says of the time between them.

Recovery leaves a note beside the takes of a name, by the device; the next take of the name and device takes it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from chaos.store.lines import Definition
from chaos.store.store import Store
from chaos.system.files import read_regular, replace, storage_errors

__all__ = ["Ended", "ended", "forget_note", "leave_note", "succeed"]


class Ended(msgspec.Struct, frozen=True):
    """A take that ended without being stopped, and the moment of its end on both clocks."""

    uri: str
    device: str
    boot_id: str
    monotonic_ns: int
    wall_ns: int


def leave_note(store: Store, ended: Ended) -> None:
    """Raises StorageFull or StorageFailed."""
    path = _note_path(store, ended.uri)
    others = [each for each in _notes(path) if each.device != ended.device]
    with storage_errors("note the end of a take in", path):
        replace(path, msgspec.json.encode([*others, ended]))


def succeed(store: Store, definition: Definition) -> Definition:
    """The definition of a take that has begun, with the take that it `follows` if a crash ended that before, and the
    time in which nothing was captured. A note that can't be read counts for none."""
    if definition.continues is not None or definition.after_change is not None:
        return definition
    device = _device(definition)
    for ended in _notes(_note_path(store, definition.uri)):
        if ended.device == device and ended.uri != definition.uri and store.path(ended.uri).exists():
            if ended.boot_id == definition.boot_id:
                away_ns = definition.started_monotonic_ns - ended.monotonic_ns
                if away_ns < 0:  # both ran at one time
                    continue
            else:
                away_ns = definition.started_wall_ns - ended.wall_ns
            return msgspec.structs.replace(definition, follows=ended.uri, away_ns=max(0, away_ns))
    return definition


def forget_note(store: Store, definition: Definition) -> None:
    """To be called once the take that `succeed` told of has begun; raises StorageFull or StorageFailed."""
    path = _note_path(store, definition.uri)
    with storage_errors("note the end of a take in", path):
        left = [each for each in _notes(path) if each.uri != definition.follows]
        if left:
            replace(path, msgspec.json.encode(left))
        else:
            path.unlink(missing_ok=True)


def ended(definition: Definition, monotonic_ns: int, wall_ns: int) -> Ended:
    return Ended(definition.uri, _device(definition), definition.boot_id, monotonic_ns, wall_ns)


def _device(definition: Definition) -> str:
    return str(definition.device.get("identity", ""))


def _note_path(store: Store, uri: str) -> Path:
    return store.path(uri).parent / ".ended.json"


def _notes(path: Path) -> list[Ended]:
    try:
        return msgspec.json.decode(read_regular(path), type=list[Ended])
    except (OSError, ValueError):
        return []
