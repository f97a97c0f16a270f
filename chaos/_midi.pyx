"""MIDI as a form of what slots hold: each chunk is a run of records, one per event (`chaos.terms.form.Record`).

A cycle's events come as a `spa_pod_sequence`: a pod (32 bits of size, 32 of type) with 8 bytes of its own, then a control
for each event: 32 bits each of its offset in frames, its type, its size and its value's type, then its bytes, filled up
to a multiple of 8. The buffer is shared memory that its writer may still change: it is copied first, and what is looked
through is the copy. Bytes of events are kept as they come, right or wrong.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from chaos._cycle cimport Cycle, Form, Writer, slots_cycle
from chaos._layout cimport CAUSE_FOREIGN, CAUSE_MIDI_OVERFLOW, CAUSE_NO_DATA
from chaos._slots cimport Slots
from chaos.atomics cimport chaos_store

cdef enum:
    SEQUENCE = 16           # SPA_TYPE_Sequence
    CONTROL_BYTES = 16      # before an event's bytes
    CONTROL_MIDI = 2        # SPA_CONTROL_Midi
    CONTROL_UMP = 4         # SPA_CONTROL_UMP, for which 0.3.65's headers have no name
    RECORD_BYTES = 8        # before an event's bytes, in a slot


# ---- in the callback -----------------------------------------------------------------------------------------------

cdef struct Control:
    uint32_t offset
    uint32_t kind
    uint32_t size
    const uint8_t *bytes


cdef inline uint64_t padded(uint64_t n_bytes) noexcept nogil:
    return (n_bytes + 7) & ~<uint64_t>7


cdef inline uint32_t word(const uint8_t *at) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, at, sizeof(value))
    return value


cdef inline bint next_control(const MidiEvents *events, uint64_t *at, Control *c) noexcept nogil:
    """The control at `at`, which then stands behind it; False at the end. What was looked through has no other."""
    cdef const uint8_t *place = events.pod + at[0]
    if at[0] + CONTROL_BYTES > events.n_bytes:
        return False
    c.offset = word(place)
    c.kind = word(place + 4)
    c.size = word(place + 8)
    c.bytes = place + CONTROL_BYTES
    if c.size > events.n_bytes - at[0] - CONTROL_BYTES:
        return False
    at[0] += CONTROL_BYTES + padded(c.size)
    return True


cdef Looked midi_look(MidiEvents *to, const uint8_t *data, uint64_t room, uint64_t offset, uint64_t size) noexcept nogil:
    """Copies a buffer of `room` bytes, whose events lie at `offset` and have `size`, and looks the copy through."""
    cdef Control control
    cdef uint64_t at = SEQUENCE_BYTES
    to.n_bytes = 0
    # Up to 1.0 a cycle that did not fit says so by its size, later it is cut down to nothing: an empty one has 16 bytes.
    if size == 0 or size > room or size > EVENT_BYTES:
        return UNFIT
    if offset > room - size or size < SEQUENCE_BYTES:
        return BROKEN
    memcpy(to.pod, data + offset, size)
    if word(to.pod + 4) != SEQUENCE or word(to.pod) > size - 8 or word(to.pod) < 8:
        return BROKEN
    to.n_bytes = 8 + <uint64_t>word(to.pod)
    while next_control(to, &at, &control):
        pass
    if at + CONTROL_BYTES <= to.n_bytes:
        to.n_bytes = 0
        return BROKEN
    return EVENTS


cdef inline bint is_wanted(const Control *control, const Cycle *c, uint64_t from_frame, uint64_t n,
                           uint64_t *frame) noexcept nogil:
    """Whether it is an event of these frames, and its place among them. One behind the cycle counts as at its end."""
    cdef uint64_t at = control.offset if control.offset < c.n_frames else c.n_frames - 1
    frame[0] = at - from_frame
    return (control.kind == CONTROL_MIDI or control.kind == CONTROL_UMP) and from_frame <= at < from_frame + n


cdef uint64_t put(Writer *w, const Cycle *c, uint64_t from_frame, uint64_t n) noexcept nogil:
    """All events of these frames, or none: two walks through what is at most EVENT_BYTES long."""
    cdef const MidiEvents *events = <const MidiEvents *>c.content
    cdef Control control
    cdef uint64_t frame, at = SEQUENCE_BYTES, wanted = 0
    cdef uint8_t *to
    memset(&w.filled, 0, sizeof(w.filled))
    while next_control(events, &at, &control):
        if is_wanted(&control, c, from_frame, n, &frame):
            wanted += RECORD_BYTES + padded(control.size)
    if wanted > w.definition.chunk_bytes - w.used:
        return CAUSE_MIDI_OVERFLOW
    at = SEQUENCE_BYTES
    while wanted > 0 and next_control(events, &at, &control):
        if not is_wanted(&control, c, from_frame, n, &frame):
            continue
        to = w.data + <uint64_t>w.slot * w.definition.slot_bytes + w.used + w.filled.n_bytes
        memcpy(to + RECORD_BYTES, control.bytes, control.size)
        # Last, and at once: whoever reads while this is written finds all of the record or none.
        chaos_store(<uint64_t *>to, (w.offset + frame) | <uint64_t>control.size << 32 | <uint64_t>control.kind << 56)
        w.filled.n_bytes += RECORD_BYTES + padded(control.size)
        w.filled.n_events += 1
        w.filled.n_at_zero += control.offset == 0
        w.filled.n_beyond += control.offset >= c.n_frames
    w.used += w.filled.n_bytes
    w.rt.n_events += w.filled.n_events
    w.rt.n_at_zero += w.filled.n_at_zero
    w.rt.n_beyond += w.filled.n_beyond
    return 0


cdef void take_back(Writer *w, uint64_t n) noexcept nogil:
    w.used -= w.filled.n_bytes
    w.rt.n_events -= w.filled.n_events
    w.rt.n_at_zero -= w.filled.n_at_zero
    w.rt.n_beyond -= w.filled.n_beyond
    memset(w.data + <uint64_t>w.slot * w.definition.slot_bytes + w.used, 0, w.filled.n_bytes)


cdef Form MIDI
MIDI.put = put
MIDI.take_back = take_back


# ---- for Python ----------------------------------------------------------------------------------------------------

cdef class MidiSlots(Slots):
    """Slots that hold events."""

    def __cinit__(self, object buffer, int wake_fd):
        self.writer.form = &MIDI

    def cycle(self, uint64_t position, uint64_t n_frames, object data, *, object size=None, uint32_t maxsize=65536,
              uint32_t offset=0, uint32_t rate=48000, uint32_t clock_id=1, object monotonic_ns=None,
              uint32_t clock_flags=0, uint64_t xrun=0, bint torn=False, bint foreign=False):
        """Runs what the callback runs for one cycle, without the GIL; for tests.

        Args:
            data: what the buffer of `maxsize` bytes holds from its begin on; None where there is no buffer.
            size: what its chunk says of it: left out, the length of `data`.
            offset: likewise, where that begins.
            torn: pretend that the next cycle began during the copy.
            foreign: pretend that somebody else's links bring events, too.
            others: as for `AudioSlots.cycle`.
        """
        cdef Writer *w = self.alive()
        cdef Cycle c
        cdef Py_buffer view
        cdef uint64_t live = position + (1 if torn else 0)
        cdef MidiEvents events
        cdef Looked looked
        cdef uint8_t *buffer = NULL
        cdef uint64_t told
        memset(&c, 0, sizeof(c))
        memset(&events, 0, sizeof(events))
        c.position = position
        c.n_frames = n_frames
        c.rate = rate
        c.clock_id = clock_id
        c.monotonic_ns = position * 1000000000ULL // rate if monotonic_ns is None else <uint64_t>monotonic_ns
        c.clock_flags = clock_flags
        c.xrun = xrun
        c.live_position = &live
        c.live = position
        c.content = &events
        if data is None or foreign:
            c.lacks = CAUSE_FOREIGN if foreign else CAUSE_NO_DATA
            with nogil:
                slots_cycle(w, &c)
            return
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            told = view.len if size is None else size
            buffer = <uint8_t *>calloc(1, maxsize + 1)
            events.pod = <uint8_t *>calloc(1, EVENT_BYTES)
            if buffer == NULL or events.pod == NULL:
                raise MemoryError
            memcpy(buffer, view.buf, min(<uint64_t>view.len, maxsize))
            with nogil:
                looked = midi_look(&events, buffer, maxsize, offset, told)
                if looked != EVENTS:
                    c.lacks = CAUSE_MIDI_OVERFLOW if looked == UNFIT else CAUSE_NO_DATA
                slots_cycle(w, &c)
        finally:
            free(buffer)
            free(events.pod)
            PyBuffer_Release(&view)

    def heard(self):
        """The records of the filling slot so far, the number of its chunk, and its frames that are filled; or None.

        For people to look at: what is read while the slot is given back may be of two chunks."""
        cdef Writer *w = self.alive()
        now = self.filling()
        if now is None:
            return None
        slot, chunk, filled = now
        cdef uint64_t n = min(w.used, w.definition.slot_bytes)
        return (<const char *>(w.data + <uint64_t>slot * w.definition.slot_bytes))[:n], chunk, filled

    def measure(self, uint32_t slot, uint64_t first, uint64_t end, uint64_t origin=0):
        """Events have no level."""
        return []

    def levels(self, uint64_t n_frames):
        """Events have none."""
        return []
