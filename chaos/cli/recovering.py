"""What chaosctl says of takes that a chaosd that died has left: that they are not recovered yet, and what to type."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from chaos.cli.out import say
from chaos.terms.counting import counted
from chaos.terms.errors import ChaosError, RecordingNotFound, SessionNotFound

if TYPE_CHECKING:
    from chaos.cli.session import Session
    from chaos.store.store import Store
    from chaos.store.unrecovered import Unrecovered

__all__ = ["left_in", "left_lines", "with_what_is_left"]


def left_in(store: Store) -> list[Unrecovered]:
    """The takes of this store that wait for recovery."""
    from chaos.protocol.config import Config
    from chaos.store.unrecovered import unrecovered

    return unrecovered(store, Config().staging_dir)


def left_lines(left: Sequence[Unrecovered]) -> list[str]:
    """A line for each, and what to type; there is one at least."""
    from chaos.store.unrecovered import not_recovered

    lines = [f"not recovered yet: {each.uri}, {counted(each.n_frames, 'frame')} in memory" for each in left]
    return [*lines, f"  {not_recovered([each.uri for each in left], left).hint}"]


def with_what_is_left(session: Session, words: Sequence[str], error: ChaosError) -> ChaosError:
    """The error, or what is true in its place where something of what these words name waits for recovery."""
    from chaos.client import DaemonUnreachable
    from chaos.store.members import is_take_of
    from chaos.store.store import Store
    from chaos.store.unrecovered import not_recovered

    is_unreachable = isinstance(error, DaemonUnreachable)
    if session.is_elsewhere or not (is_unreachable or isinstance(error, RecordingNotFound | SessionNotFound)):
        return error
    left: list[Unrecovered] = []
    with suppress(ChaosError, OSError):
        left = left_in(Store(session.store_folder()))
    if is_unreachable:
        if left:
            say(*left_lines(left), err=True)
        return error
    found = [each for each in left if each.session in words or any(is_take_of(each.uri, word) for word in words)]
    return not_recovered([each.uri for each in found], found) if found else error
