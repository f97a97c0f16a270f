"""One file that a range of a MIDI recording is written to: a Standard MIDI File, or a MIDI Clip File."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from chaos.export.account import Account, clipped_gap
from chaos.export.clip import clip
from chaos.export.file import Wanted
from chaos.export.report import SaveReport
from chaos.export.smf import MARK, NOTE, Label, Loss, Names, exact_ticks, musical_ticks, smf
from chaos.export.source import Source
from chaos.system.files import write_all
from chaos.terms.containers import Container
from chaos.terms.counting import counted
from chaos.terms.errors import InvalidRequest
from chaos.terms.ledger import Cause, lost_frames
from chaos.terms.messages import messages_of
from chaos.terms.moments import utc_text
from chaos.terms.visible import visible

if TYPE_CHECKING:
    from chaos.read.samples import Samples

__all__ = ["MidiFile"]


class MidiFile:
    """Takes blocks of events as they are read, and is written as a whole at the end. Raises InvalidRequest."""

    def __init__(self, source: Source, out: Path, container: Container, wanted: Wanted) -> None:
        if source.fill == "nan":
            raise InvalidRequest("a MIDI file has no NaN", hint="use --gaps zeros or --gaps cut")
        self.source = source
        self.out = out
        self.fd = -1
        self.container = container
        self.account = Account(source, "FLOAT", 1)
        rate = source.recording.sample_rate
        self._ticks = exact_ticks(rate) if wanted.tempo is None else musical_ticks(rate, wanted.tempo)
        self._aligned_by = wanted.aligned_by
        self._events: list[tuple[int, int, bytes]] = []
        self._loss = Loss(0, {}, {}, {}, 0, 0.0, self._ticks.drift_ppm)
        self._stream: Any = None

    def begin(self, fd: int) -> None:
        """An empty file, which stays the caller's."""

    def begin_pipe(self, stream: Any) -> None:
        self._stream = stream

    def write(self, block: Samples) -> None:
        for frame, kind, data in block.tolist():
            self._events.append((self._place(frame), kind, data))

    def _place(self, frame: int) -> int:
        return self.source.place(frame) if self.source.fill == "cut" else frame - self.source.first

    def end(self) -> None:
        """Writes the file, with what the source can tell now that it was read."""
        made = self._names(), self._labels()
        if self.container == "midi2":
            data, self._loss = clip(self._events, self.source.n_frames, self._ticks, *made)
        else:
            data, self._loss = smf(messages_of(self._events), self.source.n_frames, self._ticks, *made)
        if self._stream is None:
            write_all(self.fd, data, 0)
        else:
            self._stream.write(data)

    def _names(self) -> Names:
        source, definition = self.source, self.source.recording.definition
        device = definition.device_name or "unknown device"
        first, _ = source.recorded
        before = f"{first - source.first} frames before" if source.first < first else "with"
        begins = f"begins {before} frame {first} of {source.recording.uri}, {utc_text(source.wall_ns)}"
        counts = f"{source.recording.sample_rate} frames a second"
        if self._ticks.are_frames:
            counts += "; one tick is one frame"
        chunks = f"BLAKE3 root of {counted(source.n_chunks, 'chunk')} {source.root_hash}"
        texts = [self.account.software, counts, begins, chunks]
        return Names(source.recording.uri, visible(device), visible(definition.device.get("name") or device), texts)

    def _labels(self) -> list[Label]:
        end = self.source.n_frames
        losses = [Label(min(cue.frame, end), NOTE, cue.label) for cue in self.account.losses()]
        return losses + [Label(min(cue.frame, end), MARK, cue.label) for cue in self.account.marks()]

    def report(self) -> SaveReport:
        source = self.source
        first, end = source.recorded
        inside = [clipped_gap(gap, first, end) for gap in source.gaps]
        subtype: Literal["UMP", "MIDI"] = "UMP" if self.container == "midi2" else "MIDI"
        return SaveReport(
            path=str(self.out),
            uri=source.recording.uri,
            container=self.container,
            subtype=subtype,
            sample_rate=source.recording.sample_rate,
            channels=0,
            positions=[],
            first_frame=first,
            n_frames=end - first,
            n_written=source.n_frames,
            started_utc=utc_text(source.wall_ns),
            gaps=[gap.to_wire() for gap in source.gaps],
            missing_frames=sum(gap.n_frames for gap in inside),
            lost_frames=lost_frames(inside),
            retired_frames=sum(gap.n_frames for gap in inside if gap.cause is Cause.RETIRED),
            damaged=list(source.damaged),
            is_exact=self._loss.is_exact and not source.damaged,
            max_error=0.0,
            clipped=0,
            n_chunks=source.n_chunks,
            root_hash=source.root_hash,
            aligned_by=self._aligned_by,
            frames_before=first - source.first,
            frames_after=source.end - end,
            midi=self._loss,
        )
