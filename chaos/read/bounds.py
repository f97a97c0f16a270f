"""Slices of frames, as Python counts them."""

from __future__ import annotations

from operator import index

__all__ = ["frames_of"]


def frames_of(frames: object, n_frames: int, what: str, like: str) -> tuple[int, int]:
    """The first frame of a slice and the one behind its last, of `n_frames`. Raises TypeError for all but a slice of
    whole frames: `what` is the message's subject and verb, `like` what would work."""
    if not isinstance(frames, slice) or frames.step not in (None, 1):
        raise TypeError(f"{what} by a slice of frames: {like}")
    for bound in (frames.start, frames.stop):
        try:
            None if bound is None else index(bound)
        except TypeError:
            raise TypeError(f"{what} by a slice of whole frames, not {bound!r}: {like}") from None
    first, last, _ = frames.indices(n_frames)
    return first, max(first, last)
