"""One cycle of the graph, what the callback remembers from cycle to cycle, and the form of what it stores."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from chaos._layout cimport Definition, Note, Rings, RtState, SlotEntry

cdef struct Cycle:          # one run of the graph, as the callback sees it
    uint64_t position       # frames, of the driver's clock
    uint64_t n_frames
    uint64_t monotonic_ns
    uint32_t rate           # Hz
    uint32_t clock_id
    const uint64_t *live_position   # where the clock's position stands; moves on when the next cycle begins
    const void *content     # what the form's `put` reads; only where the cycle lacks nothing
    uint64_t lacks          # the Cause for which none of its frames may be kept, or 0

cdef struct Form:           # how one kind of content lies in a slot: all that the accounting does not know
    # Writes frames from_frame ... from_frame + n of the cycle to the slot and offset that the writer is at.
    void (*put)(const Writer *w, const Cycle *c, uint64_t from_frame, uint64_t n) noexcept nogil
    # Makes what the last `put` wrote there zero again.
    void (*take_back)(const Writer *w, uint64_t n) noexcept nogil

cdef struct Writer:         # the callback's own
    Definition *definition
    RtState *rt
    Rings *rings
    SlotEntry *table
    uint32_t *free_ring
    uint32_t *full_ring
    Note *notes
    uint8_t *data
    const Form *form        # chosen before the stream starts
    int wake_fd
    bint started
    int64_t slot            # being filled, or -1
    uint64_t offset         # of the next frame within its chunk
    uint64_t confidence     # of the open gap
    uint64_t seen_end       # position behind the last cycle that called, trusted or not
    uint64_t seen_clock
    uint64_t straight       # frames since the clock last jumped
    bint trusted            # whether the buffers were that cycle's own

cdef bint slots_trusts(Writer *w, const Cycle *c) noexcept nogil
cdef void slots_cycle(Writer *w, const Cycle *c) noexcept nogil
cdef bint slots_hand_over(Writer *w, Writer *next, const Cycle *c) noexcept nogil
cdef void slots_timed(Writer *w, uint64_t busy_ns) noexcept nogil
cdef void slots_finish(Writer *w, uint64_t end_ns) noexcept nogil
