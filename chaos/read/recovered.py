"""Whether what is read is all there is: a chaosd that died leaves frames in memory until they are recovered."""

from __future__ import annotations

from collections.abc import Iterable

from chaos.protocol.config import Config
from chaos.read.recording import Recording, StreamRecording
from chaos.store.info import load
from chaos.store.members import is_take_of
from chaos.store.store import Store
from chaos.store.unrecovered import not_recovered, unrecovered

__all__ = ["check_recovered", "waits_for_recovery"]


def check_recovered(store: Store, uris: Iterable[str], recordings: Iterable[Recording]) -> None:
    """Raises NotRecovered where one of these streams has frames that no recording has yet, or one of the recordings was
    broken off."""
    asked = list(uris)
    waiting_there = unrecovered(store, Config().staging_dir)
    left = [each for each in waiting_there if any(is_take_of(each.uri, uri) for uri in asked)]
    waiting = [*(each.uri for each in recordings if waits_for_recovery(each)), *(each.uri for each in left)]
    if waiting:
        named = [next((uri for uri in asked if is_take_of(found, uri)), found) for found in waiting]
        raise not_recovered(named, left)


def waits_for_recovery(recording: Recording) -> bool:
    """Whether one of its takes was broken off by the end of its chaosd."""
    infos = [recording.info]
    if isinstance(recording, StreamRecording):
        infos += [load(take.path) for take in recording.takes[:-1] if take.digest.finish is None]
    return any(info.finish is None and not info.is_live for info in infos)
