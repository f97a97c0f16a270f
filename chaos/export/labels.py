"""A label track as Audacity imports it (File > Import > Labels): begin, end and text of each, in seconds."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.export.wav import Cue

__all__ = ["label_track"]


def label_track(cues: Sequence[Cue], sample_rate: int) -> str:
    """A line for each cue; the times are those of the file, to the nanosecond."""
    return "".join(
        f"{cue.frame / sample_rate:.9f}\t{(cue.frame + cue.n_frames) / sample_rate:.9f}\t{cue.label}\n" for cue in cues
    )
