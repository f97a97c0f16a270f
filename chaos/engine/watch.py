"""What a take's counters show: its clock's drift, a graph at another rate, and whether frames come. Pure."""

from __future__ import annotations

from chaos.engine.messages import Flow
from chaos.terms.ledger import Cause, Confidence, Gap

__all__ = ["NOTHING_YET", "NO_CYCLE", "NO_DATA", "STALLED_NS", "Watch"]

STALLED_NS = 1_000_000_000
NO_CYCLE = "no cycle of the graph for more than a second"
NO_DATA = "the device has delivered nothing for more than a second"
NOTHING_YET = "nothing that the device delivers can be kept yet"


class Watch:
    """Looks at one take's counters (`Slots.stats`) again and again, and tells each thing once."""

    def __init__(self) -> None:
        self._first: tuple[int, int, int] | None = None
        self._told_rate = self._told_clock = 0
        self._clock_id = -1
        self._n_captured = self._n_cycles = 0
        self._flows = True
        self._is_unasked = True
        self._awaited_ns: int | None = None  # since when a next frame is due to be told
        self.drift_ppm: float | None = None

    def anchor(self, clock_id: int, position: int, monotonic_ns: int, rate: int) -> None:
        """Takes in a moment of the graph's clock."""
        if self._first is None or self._first[0] != clock_id or position < self._first[1]:
            self._first, self.drift_ppm = (clock_id, position, monotonic_ns), None
            return
        elapsed_s = (monotonic_ns - self._first[2]) / 1e9
        if elapsed_s >= 1:
            self.drift_ppm = ((position - self._first[1]) / rate / elapsed_s - 1) * 1e6

    def gap(self, gap: Gap) -> None:
        """Takes in a gap: behind one that its clock did not count, drift is measured anew, and unknown until then."""
        other = gap.cause in (Cause.DRIVER_SWITCH, Cause.CLOCK_JUMP, Cause.DEVICE_AWAY)
        if other or gap.confidence is not Confidence.EXACT:
            self.measure_anew()

    def measure_anew(self) -> None:
        """Forgets what the clock has shown so far of its drift."""
        self._first = self.drift_ppm = None

    def wrong_rate(self, stats: dict[str, int]) -> int | None:
        """The graph's rate where that is another than the take's, of which the callback keeps nothing."""
        seen = stats["seen_rate"]
        if not seen or stats["sample_rate"] in (0, seen):
            self._told_rate = 0
        elif seen != self._told_rate:
            self._told_rate = seen
            return seen
        return None

    def new_clock(self, clock_id: int) -> bool:
        """Whether an anchor's clock is another than the last one's, or the first."""
        is_new, self._clock_id = clock_id != self._clock_id, clock_id
        return is_new

    def wrong_clock(self, stats: dict[str, int]) -> int | None:
        """The clock that drives the device in place of its own, where only that will do and it has just been found."""
        found, before = stats["other_clock"], self._told_clock
        self._told_clock = found
        return found if found not in (0, before) else None

    def await_frames(self, stats: dict[str, int], now_ns: int) -> None:
        """The stream's state is no longer known to be that frames come: the next ones are told, and so is a second
        without any."""
        self._n_captured, self._awaited_ns = stats["n_captured"], now_ns
        self._is_unasked = False

    def flow(self, stats: dict[str, int], now_ns: int) -> Flow | None:
        """Whether frames come: where that has changed or is awaited, and again and again while they don't.

        `now_ns`: CLOCK_MONOTONIC. Before the first frame nothing is said until one has been awaited for a second.
        """
        n_cycles = stats["callbacks"] + stats["distrusted"]
        is_run, self._n_cycles = n_cycles != self._n_cycles, n_cycles
        moves, self._n_captured = stats["n_captured"] != self._n_captured, stats["n_captured"]
        if moves:
            flow = Flow(True)
        elif stats["first_ns"]:
            flow = _flow(stats, now_ns)
        else:
            flow = Flow(self._is_unasked, NOTHING_YET if is_run else NO_CYCLE)
        if self._awaited_ns is None:
            is_news = not (flow.flows and self._flows)
        elif flow.flows:
            is_news = moves
        else:
            # A take that began without a frame has waited for one from its start, whenever it was asked to.
            has_waited = flow.reason == NO_DATA and not self._n_captured
            is_news = has_waited or now_ns - self._awaited_ns >= STALLED_NS
        if not is_news:
            return None
        self._flows, self._awaited_ns = flow.flows, None
        return flow


def _flow(stats: dict[str, int], now_ns: int) -> Flow:
    """By what the callback saw; where a frame only finds no slot they do come."""
    if now_ns - stats["end_ns"] >= STALLED_NS:
        return Flow(False, NO_CYCLE, is_idle=True)
    open_frames = stats["head_frame"] - stats["gap_first"] if stats["gap_first"] >= 0 else 0
    if stats["gap_cause"] == Cause.NO_DATA and open_frames * 1_000_000_000 >= STALLED_NS * stats["sample_rate"]:
        return Flow(False, NO_DATA)
    return Flow(True)
