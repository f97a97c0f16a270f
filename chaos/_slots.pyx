"""The hand-off between the RT callback and the rotator: slots, rings, loss accounting.

`slots_cycle` is what the callback runs for each cycle of the graph; it knows no PipeWire, so property tests drive the
very same machine code through `SlotWriter.cycle`. It allocates nothing, takes no lock and makes no system call but one
eventfd write per full slot (and one when capture begins or has a slot again).

Memory order: the callback releases `head_frame` after the frames it counts, and each ring's write index after the
entries before it; the other side acquires both. The rotator writes NONE into a slot's entry before it clears the slot,
so a reader that copied from the slot and still finds its chunk's number there has not been lapped.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cdef extern from "unistd.h" nogil:
    ssize_t write(int fd, const void *data, size_t n)

cdef extern from "sys/mman.h" nogil:
    int c_mlock "mlock"(const void *start, size_t n)

cdef extern from "_kernels.h" nogil:
    uint64_t chaos_load(const uint64_t *p)
    uint64_t chaos_peek(const uint64_t *p)
    void chaos_store(uint64_t *p, uint64_t v)
    void chaos_fence()
    void chaos_deinterleave_32(uint32_t *dst, uint64_t stride, const uint32_t *src, uint64_t channels, uint64_t n)
    void chaos_deinterleave_16(uint16_t *dst, uint64_t stride, const uint16_t *src, uint64_t channels, uint64_t n)
    void chaos_copy_planes(uint8_t *dst, uint64_t stride, const uint8_t *const *planes, uint64_t channels, uint64_t at,
                           uint64_t n)
    void chaos_level_f32(const float *src, uint64_t n, double *peak, double *mean_square)
    void chaos_level_s16(const int16_t *src, uint64_t n, double *peak, double *mean_square)
    void chaos_level_s32(const int32_t *src, uint64_t n, double *peak, double *mean_square)

cdef uint64_t NONE = 0xFFFFFFFFFFFFFFFFULL

cdef enum:      # as chaos.terms.ledger numbers them; a test holds both against each other
    CAUSE_MISSED = 1
    CAUSE_OVERRUN = 3
    CAUSE_DEVICE_AWAY = 4
    CAUSE_DRIVER_SWITCH = 5
    CAUSE_NO_DATA = 7
    CAUSE_FOREIGN = 9
    EXACT = 1
    CLOCK = 2
    NOTE_GAP = 1
    NOTE_ANCHOR = 2
    TRUST_MS = 5            # a late callback is not late twice in a row by just one cycle for so long
    NOTES_PER_CYCLE = 4     # at most: a gap that changes its cause, the gap that closes, a switch, an anchor

CAUSES = {"missed": CAUSE_MISSED, "overrun": CAUSE_OVERRUN, "device_away": CAUSE_DEVICE_AWAY,
          "driver_switch": CAUSE_DRIVER_SWITCH, "no_data": CAUSE_NO_DATA, "foreign": CAUSE_FOREIGN}
CONFIDENCES = {"exact": EXACT, "clock": CLOCK}
NOTE_KINDS = {"gap": NOTE_GAP, "anchor": NOTE_ANCHOR}


# ---- the callback's side ------------------------------------------------------------------------------------------

cdef inline void signal(Writer *w) noexcept nogil:
    cdef uint64_t one = 1
    # Non-blocking; it can only fail when 2^64-2 signals are pending, and then the reader is awake anyway.
    write(w.wake_fd, &one, sizeof(one))


cdef inline uint64_t note_room(Writer *w) noexcept nogil:
    return w.definition.n_notes - (chaos_peek(&w.rings.note_write) - chaos_load(&w.rings.note_read))


cdef void push_note(Writer *w, uint32_t kind, uint32_t cause, uint32_t confidence, uint64_t first, uint64_t n,
                    const Cycle *c) noexcept nogil:
    cdef uint64_t at = chaos_peek(&w.rings.note_write)
    cdef Note *note = &w.notes[at & (w.definition.n_notes - 1)]
    note.kind = kind
    note.cause = cause
    note.confidence = confidence
    note.rate = c.rate
    note.first_frame = first
    note.n_frames = n
    note.position = c.position
    note.monotonic_ns = c.monotonic_ns
    note.clock_id = c.clock_id
    chaos_store(&w.rings.note_write, at + 1)


cdef void give_full(Writer *w) noexcept nogil:
    """Hands the slot being filled to the rotator."""
    cdef uint64_t at = chaos_peek(&w.rings.full_write)
    w.full_ring[at & (w.definition.ring_size - 1)] = <uint32_t>w.slot
    chaos_store(&w.rings.full_write, at + 1)
    w.slot = -1
    chaos_store(&w.rt.filling, NONE)
    signal(w)


cdef bint take_free(Writer *w) noexcept nogil:
    """Takes a free slot for the chunk that the head stands in; False when there is none."""
    cdef uint64_t at = chaos_peek(&w.rings.free_read)
    cdef uint64_t head = w.rt.head_frame
    if at == chaos_load(&w.rings.free_write):
        return False
    w.slot = w.free_ring[at & (w.definition.ring_size - 1)]
    chaos_store(&w.rings.free_read, at + 1)
    w.offset = head % w.definition.chunk_frames
    chaos_store(&w.table[w.slot].chunk, head // w.definition.chunk_frames)
    chaos_store(&w.rt.filling, <uint64_t>w.slot)
    return True


cdef void close_gap(Writer *w, const Cycle *c) noexcept nogil:
    """Tells of the open gap, which ends at the head. There must be room for a note."""
    if w.rt.gap_first == NONE:
        return
    push_note(w, NOTE_GAP, <uint32_t>w.rt.gap_cause, <uint32_t>w.confidence, w.rt.gap_first,
              w.rt.head_frame - w.rt.gap_first, c)
    chaos_store(&w.rt.gap_first, NONE)


cdef void skip(Writer *w, const Cycle *c, uint64_t n, uint64_t cause, uint64_t confidence) noexcept nogil:
    """Moves the head over n lost frames and keeps account of them.

    What the slots held there is zero already. A gap with another cause than the open one closes that one, but for
    cycles without data at either end of a device's absence: they belong to it.
    """
    cdef uint64_t head = w.rt.head_frame
    if w.rt.gap_first != NONE and w.rt.gap_cause != cause:
        if cause == CAUSE_NO_DATA and w.rt.gap_cause == CAUSE_DEVICE_AWAY:
            cause = CAUSE_DEVICE_AWAY
        elif cause == CAUSE_DEVICE_AWAY and w.rt.gap_cause == CAUSE_NO_DATA:
            w.rt.gap_cause = cause
            w.confidence = confidence
        elif note_room(w) > NOTES_PER_CYCLE:
            close_gap(w, c)
    if w.rt.gap_first == NONE:
        w.rt.gap_cause = cause
        w.confidence = confidence
        w.rt.n_gaps += 1
        if cause == CAUSE_OVERRUN:
            w.rt.overruns += 1
        chaos_store(&w.rt.gap_first, head)
    elif confidence != EXACT:
        w.confidence = confidence
    w.rt.lost_frames += n
    head += n
    if w.slot >= 0:
        if head // w.definition.chunk_frames != chaos_peek(&w.table[w.slot].chunk):
            chaos_store(&w.rt.head_frame, head)
            give_full(w)
        else:
            w.offset += n
    chaos_store(&w.rt.head_frame, head)


cdef void copy_in(Writer *w, const Cycle *c, uint64_t from_frame, uint64_t n) noexcept nogil:
    """Copies frames from_frame … from_frame + n of the cycle to the slot's offset, planar."""
    cdef uint64_t width = w.definition.sample_bytes
    cdef uint64_t channels = w.definition.channels
    cdef uint64_t stride = w.definition.chunk_frames
    cdef uint8_t *to = w.data + <uint64_t>w.slot * w.definition.slot_bytes + w.offset * width
    if c.planes != NULL:
        chaos_copy_planes(to, stride * width, c.planes, channels, from_frame * width, n * width)
    elif width == 2:
        chaos_deinterleave_16(<uint16_t *>to, stride, <const uint16_t *>c.interleaved + from_frame * channels,
                              channels, n)
    else:
        chaos_deinterleave_32(<uint32_t *>to, stride, <const uint32_t *>c.interleaved + from_frame * channels,
                              channels, n)


cdef void clear_in(Writer *w, uint64_t n) noexcept nogil:
    """Makes n frames at the slot's offset zero again: they were torn while they were copied."""
    cdef uint64_t width = w.definition.sample_bytes
    cdef uint8_t *to = w.data + <uint64_t>w.slot * w.definition.slot_bytes + w.offset * width
    cdef uint64_t k
    for k in range(w.definition.channels):
        memset(to + k * w.definition.chunk_frames * width, 0, n * width)


cdef void store_frames(Writer *w, const Cycle *c) noexcept nogil:
    """Copies a whole cycle's frames, over as many slots as they touch; what finds no slot is an overrun."""
    cdef uint64_t done = 0, n
    cdef bint anchored = False      # all chunks that begin in one cycle share its anchor
    while done < c.n_frames:
        if note_room(w) < NOTES_PER_CYCLE:
            # A gap that can't be told of may not end: what comes before there is room belongs to it.
            skip(w, c, c.n_frames - done, CAUSE_OVERRUN, EXACT)
            return
        if w.slot < 0:
            if not take_free(w):
                skip(w, c, c.n_frames - done, CAUSE_OVERRUN, EXACT)
                return
            if w.rt.gap_first != NONE or w.rt.head_frame == 0:
                signal(w)
            if w.rt.gap_first == NONE and not anchored:
                push_note(w, NOTE_ANCHOR, 0, 0, w.rt.head_frame - done, 0, c)
                anchored = True
        n = c.n_frames - done
        if n > w.definition.chunk_frames - w.offset:
            n = w.definition.chunk_frames - w.offset
        copy_in(w, c, done, n)
        chaos_fence()
        if c.live_position != NULL and chaos_peek(c.live_position) != c.position:
            clear_in(w, n)
            w.rt.torn += 1
            skip(w, c, c.n_frames - done, CAUSE_MISSED, EXACT)
            return
        if w.rt.gap_first != NONE:
            close_gap(w, c)
            push_note(w, NOTE_ANCHOR, 0, 0, w.rt.head_frame - done, 0, c)
            anchored = True
        w.rt.n_captured += n
        w.offset += n
        done += n
        chaos_store(&w.rt.head_frame, w.rt.head_frame + n)
        if w.offset == w.definition.chunk_frames:
            give_full(w)


cdef inline uint64_t frames_between(uint64_t from_ns, uint64_t to_ns, uint32_t rate) noexcept nogil:
    """The whole frames nearest to a stretch of time; 0 when it is negative."""
    if to_ns <= from_ns:
        return 0
    return <uint64_t>(<double>(to_ns - from_ns) * rate / 1e9 + 0.5)


cdef void account(Writer *w, const Cycle *c) noexcept nogil:
    """Books what the clock says was lost between the last cycle and this one."""
    cdef int64_t jump = <int64_t>(c.position - w.rt.position)
    cdef uint64_t elapsed = frames_between(w.rt.end_ns, c.monotonic_ns, c.rate)
    cdef uint64_t hint = chaos_load(&w.rings.hint)
    cdef uint64_t slack = 2 * c.n_frames
    if c.clock_id == w.rt.clock_id:
        if hint == 0:
            if jump > 0:
                w.rt.xruns += 1
                skip(w, c, <uint64_t>jump, CAUSE_MISSED, EXACT)
                return
            if jump == 0:
                return
        elif jump >= 0 and <uint64_t>jump + slack >= elapsed and <uint64_t>jump <= elapsed + slack:
            # The clock went on without us, so its position is better than the time that passed.
            if jump > 0:
                skip(w, c, <uint64_t>jump, hint, EXACT)
            return
    if hint != 0:
        if c.clock_id != w.rt.clock_id:
            w.rt.switches += 1
        skip(w, c, elapsed, hint, CLOCK)
        return
    # Another clock, or one that went back: its position says nothing about what came before, only the time does.
    w.rt.switches += 1
    if 2 * elapsed < c.n_frames:
        elapsed = 0
    skip(w, c, elapsed, CAUSE_DRIVER_SWITCH, CLOCK)


cdef bint slots_trusts(Writer *w, const Cycle *c) noexcept nogil:
    """Whether the buffers hold this cycle's frames; where not, `slots_cycle` must not see it.

    A callback that comes late may run when the next cycle has moved the clock on but not filled the buffers yet: the
    position is new, the frames are old. PipeWire then calls again for the same cycle, and by then the device's buffer
    may have been replaced by silence, since the graph counted the late call as this cycle's. So the first cycle after
    a jump (also one of no frames) is not believed, nor are those that follow it within TRUST_MS. What is left out is
    booked as missed when the next believed cycle comes.
    """
    if w.rt.callbacks + w.rt.distrusted == 0 or c.clock_id != w.seen_clock or c.position != w.seen_end:
        w.trusted = False
        w.straight = 0
    elif not w.trusted:
        w.straight += c.n_frames
        w.trusted = w.straight * 1000 >= <uint64_t>TRUST_MS * c.rate
    w.seen_end = c.position + c.n_frames
    w.seen_clock = c.clock_id
    if not w.trusted:
        w.rt.distrusted += 1
    return w.trusted


cdef bint slots_hand_over(Writer *w, Writer *next, const Cycle *c) noexcept nogil:
    """Whether `next` may take this trusted cycle, and all that follow, in place of `w`; it is prepared for it then.

    Only where the cycle follows the last one without a seam, so that the one's last frame and the other's first are
    neighbours: no gap is open or due, and the clock is the same.
    """
    if not (w.started and c.complete and c.clock_id == w.rt.clock_id and c.position == w.rt.position
            and c.rate == w.rt.seen_rate and w.rt.gap_first == NONE and chaos_load(&w.rings.hint) == 0):
        return False
    next.trusted = True
    next.straight = w.straight
    next.seen_end = w.seen_end
    next.seen_clock = w.seen_clock
    return True


cdef void slots_cycle(Writer *w, const Cycle *c) noexcept nogil:
    """Takes in one cycle of the graph. Called by one thread at a time; bounded by the cycle's size."""
    w.rt.callbacks += 1
    w.rt.quantum = c.n_frames
    if w.definition.sample_rate != 0 and c.rate != w.definition.sample_rate:
        if w.rt.seen_rate != c.rate:
            chaos_store(&w.rt.seen_rate, c.rate)
            signal(w)
        return
    chaos_store(&w.rt.seen_rate, c.rate)
    if not w.started:
        if not c.complete:
            return
        w.started = True
        w.definition.sample_rate = c.rate
        w.rt.clock_id = c.clock_id
        w.rt.first_position = c.position
        chaos_store(&w.rt.first_ns, c.monotonic_ns)
    else:
        account(w, c)
    w.rt.clock_id = c.clock_id
    w.rt.position = c.position + c.n_frames
    w.rt.end_ns = c.monotonic_ns + c.n_frames * 1000000000ULL // c.rate
    if c.complete:
        # The main thread learns of a device's end after the last frame of it has come.
        if chaos_peek(&w.rings.hint) != 0:
            chaos_store(&w.rings.hint, 0)
        store_frames(w, c)
    else:
        skip(w, c, c.n_frames, CAUSE_FOREIGN if c.foreign else CAUSE_NO_DATA, EXACT)


cdef void slots_timed(Writer *w, uint64_t busy_ns) noexcept nogil:
    """Books the time that one callback took."""
    cdef uint64_t bucket = 63 - __builtin_clzll(busy_ns | 1)
    w.rt.busy_ns += busy_ns
    if busy_ns > w.rt.busy_max_ns:
        w.rt.busy_max_ns = busy_ns
    w.rt.busy_histogram[bucket if bucket < HISTOGRAM_BUCKETS else HISTOGRAM_BUCKETS - 1] += 1


cdef extern from *:
    int __builtin_clzll(unsigned long long v) nogil


# ---- the rotator's side -------------------------------------------------------------------------------------------

cdef dict field_offsets():
    """Offset and size of each field, as this build's compiler laid them out."""
    cdef Definition d
    cdef RtState r
    cdef Rings g
    cdef char *at_d = <char *>&d
    cdef char *at_r = <char *>&r
    cdef char *at_g = <char *>&g
    return {
        "magic": <char *>&d.magic - at_d, "version": <char *>&d.version - at_d,
        "channels": <char *>&d.channels - at_d, "sample_bytes": <char *>&d.sample_bytes - at_d,
        "sample_format": <char *>&d.sample_format - at_d, "n_slots": <char *>&d.n_slots - at_d,
        "ring_size": <char *>&d.ring_size - at_d, "n_notes": <char *>&d.n_notes - at_d,
        "pid": <char *>&d.pid - at_d, "chunk_frames": <char *>&d.chunk_frames - at_d,
        "slot_bytes": <char *>&d.slot_bytes - at_d, "table_offset": <char *>&d.table_offset - at_d,
        "free_offset": <char *>&d.free_offset - at_d, "full_offset": <char *>&d.full_offset - at_d,
        "notes_offset": <char *>&d.notes_offset - at_d, "data_offset": <char *>&d.data_offset - at_d,
        "file_bytes": <char *>&d.file_bytes - at_d, "sample_rate": <char *>&d.sample_rate - at_d,
        "run_id": <char *>&d.run_id - at_d, "boot_id": <char *>&d.boot_id - at_d,
        "uri": <char *>&d.uri - at_d, "recording": <char *>&d.recording - at_d,
        "about_offset": <char *>&d.about_offset - at_d, "about_bytes": <char *>&d.about_bytes - at_d,
        "head_frame": RT_OFFSET + (<char *>&r.head_frame - at_r),
        "n_captured": RT_OFFSET + (<char *>&r.n_captured - at_r),
        "lost_frames": RT_OFFSET + (<char *>&r.lost_frames - at_r),
        "seen_rate": RT_OFFSET + (<char *>&r.seen_rate - at_r),
        "clock_id": RT_OFFSET + (<char *>&r.clock_id - at_r),
        "position": RT_OFFSET + (<char *>&r.position - at_r),
        "end_ns": RT_OFFSET + (<char *>&r.end_ns - at_r),
        "gap_first": RT_OFFSET + (<char *>&r.gap_first - at_r),
        "gap_cause": RT_OFFSET + (<char *>&r.gap_cause - at_r),
        "filling": RT_OFFSET + (<char *>&r.filling - at_r),
        "first_ns": RT_OFFSET + (<char *>&r.first_ns - at_r),
        "first_position": RT_OFFSET + (<char *>&r.first_position - at_r),
        "busy_histogram": RT_OFFSET + (<char *>&r.busy_histogram - at_r),
        "free_write": RINGS_OFFSET + (<char *>&g.free_write - at_g),
        "free_read": RINGS_OFFSET + (<char *>&g.free_read - at_g),
        "full_write": RINGS_OFFSET + (<char *>&g.full_write - at_g),
        "full_read": RINGS_OFFSET + (<char *>&g.full_read - at_g),
        "note_write": RINGS_OFFSET + (<char *>&g.note_write - at_g),
        "note_read": RINGS_OFFSET + (<char *>&g.note_read - at_g),
        "hint": RINGS_OFFSET + (<char *>&g.hint - at_g),
    }


OFFSETS = field_offsets()
ENTRY_BYTES = sizeof(SlotEntry)
NOTE_BYTES = sizeof(Note)
RT_BYTES = sizeof(RtState)
LAYOUT = LAYOUT_VERSION
CONTROL = CONTROL_BYTES


def acquire_fence():
    """Orders what was read before it against what is read after it (for readers of a staging file)."""
    chaos_fence()


cdef class SlotWriter:
    """Both ends of the hand-off over one staging file: the callback's (C only) and the rotator's.

    Args:
        buffer: the staging file's mapping, writable, with its `Definition` filled in (`chaos.staging.file.Staging` does).
        wake_fd: a non-blocking eventfd, written once per full slot; stays the caller's.

    The callback's side belongs to one thread, the rotator's side to one thread; `stats` may be called by any.
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
            w.free_ring[k] = k
        chaos_store(&w.rings.free_write, w.definition.n_slots)
        self._alive = True

    def close(self):
        """Lets the mapping go; the callback must have been detached. Twice is harmless, any other call an error."""
        if self._alive:
            self._alive = False
            PyBuffer_Release(&self._view)

    def __dealloc__(self):
        self.close()

    cdef Writer *ask(self) except NULL:
        if not self._alive:
            raise ValueError("the slots are closed")
        return &self.writer

    # -- what the callback does, for tests and for the fake device

    def cycle(self, uint64_t position, uint64_t n_frames, object data, *, uint32_t rate=48000, uint32_t clock_id=1,
              object monotonic_ns=None, bint interleaved=False, bint torn=False, bint foreign=False):
        """Runs what the callback runs for one cycle.

        Args:
            position: the clock's position at the cycle's begin, frames.
            data: bytes-like, (channels, n_frames) planar or (n_frames, channels) interleaved; None where the device
                delivered nothing.
            torn: pretend that the next cycle began during the copy.
            foreign: pretend that somebody else's links bring audio, too; without `data`.
        """
        cdef Writer *w = self.ask()
        cdef uint64_t channels = w.definition.channels
        cdef Cycle c
        cdef Py_buffer view
        cdef uint64_t live = position + (1 if torn else 0)
        cdef const uint8_t **planes = NULL
        cdef uint64_t k
        memset(&c, 0, sizeof(c))
        c.position = position
        c.n_frames = n_frames
        c.rate = rate
        c.clock_id = clock_id
        c.monotonic_ns = position * 1000000000ULL // rate if monotonic_ns is None else <uint64_t>monotonic_ns
        c.live_position = &live
        c.foreign = foreign
        if data is None:
            slots_cycle(w, &c)
            return
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if <uint64_t>view.len != channels * n_frames * w.definition.sample_bytes:
                raise ValueError("data does not hold channels x n_frames samples")
            c.complete = True
            if interleaved:
                c.interleaved = view.buf
            else:
                planes = <const uint8_t **>malloc(channels * sizeof(void *))
                if planes == NULL:
                    raise MemoryError
                for k in range(channels):
                    planes[k] = <uint8_t *>view.buf + k * n_frames * w.definition.sample_bytes
                c.planes = planes
            slots_cycle(w, &c)
        finally:
            free(planes)
            PyBuffer_Release(&view)

    def trusts(self, uint64_t position, uint64_t n_frames, *, uint32_t rate=48000, uint32_t clock_id=1):
        """Whether the callback would believe that the buffers hold this cycle; to be asked once per cycle."""
        cdef Cycle c
        memset(&c, 0, sizeof(c))
        c.position = position
        c.n_frames = n_frames
        c.rate = rate
        c.clock_id = clock_id
        return bool(slots_trusts(self.ask(), &c))

    def hands_over(self, SlotWriter following, uint64_t position, uint64_t n_frames, *, uint32_t rate=48000,
                   uint32_t clock_id=1):
        """Whether `following` may go on with this cycle in place of this writer (see `slots_hand_over`)."""
        cdef Cycle c
        memset(&c, 0, sizeof(c))
        c.position = position
        c.n_frames = n_frames
        c.rate = rate
        c.clock_id = clock_id
        c.complete = True
        return bool(slots_hand_over(self.ask(), following.ask(), &c))

    # -- the rotator's side

    def take_full(self):
        """The oldest full slot and the number of its chunk, or None. It stays taken until `give_back`."""
        cdef Writer *w = self.ask()
        cdef uint64_t at = chaos_peek(&w.rings.full_read)
        if at == chaos_load(&w.rings.full_write):
            return None
        cdef uint32_t slot = w.full_ring[at & (w.definition.ring_size - 1)]
        chaos_store(&w.rings.full_read, at + 1)
        return slot, w.table[slot].chunk

    def give_back(self, uint32_t slot):
        """Clears a slot that `take_full` or `finish` gave, and lets the callback have it again."""
        cdef Writer *w = self.ask()
        if slot >= w.definition.n_slots or w.table[slot].chunk == NONE:
            raise ValueError("no such slot is taken")
        cdef uint64_t at = chaos_peek(&w.rings.free_write)
        cdef uint8_t *place = w.data + <uint64_t>slot * w.definition.slot_bytes
        cdef size_t n = w.definition.slot_bytes
        chaos_store(&w.table[slot].chunk, NONE)
        chaos_fence()
        with nogil:
            memset(place, 0, n)
        w.free_ring[at & (w.definition.ring_size - 1)] = slot
        chaos_store(&w.rings.free_write, at + 1)

    def take_notes(self):
        """All that the callback told since the last call, in order.

        Each is (kind, cause, confidence, rate, first_frame, n_frames, position, monotonic_ns, clock_id); position and
        monotonic_ns are those of the cycle that ended the gap or that the anchor stands for.
        """
        cdef Writer *w = self.ask()
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
        cdef Writer *w = self.ask()
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
        return slot, chunk, min(<uint64_t>n, w.definition.chunk_frames)

    def finish(self, object end_ns=None):
        """Ends the take. To be called once, after the callback has been detached for good.

        The slot being filled becomes the last full one. An open gap ends here: at the head, or, when the device is
        away (a hint stands), where the clock must be at `end_ns` (CLOCK_MONOTONIC).

        Returns:
            The take's length in frames, and the last gap as (first_frame, n_frames, cause, confidence) or None.
        """
        cdef Writer *w = self.ask()
        cdef Cycle c
        cdef uint64_t hint = chaos_load(&w.rings.hint)
        cdef uint64_t elapsed
        memset(&c, 0, sizeof(c))
        if w.started and hint != 0 and end_ns is not None:
            c.rate = <uint32_t>w.definition.sample_rate
            elapsed = frames_between(w.rt.end_ns, end_ns, c.rate)
            if elapsed > 0:
                skip(w, &c, elapsed, hint, CLOCK)
        gap = None
        if w.rt.gap_first != NONE:
            gap = (w.rt.gap_first, w.rt.head_frame - w.rt.gap_first, w.rt.gap_cause, w.confidence)
            w.rt.gap_first = NONE
        if w.slot >= 0:
            give_full(w)
        return w.rt.head_frame, gap

    def set_hint(self, uint64_t cause):
        """Why the next cycles will be missing (a Cause); the callback forgets it once it has booked the gap."""
        chaos_store(&self.ask().rings.hint, cause)

    def set_rate(self, uint64_t sample_rate):
        """The rate in Hz that the clock must show; cycles at another rate are counted, not kept."""
        self.ask().definition.sample_rate = sample_rate

    def lock(self):
        """Locks the slots into memory as far as the limit allows. Returns the bytes that are locked."""
        cdef Writer *w = self.ask()
        cdef size_t total = w.definition.file_bytes
        if c_mlock(w.definition, total) == 0:
            return total
        return w.definition.data_offset if c_mlock(w.definition, w.definition.data_offset) == 0 else 0

    def levels(self, uint64_t n_frames):
        """(peak, mean square) of each channel over the last n_frames of the filling slot; full scale is 1.0."""
        cdef Writer *w = self.ask()
        now = self.filling()
        if now is None:
            return []
        slot, _, filled = now
        cdef uint64_t n = min(n_frames, <uint64_t>filled)
        cdef uint64_t k, first = <uint64_t>filled - n
        cdef uint8_t *at
        cdef double peak = 0, square = 0
        cdef list found = []
        for k in range(w.definition.channels):
            at = (w.data + <uint64_t>slot * w.definition.slot_bytes
                  + (k * w.definition.chunk_frames + first) * w.definition.sample_bytes)
            if w.definition.sample_format == 1:
                chaos_level_f32(<const float *>at, n, &peak, &square)
            elif w.definition.sample_format == 2:
                chaos_level_s16(<const int16_t *>at, n, &peak, &square)
            else:
                chaos_level_s32(<const int32_t *>at, n, &peak, &square)
            found.append((peak, square))
        return found

    def stats(self):
        """The counters of the control block, and how the slots stand. Any thread may ask."""
        cdef Writer *w = self.ask()
        cdef uint64_t free_slots = chaos_load(&w.rings.free_write) - chaos_load(&w.rings.free_read)
        cdef uint64_t full_slots = chaos_load(&w.rings.full_write) - chaos_load(&w.rings.full_read)
        return {
            "head_frame": chaos_load(&w.rt.head_frame), "n_captured": w.rt.n_captured,
            "lost_frames": w.rt.lost_frames, "n_gaps": w.rt.n_gaps, "callbacks": w.rt.callbacks,
            "xruns": w.rt.xruns, "overruns": w.rt.overruns, "switches": w.rt.switches, "torn": w.rt.torn,
            "distrusted": w.rt.distrusted,
            "short_buffers": w.rt.short_buffers, "seen_rate": w.rt.seen_rate,
            "sample_rate": w.definition.sample_rate, "quantum": w.rt.quantum,
            "clock_id": w.rt.clock_id, "position": w.rt.position, "end_ns": w.rt.end_ns,
            "first_ns": chaos_load(&w.rt.first_ns), "first_position": w.rt.first_position,
            "gap_first": -1 if w.rt.gap_first == NONE else w.rt.gap_first, "gap_cause": w.rt.gap_cause,
            "busy_ns": w.rt.busy_ns, "busy_max_ns": w.rt.busy_max_ns,
            "slots_total": w.definition.n_slots, "slots_free": free_slots, "slots_full": full_slots,
        }

    def busy_histogram(self):
        """How many callbacks took 2^k to 2^(k+1) ns, for each k."""
        cdef Writer *w = self.ask()
        return [w.rt.busy_histogram[k] for k in range(HISTOGRAM_BUCKETS)]
