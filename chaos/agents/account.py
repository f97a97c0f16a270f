"""A recording's account for agents: length, what is missing, hash, and how sure the clock is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaos.agents.answers import Account, ClockSure, GapLine, MarkLine, amount
from chaos.store.hashes import root_hash
from chaos.store.takes import take_uris
from chaos.terms.ledger import Cause, ClockAnchor, ClockState, Gap, lost_frames
from chaos.terms.moments import utc_if_any

if TYPE_CHECKING:
    from chaos.store.store import Store

__all__ = ["account_of", "clock_of", "gap_lines"]

SHOWN_GAPS = 50
SHOWN_MARKS = 100
SHOWN_TAKES = 100

_WORDS = {
    ClockState.UNKNOWN: "nothing is known of how far the wall clock was from UTC",
    ClockState.UNSYNCHRONIZED: "the wall clock was not synchronized: times of day may be off by any amount",
    ClockState.TIMESYNCD: "synchronized by systemd-timesyncd, which does not say how well",
}


def gap_lines(
    gaps: Sequence[Gap] | Sequence[Mapping[str, Any]], rate: int, most: int | None = SHOWN_GAPS
) -> list[GapLine]:
    """The newest `most` of these gaps (None: all), by first frame."""
    wire = [gap.to_wire() if isinstance(gap, Gap) else gap for gap in gaps]
    shown = wire if most is None else wire[-most:]
    return [
        GapLine(amount(gap["first_frame"], rate), amount(gap["n_frames"] or 0, rate), gap["cause"], gap["confidence"])
        for gap in shown
    ]


def clock_of(anchors: Sequence[ClockAnchor]) -> ClockSure:
    """What is known of the wall clock over all these anchors: the worst counts."""
    states = {anchor.clock_state for anchor in anchors} or {ClockState.UNKNOWN}
    worst = next(
        state
        for state in (ClockState.UNKNOWN, ClockState.UNSYNCHRONIZED, ClockState.TIMESYNCD, ClockState.SYNCHRONIZED)
        if state in states
    )
    was_set = any(anchor.step_ns for anchor in anchors)
    errors = [anchor.max_error_ns for anchor in anchors]
    likely = [anchor.est_error_ns for anchor in anchors if anchor.est_error_ns is not None]
    known = worst is ClockState.SYNCHRONIZED and None not in errors
    max_error_s = max(error for error in errors if error is not None) / 1e9 if known else None
    if max_error_s is not None:
        text = f"times of day are within {max_error_s:.6f} s of UTC, as the kernel knows"
    else:
        text = _WORDS.get(worst, _WORDS[ClockState.UNKNOWN])
    if was_set:
        text += "; somebody set the clock while it was recorded"
    return ClockSure(
        state=worst.label,  # type: ignore[arg-type]
        max_error_s=max_error_s,
        likely_error_s=max(likely) / 1e9 if known and likely else None,
        was_set=was_set,
        text=text,
    )


def account_of(store: Store, uri: str, *, whole: bool = False) -> Account:
    """Of a recording that runs or has ended; with `whole` all its gaps and marks. Raises RecordingNotFound, InvalidURI,
    StorageFailed."""
    from chaos.read.take import Recording

    takes = take_uris(store, uri)
    with Recording(_path(store, takes[-1])) as recording:
        gaps, rate, shape = recording.gaps, recording.sample_rate, recording.definition
        chunks = sorted(recording.info.chunks, key=lambda sealed: sealed.chunk)
        retired = sum(gap.n_frames for gap in gaps if gap.cause is Cause.RETIRED)
        marks = recording.marks
        return Account(
            uri=recording.uri,
            state=recording.state,
            clean=recording.clean,
            device=str(recording.definition.device_name or ""),
            sample_format=shape.sample_format,
            channels=recording.channels,
            sample_rate=rate,
            started_utc=utc_if_any(shape.started_wall_ns),
            length=amount(recording.n_frames, rate),
            lost=amount(lost_frames(gaps), rate),
            retired=amount(retired, rate),
            n_gaps=len(gaps),
            gaps=gap_lines(gaps, rate, None if whole else SHOWN_GAPS),
            n_marks=len(marks),
            marks=[MarkLine(amount(mark.frame, rate), mark.label) for mark in marks[0 if whole else -SHOWN_MARKS :]],
            sealed=amount(sum(sealed.n_frames for sealed in chunks), rate),
            root_hash=root_hash(chunks),
            clock=clock_of(recording.anchors),
            takes=takes[-SHOWN_TAKES:] if len(takes) > 1 else [],
        )


def _path(store: Store, uri: str) -> Path:
    path = store.path(uri)
    return path if path.exists() else store.existing(uri)
