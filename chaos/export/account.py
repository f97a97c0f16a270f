"""What a file says of itself: whose audio it is, when it began, what vouches for it, and what is missing or marked."""

from __future__ import annotations

from chaos.export.encoding import BITS
from chaos.export.source import Source
from chaos.export.wav import Broadcast, Cue
from chaos.terms.containers import Subtype
from chaos.terms.counting import counted
from chaos.terms.ledger import Gap
from chaos.terms.visible import visible

__all__ = ["Account", "clipped_gap"]

_MODES = {1: "mono", 2: "stereo"}


class Account:
    """Of one file that is made from a source. What it says follows the source, so ask again once that was read."""

    def __init__(self, source: Source, subtype: Subtype, channels: int) -> None:
        self._source = source
        self._subtype = subtype
        self._channels = channels
        self.wall_ns = source.wall_ns

    @property
    def title(self) -> str:
        return self._source.recording.uri

    @property
    def software(self) -> str:
        return visible(self._source.recording.definition.software)

    def broadcast(self, *, with_hash: bool) -> Broadcast:
        source, definition = self._source, self._source.recording.definition
        device = definition.device_name or "unknown device"
        first, end = source.recorded
        return Broadcast(
            description=f"{definition.uri}, frames {first} to {end}; {visible(device)}",
            originator=self.software,
            reference=definition.run_id,
            wall_ns=self.wall_ns,
            history=self.history(with_hash=with_hash),
        )

    def history(self, *, with_hash: bool) -> str:
        """Lines of coding history (EBU R 98): what the samples are, and what vouches for them."""
        source = self._source
        mode = _MODES.get(self._channels, counted(self._channels, "channel"))
        coding = f"A=PCM,F={source.recording.sample_rate},W={BITS[self._subtype]},M={mode}"
        kind = "float" if self._subtype == "FLOAT" else "integer"
        lines = [f"{coding},T={self.software}; {kind}; gaps {source.fill}; times UTC\r\n"]
        if with_hash:
            damaged = f"; {len(source.damaged)} of them damaged" if source.damaged else ""
            root = f"BLAKE3 root of {counted(source.n_chunks, 'chunk')} {source.root_hash}{damaged}"
            lines.append(f"{coding},T={root}\r\n")
        return "".join(lines)

    def cues(self) -> list[Cue]:
        """Gaps, damaged chunks and marks, by their place in the file."""
        return sorted([*self.losses(), *self.marks()], key=lambda cue: cue.frame)

    def losses(self) -> list[Cue]:
        """Gaps and damaged chunks, and what lies before or behind the recording."""
        source = self._source
        first, end = source.recorded
        cues = []
        if source.first < first:
            cues.append(Cue(0, first - source.first, f"not recorded yet: {first - source.first} frames"))
        if end < source.end:
            cues.append(Cue(end - source.first, source.end - end, f"recorded no more: {source.end - end} frames"))
        for gap in source.gaps:
            label = f"gap: {counted(gap.n_frames, 'frame')} {gap.cause.label} ({gap.confidence.label})"
            inside = clipped_gap(gap, source.first, source.end)
            if source.fill == "cut":
                cues.append(Cue(source.place(inside.first_frame), 0, f"{label}, cut out"))
            else:
                cues.append(Cue(inside.first_frame - source.first, inside.n_frames, label))
        for damage in source.damaged:
            begin, end = source.place(damage.first_frame), source.place(damage.first_frame + damage.n_frames)
            cues.append(Cue(begin, end - begin, f"damaged: chunk {damage.chunk} ({damage.reason})"))
        return cues

    def marks(self) -> list[Cue]:
        source = self._source
        return [
            Cue(source.place(mark.frame), 0, visible(mark.label))
            for mark in source.recording.marks
            if source.first <= mark.frame < source.end
        ]


def clipped_gap(gap: Gap, first: int, end: int) -> Gap:
    """The part of the gap that lies in frames [first, end)."""
    begin = max(gap.first_frame, first)
    return Gap(begin, max(min(gap.end_frame, end) - begin, 0), gap.cause, gap.confidence)
