"""One take as numpy arrays, finished or while it grows.

What is sealed is mapped from its chunk files; what is not sealed yet comes straight from the staging slots of
the engine, without a message to it. Gaps are never silent: they are in `gaps`, and each read says what they
become.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from chaos.read.bounds import frames_of
from chaos.read.content import ArrayContent, Content, Piece, content_of
from chaos.read.follow import Follower, WhenLapped
from chaos.read.missing import Missing, check_missing
from chaos.read.planes import PlaneContent, Planes
from chaos.store.info import RecordingInfo, load
from chaos.store.lines import Definition
from chaos.store.timeline import frame_of_moment, moment_at
from chaos.terms.counting import counted
from chaos.terms.errors import ChaosError, InvalidRange, InvalidRequest, StorageFailed
from chaos.terms.form import MidiForm
from chaos.terms.latency import Latency
from chaos.terms.ledger import ClockAnchor, Gap
from chaos.terms.marks import Mark
from chaos.terms.messages import Message

if TYPE_CHECKING:
    import numpy as np

    from chaos.read.events import Events
    from chaos.read.overview import Overview, Part
    from chaos.read.samples import Samples
    from chaos.staging.live import LiveEnd

__all__ = ["Recording"]


class Recording:
    """A recording, read-only. `recording[a:b]` gives frames a to b as an array (channels, frames).

    A live recording grows: `refresh` takes in what is new, and so does every read that reaches beyond what is
    known. Alive until `close`; arrays that were given out stay good after it.
    """

    def __init__(self, path: Path, info: RecordingInfo | None = None) -> None:
        self._info: RecordingInfo = info or load(path)
        self._gaps: list[Gap] = []
        self._live: LiveEnd | None = None
        self._live_version = 0
        if self._info.is_live and self.definition.staging:
            self._live = self._attach(Path(self.definition.staging))
        self._index()

    def _attach(self, path: Path) -> LiveEnd | None:
        from chaos.staging.live import LiveEnd
        from chaos.staging.reader import StagingReader

        with suppress(FileNotFoundError, ChaosError):
            staging = StagingReader(path)
            if staging.uri == self.definition.uri:
                return LiveEnd(staging)
            staging.close()
        return None

    def _index(self) -> None:
        known = list(self._info.gaps)
        if self._live and not self._info.finish:
            stored = {(gap.first_frame, gap.n_frames, gap.cause) for gap in known}
            known += [gap for key, gap in self._live.closed_gaps.items() if key not in stored]
            self._live_version = self._live.version
        self._gaps = sorted(known, key=lambda gap: gap.first_frame)

    def _ledger(self) -> list[Gap]:
        """The gaps by first frame; of a live recording also those that the journal has not yet."""
        if not self._live or self._info.finish:
            return self._gaps
        self._live.poll()
        if self._live.missed_notes:
            self._live.missed_notes = False
            self.refresh()
        elif self._live.version != self._live_version:
            self._index()
        open_gap = self._live.open_gap
        if open_gap is None or any(gap.first_frame == open_gap.first_frame for gap in self._gaps[-2:]):
            return self._gaps
        return [*self._gaps, open_gap]

    @property
    def info(self) -> RecordingInfo:
        """What the journal told at the last `refresh`."""
        return self._info

    def take_at(self, frame: int) -> tuple[int, RecordingInfo]:
        """The take that the frame lies in, or else the nearest one before it: its first frame, and its journal."""
        return 0, self.info

    @property
    def path(self) -> Path:
        return self._info.path

    @property
    def definition(self) -> Definition:
        return self._info.definition

    @property
    def uri(self) -> str:
        return self.definition.uri

    @property
    def channels(self) -> int:
        return self.definition.channels

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, frames) so far, as of the array that all of it would be; of MIDI (frames,)."""
        is_midi = isinstance(self.definition.form, MidiForm)
        return (self.n_frames,) if is_midi else (self.channels, self.n_frames)

    @property
    def device(self) -> dict[str, Any]:
        """The device as it was at the start: `name`, `description`, `identity` and so on (PROTOCOL.md's Device)."""
        return dict(self.definition.device)

    @property
    def sample_rate(self) -> int:
        return self.definition.sample_rate

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the samples: float32, int16 or int32, little-endian; of events `chaos.read.events.EVENT`."""
        return self._arrays.dtype

    @cached_property
    def _arrays(self) -> ArrayContent:
        return content_of(self.definition.form)

    @property
    def state(self) -> str:
        """"recording", "finished" or "interrupted" (its engine died)."""
        return self._info.state

    @property
    def clean(self) -> bool | None:
        """Whether it was stopped rather than broken off; None while that is open."""
        return self.info.clean

    @property
    def gaps(self) -> list[Gap]:
        """The ledger, by first frame. A gap that has not ended reaches up to the head."""
        return list(self._ledger())

    @property
    def marks(self) -> list[Mark]:
        """What was marked, by frame, at the last `refresh`."""
        return sorted(self._info.marks, key=lambda mark: mark.frame)

    @property
    def latencies(self) -> list[tuple[int, Latency]]:
        """What the device said of its latency, and from which frame on; frames are not moved by it."""
        return list(self._info.latencies)

    @property
    def anchors(self) -> list[ClockAnchor]:
        return list(self._info.anchors)

    @property
    def n_frames(self) -> int:
        """The timeline's length; of a live recording up to the head, including what is not sealed yet."""
        if self._live and not self._info.finish:
            return max(self._live.head_frame, self._info.n_frames)
        return self._info.n_frames

    def __len__(self) -> int:
        return self.n_frames

    def __repr__(self) -> str:
        n_frames, rate = self.n_frames, self.sample_rate
        return f"<{type(self).__name__} {self.uri}: {rate} Hz, {counted(n_frames, 'frame')}, {n_frames / rate:.3f} s>"

    def refresh(self) -> None:
        """Takes in what was sealed and entered into the ledger since."""
        self._info.refresh()
        self._index()

    def __getitem__(self, frames: slice) -> Samples:
        """Frames as `read` gives them, with the bounds of a Python slice (negative: from the end)."""
        first, last = frames_of(frames, self.n_frames, "a recording is indexed", "recording[first:last]")
        return self.read(first, last)

    def _check_read(self, first: int, last: int, missing: Missing) -> None:
        """Raises as `read` does, but for gaps."""
        check_missing(missing)
        if not 0 <= first <= last <= self.n_frames:
            raise InvalidRange(
                f"frames {first} to {last} are not all in {self.uri}, which has {self.n_frames}",
                hint="ask for a range from 0 up to its end",
            )
        if missing == "nan" and self.definition.sample_format != "f32":
            raise InvalidRequest(f"{self.uri} holds no floats, and so no NaN", hint='use missing="zeros"')

    def _holed(self, first: int, last: int, gaps: Sequence[Gap]) -> InvalidRange:
        """What `missing="error"` raises where there are gaps."""
        return InvalidRange(
            f"{counted(len(gaps), 'gap')} in frames {first} to {last} of {self.uri}",
            hint='read them with missing="zeros" or "nan"',
            details={"gaps": [gap.to_wire() for gap in gaps]},
        )

    def read(self, first: int, last: int, missing: Missing = "zeros") -> Samples:
        """Frames [first, last) as an array (channels, last - first).

        Of a MIDI recording the events in them, as `events` gives them; gaps have no rows there.

        Where the range lies in one sealed chunk it is a read-only view of the file, without a copy. Frames
        in gaps are zeros (`missing="zeros"`), NaN ("nan", float recordings), or raise InvalidRange, which lists
        them ("error"). InvalidRange too for frames that are not there; InvalidRequest for NaN asked of integers;
        ValueError for any other `missing`.
        """
        self._check_read(first, last, missing)
        pieces = self._pieces(self._arrays, first, last)
        gaps = self.gaps_between(first, last)
        if gaps and missing == "error":
            raise self._holed(first, last, gaps)
        if len(pieces) == 1 and not (gaps and missing == "nan"):
            whole: Samples = pieces[0]
            return whole
        block: Samples = self._arrays.join(pieces) if pieces else self._arrays.nothing(0)
        if missing == "nan":
            for gap in gaps:
                block[:, max(gap.first_frame - first, 0) : gap.end_frame - first] = float("nan")
        return block

    def planes(self, first: int, last: int) -> Planes:
        """Frames [first, last) of audio, each channel's as a memoryview; gaps are zeros. Raises as `read`."""
        self._check_read(first, last, "zeros")
        content = PlaneContent(self.definition.audio)
        pieces = self._pieces(content, first, last)
        return pieces[0] if len(pieces) == 1 else content.join(pieces)

    def overview(self, first: int = 0, last: int | None = None, points: int = 2000) -> Overview:
        """What frames [first, last) are like, in `points` points: to draw it (see `chaos.read.overview.Overview`).

        It reads a few thousand blocks a channel, however long that is; of a recording of an older version, which has no
        levels, all samples. Raises InvalidRange for frames that are not there, ValueError for fewer points than 1,
        StorageFailed.
        """
        from chaos.read.overview import check_range, overview_of

        last = self.n_frames if last is None else last
        check_range(self.uri, self.n_frames, first, last, points)
        return overview_of(self._parts(first, last), first, last, points, self.gaps_between(first, last), self.marks)

    def _parts(self, first: int, last: int) -> list[Part]:
        """The takes that have these frames, one at least."""
        from chaos.read.overview import Part

        is_finished = self._info.finish is not None
        return [Part(0, self.n_frames, is_finished, self.path, self.definition, self.gaps, lambda: self)]

    @property
    def events(self) -> Events:
        """The events of a MIDI recording: `events[a:b]`. Raises InvalidRequest for one of audio."""
        if not isinstance(self.definition.form, MidiForm):
            raise InvalidRequest(f"{self.uri} holds audio, not events", hint="read it as recording[a:b]")
        from chaos.read.events import Events

        return Events(self)

    def messages(self, first: int = 0, last: int | None = None) -> Iterator[Message]:
        """The events of frames [first, last) as MIDI messages, sysex put together, by frame: a sysex stands where it
        began. Raises as `events`."""
        return self.events.messages(first, self.n_frames if last is None else last)

    def between(self, begin: float | datetime, end: float | datetime, missing: Missing = "zeros") -> Samples:
        """What lies between two moments: seconds since the first frame, or datetimes with a time zone.

        What comes after the recording's end is left out. `missing`: "zeros", "nan" or "error", as in `read`.
        InvalidRequest for a datetime without a zone, ValueError for what is not a moment, and for seconds below 0:
        `recording[-48000:]` counts frames from the end.
        """
        for moment in (begin, end):
            _check_moment(moment)
        n_frames = self.n_frames
        first, last = (min(max(self.frame_of(moment), 0), n_frames) for moment in (begin, end))
        return self.read(first, max(first, last), missing)

    def frame_of(self, moment: float | datetime) -> int:
        """The frame at a moment (see `between`); it may lie outside of the recording."""
        return frame_of_moment(self._info, moment)

    def moment_of(self, frame: int) -> datetime:
        """The moment of a frame, in UTC."""
        return moment_at(self._info, frame)

    def gaps_between(self, first: int, last: int) -> list[Gap]:
        """The gaps that reach into frames [first, last), by first frame; empty ones are left out."""
        gaps = self._ledger()
        begin = bisect_right(gaps, first, key=lambda gap: gap.end_frame)
        end = bisect_right(gaps, last - 1, key=lambda gap: gap.first_frame)
        return [gap for gap in gaps[begin:end] if gap.n_frames]

    @property
    def oldest_staged_frame(self) -> int:
        """The first frame that the engine's slots may still hold; all before it come from sealed chunks."""
        return self._live.oldest_frame if self._live else self.n_frames

    def follow(
        self,
        n_frames: int,
        first_frame: int | None = None,
        missing: Missing = "zeros",
        lapped: WhenLapped = "error",
        timeout_s: float | None = None,
    ) -> Follower:
        """Blocks of `n_frames` from `first_frame` (None: the head) on, as they come; see `chaos.read.follow`.

        `missing`: "zeros", "nan" or "error", as in `read`. It ends when the stream is stopped; where chaosd died it
        raises `chaos.read.follow.Interrupted` after the last frame.
        """
        first = self.n_frames if first_frame is None else first_frame
        return Follower(self, n_frames, first, missing, lapped, timeout_s)

    def close(self) -> None:
        """Lets go of the staging file; calling it twice is harmless."""
        if self._live:
            self._live.close()
            self._live = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _split(self, first: int, last: int) -> list[tuple[int, int, int]]:
        """The range by chunks: chunk, first and last frame within it."""
        size = self.definition.chunk_frames
        spans = []
        for chunk in range(first // size, -(-last // size) if last > first else 0):
            origin = chunk * size
            spans.append((chunk, max(first - origin, 0), min(last - origin, size)))
        return spans

    def _pieces(self, content: Content[Piece], first: int, last: int) -> list[Piece]:
        """The range piece by piece, gaps being nothing. Raises InvalidRange for what is neither stored nor a gap."""
        return [self._piece(content, chunk, begin, end) for chunk, begin, end in self._split(first, last)]

    def _piece(self, content: Content[Piece], chunk: int, begin: int, end: int) -> Piece:
        """Frames of one chunk: sealed, else from staging, else (sealed meanwhile) sealed, else a gap."""
        piece = self._sealed(content, chunk, begin, end)
        if piece is None and self._live:
            raw = self._live.read_chunk(chunk, *content.staged(begin, end))
            if raw is not None:
                return content.of_slot(raw, chunk, begin, end)
        if piece is None and (self._info.chunks.find(chunk) is not None or not self._info.finish):
            self.refresh()
            piece = self._sealed(content, chunk, begin, end)
        if piece is None:
            origin = chunk * self.definition.chunk_frames
            self._check_missing(origin + begin, origin + end)
            piece = content.nothing(end - begin)
        return piece

    def _sealed(self, content: Content[Piece], chunk: int, begin: int, end: int) -> Piece | None:
        sealed = self._info.chunks.find(chunk)
        if sealed is None:
            return None
        self._info.bring(sealed)
        try:
            return content.of_file(sealed.path, chunk, begin, end)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            message = f"could not read {sealed.path}: {error}"
            raise StorageFailed(message, hint=f"run chaosctl verify {self.uri}") from error

    def _check_missing(self, first: int, last: int) -> None:
        """Raises InvalidRange unless all these frames are in gaps."""
        reached = first
        for gap in self.gaps_between(first, last):
            if gap.first_frame > reached:
                break
            reached = gap.end_frame
        if reached < last:
            raise InvalidRange(
                f"frames {reached} to {last} of {self.uri} are neither sealed nor in staging",
                hint="it may need chaosctl recover",
            )


def _check_moment(moment: object) -> None:
    """Raises ValueError for what `between` makes no sense of."""
    if isinstance(moment, datetime):
        return
    if isinstance(moment, bool) or not isinstance(moment, int | float) or not math.isfinite(moment):
        raise ValueError(f"{moment!r} is not a moment: use seconds from the start, or a datetime with a time zone")
    if moment < 0:
        raise ValueError(
            f"{moment!r} s is before the first frame: seconds count from there; the last second is"
            " recording[-recording.sample_rate:]"
        )
