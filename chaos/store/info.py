"""What is known of a recording from its journal alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from chaos.store.columns import Anchors, SealedChunk, SealedChunks
from chaos.store.journal import JOURNAL_NAME, JournalReader
from chaos.store.lines import (
    JOURNAL_VERSION,
    AnchorLine,
    ChunkLine,
    Definition,
    Finish,
    GapLine,
    Header,
    LatencyLine,
    Line,
    MarkLine,
    OpenGapLine,
    Sealing,
)
from chaos.terms.errors import StorageFailed
from chaos.terms.latency import Latency
from chaos.terms.ledger import Coverage, Entries, Gap
from chaos.terms.marks import Mark

__all__ = ["RecordingInfo", "SealedChunk", "load"]


class RecordingInfo:
    """A recording as its journal tells it, at the moment of the last `refresh`.

    Lines in `bad_lines` (numbers from 1) made no sense, others are missing before those in `missing_before`, and
    `torn` says that the last one broke off. `sealing` is the sealing of a chunk that is not full, begun last;
    `open_gap` is the gap that has not ended. Raises RecordingNotFound, or StorageFailed if the journal can't be read
    or has no readable first line.

    `is_live`: a writer has the recording (to the last, when it is finished already).
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._entries = Entries()
        self.open_gap: Gap | None = None
        self.anchors = Anchors()
        self.marks: list[Mark] = []
        self.latencies: list[tuple[int, Latency]] = []
        self.sealing: Sealing | None = None
        self.finish: Finish | None = None
        self.is_live = False
        self._coverage = Coverage()
        self._journal = JournalReader(self.path / JOURNAL_NAME)
        lines = self._lines()
        first = next(lines, None)
        if not isinstance(first, Header):
            raise StorageFailed(
                f"the journal of {path} has no readable first line", hint=f"restore {JOURNAL_NAME} from a copy"
            )
        if first.version > JOURNAL_VERSION:
            raise StorageFailed(
                f"{path} was written by a newer chaosd (journal version {first.version})",
                hint="update chaosd",
            )
        self.definition: Definition = first.definition
        self.chunks = SealedChunks(self.path / self.definition.form.folder)
        self._absorb(lines)

    def refresh(self) -> None:
        """Takes in what was journalled since."""
        self._absorb(self._lines())

    def _lines(self) -> Iterator[Line]:
        """The lock first: a writer that lets go of it has journalled its finish."""
        self.is_live = self._journal.is_locked()
        return self._journal.lines()

    def _absorb(self, lines: Iterable[Line]) -> None:
        chunks, anchors, cover = self.chunks.append, self.anchors.append, self._coverage.add
        for line in lines:
            if type(line) is ChunkLine:  # nearly all lines are of these two
                events = line.n_events, line.n_event_bytes
                chunks(line.chunk, line.first_frame, line.n_frames, line.hash, line.path, events)
                cover(line.first_frame, line.n_frames)
                continue
            if type(line) is AnchorLine:
                anchors(line)
                continue
            match line:
                case GapLine():
                    self._entries.add(line.gap())
                    self._coverage.add(line.first_frame, line.n_frames)
                    if self.open_gap is not None and self.open_gap.first_frame == line.first_frame and line.n_frames:
                        self.open_gap = None
                case OpenGapLine():
                    self.open_gap = line.gap()
                    self._coverage.add(line.first_frame, line.n_frames)
                case MarkLine():
                    self.marks.append(line.mark())
                case LatencyLine():
                    self.latencies.append((line.frame, line.latency))
                case Sealing():
                    self.sealing = line
                case Finish():
                    self.finish = line

    def bring(self, sealed: SealedChunk) -> None:
        """Has the chunk's file be where its `path` says, before somebody reads it: one in an object store is fetched.

        Raises StorageFailed.
        """

    @property
    def gaps(self) -> list[Gap]:
        """The gaps that have ended, in order of entry; adjoining retired ones are one (see `Entries`)."""
        return self._entries.gaps

    @property
    def state(self) -> str:
        """"recording" while a writer has it, then "finished", or "interrupted" if the writer died."""
        if self.finish:
            return "finished"
        return "recording" if self.is_live else "interrupted"

    @property
    def ledger(self) -> list[Gap]:
        """All gaps; the one that has not ended is the last, as far as the journal tells of it."""
        return [*self.gaps, self.open_gap] if self.open_gap is not None else list(self.gaps)

    @property
    def n_frames(self) -> int:
        """The timeline's length: at the end as stated, before it as far as it is accounted for."""
        return self.finish.n_frames if self.finish else self._coverage.to

    @property
    def clean(self) -> bool | None:
        """Whether the stream was stopped rather than broken off; None while that is open."""
        return self.finish.clean if self.finish else None

    @property
    def bad_lines(self) -> list[int]:
        return self._journal.bad_lines

    @property
    def missing_before(self) -> list[int]:
        return self._journal.missing_before

    @property
    def torn(self) -> bool:
        return self._journal.torn


def load(path: Path) -> RecordingInfo:
    """What the journal of the recording in this folder tells; for what it raises see RecordingInfo."""
    return RecordingInfo(path)
