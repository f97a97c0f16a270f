"""The slots as the rotator has them: it takes full ones, gives them back cleared, and reads the callback's notes.

The callback's side of the same memory is `_cycle`; what lies in a slot is its form's affair (`_audio`, `_midi`).
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from chaos._cycle cimport Cycle, Writer, slots_finish, slots_hand_over, slots_trusts, told_position
from chaos._layout cimport *
from chaos.atomics cimport chaos_fence, chaos_load, chaos_peek, chaos_store

import warnings

cdef extern from "_kernels.h" nogil:
    void chaos_zero(uint8_t *dst, uint64_t n)


cdef class Slots:
    """The slots of one staging file: alive from construction to `close`. A subclass says what form their content has.

    Args:
        buffer: the staging file's mapping, writable, with its `Definition` filled in (`chaos.staging.owner.Staging` does).
        wake_fd: a non-blocking eventfd, written once per full slot; stays the caller's.

    No slot is the callback's before `admit`. The callback's side belongs to one thread, the rotator's to one thread; any
    may admit slots, call `stats` and set a hint. Chunks and frames count from where the recording begins (`base_chunk`);
    the callback counts on from where the capture began.

    Raises:
        ValueError: not a staging file of this version; from every method, once the slots are closed.
    """

    def __cinit__(self, object buffer, int wake_fd):
        self._alive = False
        PyObject_GetBuffer(buffer, &self._view, PyBUF_WRITABLE)
        cdef uint8_t *base = <uint8_t *>self._view.buf
        cdef size_t size = <size_t>self._view.len
        cdef Writer *w = &self.writer
        w.definition = <Definition *>base
        if size < CONTROL_BYTES or w.definition.version != LAYOUT_VERSION or w.definition.file_bytes > size:
            PyBuffer_Release(&self._view)
            raise ValueError("not a staging file of this version")
        w.rt = <RtState *>(base + RT_OFFSET)
        w.rings = <Rings *>(base + RINGS_OFFSET)
        w.table = <SlotEntry *>(base + w.definition.table_offset)
        w.free_ring = <uint32_t *>(base + w.definition.free_offset)
        w.full_ring = <uint32_t *>(base + w.definition.full_offset)
        w.notes = <Note *>(base + w.definition.notes_offset)
        w.data = base + w.definition.data_offset
        w.wake_fd = wake_fd
        w.started = False
        w.slot = -1
        w.offset = 0
        w.rt.gap_first = NONE
        w.rt.filling = NONE
        cdef uint32_t k
        for k in range(w.definition.n_slots):
            w.table[k].chunk = NONE
        self._alive = True

    def __init__(self, object buffer, int wake_fd):
        if self.writer.form == NULL:
            raise TypeError("the slots have no form; make AudioSlots or MidiSlots")

    def close(self):
        """Gives up the mapping; the callback must have been detached. Twice is harmless."""
        if self._alive:
            self._alive = False
            PyBuffer_Release(&self._view)

    def __del__(self):
        if self._alive:
            try:
                warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self)
            finally:
                self.close()

    cdef Writer *alive(self) except NULL:
        if not self._alive:
            raise ValueError("the slots are closed")
        return &self.writer

    # -- what the callback asks, for tests

    def trusts(self, uint64_t position, uint64_t n_frames, *, uint32_t rate=48000, uint32_t clock_id=1,
               object monotonic_ns=None, uint64_t linked_ns=0, uint64_t now_ns=0, uint64_t lacks=0,
               bint mixed=False, bint resized=False, object count=None):
        """Whether the callback would believe that the buffers hold this cycle; to be asked once per cycle, which is at
        `now_ns`, or as soon as its clock has it begin."""
        cdef Cycle c
        memset(&c, 0, sizeof(c))
        c.position = position
        c.n_frames = n_frames
        c.rate = rate
        c.clock_id = clock_id
        c.monotonic_ns = position * 1000000000ULL // rate if monotonic_ns is None else <uint64_t>monotonic_ns
        c.linked_ns = linked_ns
        c.now_ns = now_ns if now_ns != 0 else c.monotonic_ns
        c.lacks = lacks
        c.is_mixed = mixed
        c.is_resized = resized
        c.live = position
        c.is_counted = count is not None
        c.count = count or 0
        return bool(slots_trusts(self.alive(), &c))

    def hands_over(self, Slots following, uint64_t position, uint64_t n_frames, *, uint32_t rate=48000,
                   uint32_t clock_id=1):
        """Whether `following` may go on with this cycle in place of this writer (see `slots_hand_over`)."""
        cdef Cycle c
        memset(&c, 0, sizeof(c))
        c.position = position
        c.n_frames = n_frames
        c.rate = rate
        c.clock_id = clock_id
        return bool(slots_hand_over(self.alive(), following.alive(), &c))

    # -- the rotator's side

    def take_full(self):
        """The oldest full slot and the number of its chunk, or None. It stays taken until `give_back`."""
        cdef Writer *w = self.alive()
        cdef uint64_t at = chaos_peek(&w.rings.full_read)
        if at == chaos_load(&w.rings.full_write):
            return None
        cdef uint32_t slot = w.full_ring[at & (w.definition.ring_size - 1)]
        chaos_store(&w.rings.full_read, at + 1)
        return slot, w.table[slot].chunk - w.definition.base_chunk

    cdef void free_slot(self, uint32_t slot) noexcept:
        """Lets the callback have a slot. The GIL, held all through, makes one producer of those who call it."""
        cdef Writer *w = &self.writer
        cdef uint64_t at = chaos_peek(&w.rings.free_write)
        w.free_ring[at & (w.definition.ring_size - 1)] = slot
        chaos_store(&w.rings.free_write, at + 1)

    def admit(self, uint32_t slot):
        """Lets the callback have a slot for the first time: its memory is all zero, and there. Any thread may call."""
        cdef Writer *w = self.alive()
        if slot >= w.definition.n_slots or w.table[slot].chunk != NONE:
            raise ValueError("no such slot is new")
        self.free_slot(slot)

    def give_back(self, uint32_t slot):
        """Clears a slot that `take_full` or `finish` gave, and lets the callback have it again."""
        cdef Writer *w = self.alive()
        if slot >= w.definition.n_slots or w.table[slot].chunk == NONE:
            raise ValueError("no such slot is taken")
        cdef uint8_t *place = w.data + <uint64_t>slot * w.definition.slot_bytes
        cdef size_t n = w.definition.slot_bytes
        chaos_store(&w.table[slot].chunk, NONE)
        chaos_fence()
        with nogil:
            chaos_zero(place, n)
        self.free_slot(slot)

    def take_notes(self):
        """All that the callback told since the last call, in order.

        Each is (kind, cause, confidence, rate, first_frame, n_frames, position, monotonic_ns, clock_id); position and
        monotonic_ns are those of the cycle that ended the gap or that the anchor stands for.
        """
        cdef Writer *w = self.alive()
        cdef uint64_t at = chaos_peek(&w.rings.note_read)
        cdef uint64_t end = chaos_load(&w.rings.note_write)
        cdef Note *n
        cdef list notes = []
        while at != end:
            n = &w.notes[at & (w.definition.n_notes - 1)]
            notes.append((n.kind, n.cause, n.confidence, n.rate, n.first_frame, n.n_frames, n.position,
                          n.monotonic_ns, n.clock_id))
            at += 1
        chaos_store(&w.rings.note_read, at)
        return notes

    def filling(self):
        """(slot, chunk, n_frames) of the slot being filled, n_frames of which are committed; None without one.

        Only the rotator may ask: it takes full slots before it trusts the answer, since the callback may have moved
        on between the two loads.
        """
        cdef Writer *w = self.alive()
        cdef uint64_t slot = chaos_load(&w.rt.filling)
        if slot == NONE:
            return None
        cdef uint64_t chunk = chaos_load(&w.table[slot].chunk)
        cdef uint64_t head = chaos_load(&w.rt.head_frame)
        if chunk == NONE:
            return None
        cdef int64_t n = <int64_t>(head - chunk * w.definition.chunk_frames)
        if n < 0:
            return None
        return slot, chunk - w.definition.base_chunk, min(<uint64_t>n, w.definition.chunk_frames)

    def finish(self, object end_ns=None):
        """Ends the take. To be called once, after the callback has been detached for good.

        The slot being filled becomes the last full one. An open gap ends here: at the head, or, when the device is
        away (a hint stands) or the graph has stalled, where the clock must be at `end_ns` (CLOCK_MONOTONIC).

        Returns:
            The take's length in frames, and the last gap as (first_frame, n_frames, cause, confidence) or None.
        """
        cdef Writer *w = self.alive()
        slots_finish(w, 0 if end_ns is None else end_ns)
        chaos_store(&w.rings.stalled, 0)
        cdef uint64_t base = w.definition.base_chunk * w.definition.chunk_frames
        if w.rt.gap_first == NONE:
            return w.rt.head_frame - base, None
        cdef uint64_t first = max(w.rt.gap_first, base)
        gap = (first - base, w.rt.head_frame - first, w.rt.gap_cause, w.confidence)
        w.rt.gap_first = NONE
        return w.rt.head_frame - base, gap

    def set_hint(self, uint64_t cause):
        """Why the next cycles will be missing (a Cause); the callback forgets it once it has booked the gap."""
        chaos_store(&self.alive().rings.hint, cause)

    def begin_at(self, uint64_t monotonic_ns):
        """No take begins before the first cycle of that time (CLOCK_MONOTONIC) or later; one that has begun goes on."""
        chaos_store(&self.alive().not_before_ns, monotonic_ns)

    def set_stalled(self):
        """No cycle comes any more: a gap is open at the head, as long as that stands there. For the rotator.

        How long it is only the clock can tell when it goes on, so the callback books it as it would without this.
        """
        cdef Writer *w = self.alive()
        chaos_store(&w.rings.stalled, chaos_load(&w.rt.head_frame) + 1)

    def set_own_clock(self, uint64_t clock_id):
        """From now on only frames of this clock are kept; 0: of any. `stats()["other_clock"]` tells of another."""
        chaos_store(&self.alive().own_clock, clock_id)

    def set_rate(self, uint64_t sample_rate):
        """The rate in Hz that the clock must show; cycles at another rate are counted, not kept."""
        self.alive().definition.sample_rate = sample_rate

    def stats(self):
        """The counters of the control block, and how the slots stand. Any thread may ask.

        A stall (`set_stalled`) is an open gap that has no frames yet.
        """
        cdef Writer *w = self.alive()
        cdef uint64_t head = chaos_load(&w.rt.head_frame)
        cdef uint64_t gap_first = chaos_load(&w.rt.gap_first)
        cdef uint64_t gap_cause = chaos_load(&w.rt.gap_cause)
        cdef uint64_t again = chaos_load(&w.rt.gap_first)
        while gap_first != again:   # another gap has begun: the cause is to be its own (`_cycle`, 4)
            gap_first = again
            gap_cause = chaos_load(&w.rt.gap_cause)
            again = chaos_load(&w.rt.gap_first)
        cdef bint stalls = gap_first == NONE and chaos_load(&w.rings.stalled) == head + 1
        if stalls:
            gap_first = head
            gap_cause = chaos_load(&w.rings.hint) or CAUSE_MISSED
        cdef uint64_t base = w.definition.base_chunk * w.definition.chunk_frames
        cdef uint64_t free_slots = chaos_load(&w.rings.free_write) - chaos_load(&w.rings.free_read)
        cdef uint64_t full_slots = chaos_load(&w.rings.full_write) - chaos_load(&w.rings.full_read)
        return {
            "head_frame": head - base, "n_captured": w.rt.n_captured,
            "lost_frames": w.rt.lost_frames - w.definition.base_lost,
            "n_gaps": w.rt.n_gaps + stalls - w.definition.base_gaps, "callbacks": w.rt.callbacks,
            "xruns": w.rt.xruns, "overruns": w.rt.overruns, "switches": w.rt.switches, "torn": w.rt.torn,
            "distrusted": w.rt.distrusted,
            "short_buffers": w.rt.short_buffers, "seen_rate": w.rt.seen_rate,
            "sample_rate": w.definition.sample_rate, "quantum": w.rt.quantum,
            "clock_id": w.rt.clock_id, "other_clock": chaos_load(&w.other_clock), "position": told_position(w.rt.position),
            "end_ns": w.rt.end_ns,
            "first_ns": chaos_load(&w.rt.first_ns), "first_position": told_position(w.rt.first_position),
            "gap_first": -1 if gap_first == NONE else max(gap_first, base) - base, "gap_cause": gap_cause, "stalls": stalls,
            "n_events": w.rt.n_events, "n_at_zero": w.rt.n_at_zero, "n_beyond": w.rt.n_beyond,
            "freewheeled": w.rt.freewheeled, "stands": w.rt.stands, "busy_ns": w.rt.busy_ns, "busy_max_ns": w.rt.busy_max_ns,
            "slots_total": w.definition.n_slots, "slots_free": free_slots, "slots_full": full_slots,
        }

    def busy_histogram(self):
        """How many callbacks took 2^k to 2^(k+1) ns, for each k."""
        cdef Writer *w = self.alive()
        return [w.rt.busy_histogram[k] for k in range(HISTOGRAM_BUCKETS)]
