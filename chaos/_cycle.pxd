"""One cycle of the graph, what the callback remembers from cycle to cycle, and the form of what it stores."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from chaos._layout cimport Definition, Note, Rings, RtState, SlotEntry

cdef enum:
    CLOCK_FREEWHEELS = 1 << 0   # PipeWire's numbers
    CLOCK_JUMPED = 1 << 4       # SPA_IO_CLOCK_FLAG_DISCONT, from 1.5 on

cdef struct Cycle:          # one run of the graph, as the callback sees it
    uint64_t position       # frames, of the driver's clock
    uint64_t n_frames
    uint64_t monotonic_ns
    uint32_t rate           # Hz
    uint32_t clock_id
    uint32_t clock_flags    # CLOCK_FREEWHEELS, CLOCK_JUMPED
    uint64_t xrun           # frames that the driver has lost so far, as it estimates; 0 where it can't tell
    const uint64_t *live_position   # where the clock's position stands; moves on when the next cycle begins
    uint64_t live           # that position when the callback began
    const uint64_t *live_ns # where the clock's time stands, and what it said; the same where the position doesn't move
    uint64_t begun_ns
    uint64_t now_ns         # CLOCK_MONOTONIC when the callback began
    uint32_t count          # of the driver's cycles; it moves on after the buffers, the position before them
    bint is_counted         # whether the server counts them
    uint64_t linked_ns      # CLOCK_MONOTONIC when links were asked for that had not been there; 0: not known
    const void *content     # what the form's `put` reads; only where the cycle lacks nothing
    uint64_t lacks          # the Cause for which none of its frames may be kept, or 0
    bint is_linked          # whether every channel is: then the device should bring frames
    bint is_mixed           # whether PipeWire copied the content before the callback ran, see `is_steady`
    bint is_doubtful        # whether it may be made up in part: held until that is known, see `_silence`
    bint is_asked           # whether that is being asked now
    bint is_answered        # whether it is known of the cycle that was asked of, and those before it
    bint is_denied          # whether what is held was made up
    bint is_resized         # whether the device may have filled it for another length than the clock has
    uint64_t other_frames   # the length by which its clock may count it instead, or 0
    bint is_whole           # whether n_frames is then what the device has filled, and the other the clock's alone

cdef struct Form:           # how one kind of content lies in a slot: all that the accounting does not know
    # Writes frames from_frame ... from_frame + n of the cycle to the slot and offset that the writer is at. Gives 0, or
    # the Cause for which it wrote none of them.
    uint64_t (*put)(Writer *w, const Cycle *c, uint64_t from_frame, uint64_t n) noexcept nogil
    # Makes what the last `put` wrote there zero again.
    void (*take_back)(Writer *w, uint64_t n) noexcept nogil

cdef struct Filled:         # what a `put` of events has added
    uint64_t n_bytes
    uint64_t n_events
    uint64_t n_at_zero
    uint64_t n_beyond

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
    uint64_t not_before_ns  # no take begins before that time of a cycle; any thread may set it
    int64_t slot            # being filled, or -1
    uint64_t offset         # of the next frame within its chunk
    uint64_t used           # bytes of it that hold events
    Filled filled           # by the last `put`
    uint64_t confidence     # of the open gap
    uint64_t seen_end       # position behind the last cycle that called, trusted or not
    uint64_t other_end      # where the next one may begin, too, or NONE; see `Cycle.other_frames`
    uint64_t other_within   # the farther of both only if it comes before so many half frames
    uint64_t recounted      # position behind the last believed cycle as its clock may count it instead, or NONE
    uint64_t seen_clock
    uint64_t seen_position  # of the last cycle that called, as its clock said
    uint64_t seen_ns
    uint64_t still          # times in a row that time went on and the clock's position did not
    uint64_t due_position   # while it stands: behind the last believed cycle, and when the next one should begin
    uint64_t due_ns
    uint64_t set_back       # frames by which the clock's position went back or stood while time went on, since the last
                            # believed cycle
    uint64_t run_position   # where this clock began to count, and when
    uint64_t run_ns
    uint64_t xrun           # the driver's count at the last believed cycle
    uint64_t straight       # frames since the clock last jumped, of cycles that kept pace with time
    uint64_t steady         # those cycles
    uint64_t n_straight     # cycles since then
    uint64_t jumped_ns      # when it did, and when the last cycle called (CLOCK_MONOTONIC)
    uint64_t called_ns
    uint64_t step_position  # of the last believed cycle that was counted: its clock, that's position, length and count
    uint64_t step_frames    # 0: there is none
    uint32_t step_count
    uint32_t step_clock
    uint64_t behind_ns      # when a call first was a cycle behind that, or 0
    uint64_t own_clock      # the only clock whose frames are kept; 0: any. Any thread may set it
    uint64_t other_clock    # the one that drives the device instead, once it has for REFUSE_MS, or 0; as any may read
    uint64_t refused        # frames of its cycles in a row
    uint64_t held           # frames behind the head that nobody may see yet: of doubtful cycles
    uint64_t asked          # of them, those that were asked of
    uint64_t lead           # before the take begins: frames of cycles, one after the other, without data
    bint trusted            # whether the buffers were that cycle's own
    bint off_pace           # whether the last cycle of a clock that stands came at a time that is not its own
    bint jumped             # whether the clock said that it jumped, since the last believed cycle
    bint leapt              # whether it has, and no frame was lost by that: the next anchor says so

cdef inline uint64_t told_position(uint64_t position) noexcept nogil:
    """A clock's position as it is told: modulo 2^62, so that it fits 64 bits with a sign wherever it is kept."""
    return position & (((<uint64_t>1) << 62) - 1)

cdef bint slots_trusts(Writer *w, Cycle *c) noexcept nogil
cdef void slots_cycle(Writer *w, const Cycle *c) noexcept nogil
cdef bint slots_hand_over(Writer *w, Writer *next, const Cycle *c) noexcept nogil
cdef void slots_timed(Writer *w, uint64_t busy_ns) noexcept nogil
cdef void slots_finish(Writer *w, uint64_t end_ns) noexcept nogil
