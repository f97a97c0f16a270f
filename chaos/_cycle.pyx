"""What becomes of one cycle of the graph: the callback's side of the slots, rings and loss accounting.

`slots_cycle` is what the callback runs for each cycle; it knows no PipeWire and no form of content, so property tests
drive the very same machine code through `Slots.cycle`. It allocates nothing, takes no lock and makes no system call
but one eventfd write per full slot (and one when capture begins or has a slot again).

Memory order, argued once. Each word has one writer but `hint`, and each is 64 bits wide and aligned, so that none is
seen half-written. "Publishes" is a store that releases, "finds" a load that acquires.

1. Rings. Entries are written, then the write index publishes them; the other side finds the index, reads the entries,
   then publishes its read index. A ring of slots has room for all of them and so is never full; before a note is
   written, the read index is found, so that no note is overwritten that the rotator has not read.
2. Head. Frames are copied into the slot, notes pushed, then `head_frame` publishes them: whoever finds the head sees all
   frames before it. A follower that read notes of the ring while they were overwritten must notice: the fence in
   `push_note` keeps a new note's words behind the index before it, and the follower's fence keeps its reading of them
   before its second look at the index. One index of margin covers the note that is being written.
3. Slots. A slot's entry is NONE, and a fence passed, before the slot is cleared; it names a new chunk, and a fence has
   passed, before that chunk's frames come: what was found by the free ring alone, a store doesn't hand on. A follower finds the entry, copies, passes a fence and looks again: had it copied anything that
   was written since, it would find NONE or the new chunk.
4. Open gap. `gap_cause` is written before `gap_first` publishes it, and a fence lies between the end of one gap and the
   cause of the next: a follower that finds the same `gap_first` before and after the cause has that gap's own.
5. Hint. Any thread may publish one; the callback clears only the very one that it has found.

All holds on ARM, where stores may pass each other; x86 keeps their order by itself. `tests/staging/test_memory_order.py`
tries 1 to 4 in every order that C11 allows, and each order left out. The counters beside these are for
people, and may be a cycle older or newer than the head.

Over 400 lines with this text, which stands beside the code that it argues for.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from chaos._layout cimport *
from chaos.atomics cimport chaos_clear, chaos_fence, chaos_load, chaos_peek, chaos_store

cdef extern from "unistd.h" nogil:
    ssize_t write(int fd, const void *data, size_t n)

cdef extern from *:
    int __builtin_clzll(unsigned long long v) nogil

cdef enum:
    TRUST_MS = 5            # a late callback is not late twice in a row by just one cycle for so long
    STALL_MS = 200          # how late a cycle may be before a take that ends then is missing it
    NOTES_PER_CYCLE = 4     # at most: a gap that changes its cause, and again, the gap that closes, an anchor
    FASTEST = 1024          # times real time; no graph is faster
    STILL_CYCLES = 8
    REFUSE_MS = 500         # a clock that is not the device's may drive it for so long while links are made
    BEGIN_S = 1             # cycles without data for so long begin the take
    FIRST_PART = 4          # a device has its frames before so much (1/n) of the cycle has passed
    STEADY_CYCLES = 3       # what has been mixed is believed after so many that keep pace with time;
    FOLLOW = 8              # one of so many parts of what a cycle is late moves the time kept for a clock that stands
    FAST_CYCLES = 16        # cycles of a clock that is faster than time after so many
    FAST_MS = 100           # and so long
    BEHIND_MS = 1000        # a clock that leaves out one cycle's frames may look so long as if the callback were behind
    CATCH_UP_S = 2          # a driver that was late may run so many seconds of cycles without a pause


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
    chaos_fence()
    note.kind = kind
    note.cause = cause
    note.confidence = confidence
    note.rate = c.rate
    note.first_frame = first
    note.n_frames = n
    note.position = told_position(c.position)
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


cdef inline bint has_free(Writer *w) noexcept nogil:
    return chaos_peek(&w.rings.free_read) != chaos_load(&w.rings.free_write)


cdef bint take_free(Writer *w) noexcept nogil:
    """Takes a free slot for the chunk that the head stands in; False when there is none."""
    cdef uint64_t at = chaos_peek(&w.rings.free_read)
    cdef uint64_t head = w.rt.head_frame
    if not has_free(w):
        return False
    w.slot = w.free_ring[at & (w.definition.ring_size - 1)]
    chaos_store(&w.rings.free_read, at + 1)
    w.offset = head % w.definition.chunk_frames
    w.used = 0
    chaos_store(&w.table[w.slot].chunk, head // w.definition.chunk_frames)
    chaos_fence()
    chaos_store(&w.rt.filling, <uint64_t>w.slot)
    return True


cdef void push_anchor(Writer *w, const Cycle *c, uint64_t done) noexcept nogil:
    """Says which frame the cycle's first one is, `done` of which are stored, whether the clock jumped before it, and
    whether its position is counted by time."""
    push_note(w, NOTE_ANCHOR, CAUSE_CLOCK_JUMP if w.leapt else 0, CLOCK if w.rt.stands else 0, w.rt.head_frame - done, 0, c)
    w.leapt = False


cdef void close_gap(Writer *w, const Cycle *c) noexcept nogil:
    """Tells of the open gap, which ends at the head. There must be room for a note."""
    if w.rt.gap_first == NONE:
        return
    push_note(w, NOTE_GAP, <uint32_t>w.rt.gap_cause, <uint32_t>w.confidence, w.rt.gap_first,
              w.rt.head_frame - w.rt.gap_first, c)
    chaos_store(&w.rt.gap_first, NONE)
    chaos_fence()


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


cdef void store_frames(Writer *w, const Cycle *c) noexcept nogil:
    """Copies a whole cycle's frames, over as many slots as they touch; what finds no slot is an overrun, and what its
    form does not take a gap of the cause that this gives."""
    cdef uint64_t done = 0, n, cause
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
                push_anchor(w, c, done)
                anchored = True
        n = c.n_frames - done
        if n > w.definition.chunk_frames - w.offset:
            n = w.definition.chunk_frames - w.offset
        cause = w.form.put(w, c, done, n)
        chaos_fence()
        if c.live_position != NULL and chaos_peek(c.live_position) != c.live:
            w.form.take_back(w, n)
            w.rt.torn += 1
            w.seen_end = w.other_end = NONE     # so that the cycle after it is not believed
            skip(w, c, c.n_frames - done, CAUSE_MISSED, EXACT)
            return
        if cause != 0:
            skip(w, c, n, cause, EXACT)
            done += n
            continue
        if w.rt.gap_first != NONE:
            close_gap(w, c)
            push_anchor(w, c, done)
            anchored = True
        elif w.leapt:
            push_anchor(w, c, done)
            anchored = True
        w.rt.n_captured += n
        w.offset += n
        done += n
        chaos_store(&w.rt.head_frame, w.rt.head_frame + n)
        if w.offset == w.definition.chunk_frames:
            give_full(w)


cdef void drop_held(Writer *w, const Cycle *c) noexcept nogil:
    """Makes frames that were held a gap: nobody has seen them."""
    cdef uint64_t n = w.held, hint = chaos_load(&w.rings.hint)
    if n == 0:
        return
    w.form.take_back(w, n)
    w.held = w.asked = 0
    skip(w, c, n, hint if hint != 0 else CAUSE_NO_DATA, EXACT)


cdef void keep_held(Writer *w, uint64_t n) noexcept nogil:
    """Moves the head over the first `n` frames that were held."""
    w.held -= n
    w.asked = w.asked - n if w.asked > n else 0
    w.rt.n_captured += n
    w.offset += n
    chaos_store(&w.rt.head_frame, w.rt.head_frame + n)


cdef void hold(Writer *w, const Cycle *c) noexcept nogil:
    """Copies a doubtful cycle behind the head, which stays. Where that would take another slot, or a gap is open, it is
    lost with those held before it: what is known of them comes within a few cycles."""
    cdef bint is_torn = False
    if (w.slot >= 0 and w.rt.gap_first == NONE and not w.leapt
            and w.offset + w.held + c.n_frames < w.definition.chunk_frames):
        w.offset += w.held
        w.form.put(w, c, 0, c.n_frames)
        chaos_fence()
        is_torn = c.live_position != NULL and chaos_peek(c.live_position) != c.live
        if is_torn:
            w.form.take_back(w, c.n_frames)
            w.rt.torn += 1
            w.seen_end = w.other_end = NONE
        w.offset -= w.held
        if not is_torn:
            w.held += c.n_frames
            if c.is_asked:
                w.asked = w.held
            return
    drop_held(w, c)
    skip(w, c, c.n_frames, CAUSE_MISSED if is_torn else CAUSE_NO_DATA, EXACT)


cdef inline void settle_held(Writer *w, const Cycle *c) noexcept nogil:
    """Keeps or drops what is held, as far as this cycle tells; before it is accounted for."""
    if w.held == 0:
        return
    if (c.lacks != 0 or c.is_denied or w.jumped or w.set_back != 0 or c.clock_id != w.rt.clock_id
            or c.position != w.rt.position):
        drop_held(w, c)
    elif not c.is_doubtful:
        keep_held(w, w.held)
    elif c.is_answered:
        keep_held(w, w.asked)


cdef inline uint64_t frames_between(uint64_t from_ns, uint64_t to_ns, uint32_t rate) noexcept nogil:
    """The whole frames nearest to a stretch of time; 0 when it is negative."""
    if to_ns <= from_ns:
        return 0
    return <uint64_t>(<double>(to_ns - from_ns) * rate / 1e9 + 0.5)


cdef bint is_possible(const Writer *w, const Cycle *c, uint64_t jump, uint64_t elapsed) noexcept nogil:
    """Whether a clock can have moved on by `jump` frames while the time for `elapsed` of them passed.

    One that has kept time so far may be a few cycles off, or make up for the time that it was late; one that runs faster
    (a graph that freewheels) may be any number of times faster, but not without bound.
    """
    cdef uint64_t slack = 2 * (c.n_frames + w.rt.quantum)
    cdef uint64_t run = w.rt.position - w.run_position
    cdef uint64_t last_ns = w.rt.end_ns - w.rt.quantum * 1000000000ULL // c.rate
    cdef uint64_t late = frames_between(w.run_ns, w.rt.end_ns, c.rate)
    late = late - run if late > run else 0
    if late > <uint64_t>CATCH_UP_S * c.rate:
        late = <uint64_t>CATCH_UP_S * c.rate
    if jump <= elapsed + elapsed // 8 + late + slack:
        return True
    if c.clock_flags & CLOCK_FREEWHEELS or run > 2 * frames_between(w.run_ns, w.rt.end_ns, c.rate):
        return jump <= slack + FASTEST * frames_between(last_ns, c.monotonic_ns, c.rate)
    return False


cdef inline uint64_t not_in_position(const Writer *w, const Cycle *c, uint64_t jump, uint64_t elapsed) noexcept nogil:
    """Frames that the position does not show since it stood or went back, as far as it has not made up for them: whole
    cycles, where only a part of them fits into the time."""
    cdef uint64_t room = elapsed - jump if elapsed > jump else 0
    if room + c.n_frames // 2 >= w.set_back:
        return w.set_back
    return (room + c.n_frames // 2) // c.n_frames * c.n_frames


cdef void book_missed(Writer *w, const Cycle *c, uint64_t jump, uint64_t elapsed) noexcept nogil:
    """Books what one steady clock shows: cycles that ran without us, and what the driver itself has lost.

    The driver's own loss does not move its position on, so it comes on top, as far as there was time for it. So do the
    frames of cycles whose position stood or went back.
    """
    cdef uint64_t most = elapsed + 2 * (c.n_frames + w.rt.quantum)
    cdef uint64_t lost = c.xrun - w.xrun if c.xrun > w.xrun else 0
    cdef uint64_t unseen = not_in_position(w, c, jump, elapsed)
    if jump + unseen > 0:
        w.rt.xruns += 1
        skip(w, c, jump + unseen, CAUSE_MISSED, CLOCK if w.rt.stands or unseen > 0 else EXACT)
    if lost > 0:
        skip(w, c, lost if lost < most else most, CAUSE_HARDWARE_XRUN, ESTIMATED)


cdef void account(Writer *w, const Cycle *c) noexcept nogil:
    """Books what the clock says was lost between the last cycle and this one."""
    cdef int64_t jump = <int64_t>(c.position - w.rt.position)
    cdef uint64_t elapsed = frames_between(w.rt.end_ns, c.monotonic_ns, c.rate)
    cdef uint64_t hint = chaos_load(&w.rings.hint)
    cdef uint64_t slack = 2 * c.n_frames
    cdef uint64_t unseen
    if c.position == w.recounted and c.clock_id == w.rt.clock_id and hint == 0 and 2 * elapsed < c.n_frames:
        elapsed = 0             # the frames go on, and so would the position if it counted them
    elif c.clock_id == w.rt.clock_id and not w.jumped and jump >= 0:
        if hint == 0:
            if is_possible(w, c, <uint64_t>jump, elapsed):
                book_missed(w, c, <uint64_t>jump, elapsed)
                return
        elif <uint64_t>jump + slack >= elapsed and <uint64_t>jump <= elapsed + slack:
            # The clock went on without us, so its position is better than the time that passed. What it was seen to
            # stand for comes on top; where it is more than half a cycle behind time, it may have stood unseen.
            unseen = not_in_position(w, c, <uint64_t>jump, elapsed)
            if <uint64_t>jump + unseen > 0:
                skip(w, c, <uint64_t>jump + unseen, hint, CLOCK if unseen > 0 or w.rt.stands
                     or 2 * <uint64_t>jump + c.n_frames < 2 * elapsed else EXACT)
            return
    w.run_position = c.position
    w.run_ns = c.monotonic_ns
    if hint != 0:
        if c.clock_id != w.rt.clock_id:
            w.rt.switches += 1
        skip(w, c, elapsed, hint, CLOCK)
        return
    # Another clock, or one that jumped: its position says nothing about what came before, only the time does.
    w.rt.switches += 1
    if 2 * elapsed < c.n_frames:
        elapsed = 0
    if c.clock_id != w.rt.clock_id:
        skip(w, c, elapsed, CAUSE_DRIVER_SWITCH, CLOCK)
    elif elapsed > 0:
        skip(w, c, elapsed, CAUSE_CLOCK_JUMP, CLOCK)
    else:
        w.leapt = True


cdef void count_by_time(Writer *w, Cycle *c) noexcept nogil:
    """Gives the cycle of a clock that stands still a position, and says whether it comes in step.

    Some drivers never move their position on. After STILL_CYCLES of that the frames are counted: a cycle follows the
    last one if it begins within half a cycle of when it should. One that does not may be a later one, the last one once
    more, or one of those by which a driver makes up for lost time: which can't be known, so it is not believed, nor are
    those after it before they are steady. Then `place_by_time` says where they stand.
    """
    cdef uint64_t elapsed = frames_between(w.seen_ns, c.monotonic_ns, c.rate)
    cdef int64_t off_ns
    if c.clock_id != w.seen_clock or c.position != w.seen_position:
        w.still = 0
    elif 2 * elapsed >= c.n_frames:
        w.still += 1
    if (w.still < STILL_CYCLES and c.clock_id == w.seen_clock and w.seen_end != NONE and c.position < w.seen_end
            and c.position != w.other_end and 2 * elapsed >= c.n_frames):
        w.set_back += w.seen_end - c.position
    w.seen_position = c.position
    w.seen_ns = c.monotonic_ns
    w.off_pace = False
    if w.still < STILL_CYCLES:
        w.rt.stands = False
        return
    if not w.rt.stands:
        w.rt.stands = True
        w.trusted = False
        if w.started and c.clock_id == w.rt.clock_id:
            w.due_position, w.due_ns = w.rt.position, w.rt.end_ns
        else:
            w.due_position, w.due_ns = w.seen_end, c.monotonic_ns
    w.set_back = 0              # the time tells all of it
    c.live_position = c.live_ns
    c.live = c.begun_ns
    c.is_counted = False        # the count says nothing beside a position that stands
    w.step_frames = 0
    c.position = w.seen_end
    if not w.trusted:
        w.off_pace = 2 * elapsed < c.n_frames or 2 * elapsed >= 3 * c.n_frames
        return
    off_ns = <int64_t>(c.monotonic_ns - w.due_ns)
    w.off_pace = (off_ns if off_ns > 0 else -off_ns) * 2 >= <int64_t>(c.n_frames * 1000000000ULL // c.rate)
    if not w.off_pace:
        w.due_ns += <uint64_t>(off_ns // FOLLOW)


cdef inline void place_by_time(Writer *w, Cycle *c) noexcept nogil:
    """Where a clock stands still and cycles are steady again: as many cycles on as there was time for, but one at least,
    as one has been left out."""
    cdef uint64_t missed = (frames_between(w.due_ns, c.monotonic_ns, c.rate) + c.n_frames // 2) // c.n_frames
    c.position = w.due_position + (missed if missed > 0 else 1) * c.n_frames
    w.due_ns = c.monotonic_ns


cdef bint must_be_its_own(const Cycle *c) noexcept nogil:
    """Whether a first call can only be this very cycle's: no cycle before it can have called.

    A node that nothing is linked to is in no cycle. So the cycle that ran when the links were asked for is the only
    one before this that could have called, had the links come into it while it still had the device's frames before
    it; those it has in its first part. And the call is not so late that this cycle must be over.
    """
    cdef uint64_t cycle_ns
    if c.linked_ns == 0 or c.lacks != 0 or c.rate == 0 or c.clock_flags & (CLOCK_FREEWHEELS | CLOCK_JUMPED):
        return False
    cycle_ns = c.n_frames * 1000000000ULL // c.rate
    return (c.linked_ns <= c.monotonic_ns and c.monotonic_ns - c.linked_ns < cycle_ns - cycle_ns // FIRST_PART
            and c.now_ns - c.monotonic_ns < cycle_ns)


cdef inline bint is_steady(Writer *w, const Cycle *c, uint64_t since_ns) noexcept nogil:
    """Whether the callback can be believed to be in step: called for the very cycle that the clock shows.

    PipeWire's mixer runs before the callback and copies events, or chooses the device's buffer; so the clock tells only
    that this is of no later cycle. Each cycle wakes the callback once: once it has run for the cycle that the clock shows,
    it goes on to do so for as long as no position is left out or comes twice. A callback that is one cycle behind shows
    neither for as long as it is late each time by what lies between two cycles. That is next to nothing where a driver
    makes up for lost time by cycles without a pause. So only cycles that come as far apart as they are long are counted,
    TRUST_MS of them, or many over a time in which nothing could be made up for. What has been copied can't be checked
    afterwards, nor what a clock that stands still has left out: there it takes STEADY_CYCLES of them, too.
    """
    w.n_straight += 1
    if since_ns * 2 >= c.n_frames * 1000000000ULL // c.rate or c.clock_flags & CLOCK_FREEWHEELS:
        w.steady += 1
        w.straight += c.n_frames
    return (w.straight * 1000 >= <uint64_t>TRUST_MS * c.rate
            and (w.steady >= STEADY_CYCLES or not (c.is_mixed or w.rt.stands))) or (
        w.n_straight >= FAST_CYCLES and c.now_ns - w.jumped_ns >= <uint64_t>FAST_MS * 1000000)


cdef inline bint is_behind(Writer *w, const Cycle *c) noexcept nogil:
    """Whether the callback is one cycle behind, as the server's count of cycles tells.

    A driver moves its position on, fills the buffers, and then the count moves on. So against the last cycle that was
    believed a call amid that has the frames of one cycle more in its position than cycles in its count, also where such
    calls come as steadily as right ones: a busy machine can have the callback run, each time, where the driver is
    interrupted. A clock that left out just as much itself looks the same; that costs BEHIND_MS, once.
    """
    cdef uint64_t counted = <uint32_t>(c.count - w.step_count)     # modulo 2^32
    if (not c.is_counted or w.step_frames != c.n_frames or c.clock_id != w.step_clock or counted == 0
            or c.live - w.step_position != (counted + 1) * c.n_frames):
        w.behind_ns = 0
        return False
    if w.behind_ns == 0:
        w.behind_ns = c.now_ns
    if c.now_ns - w.behind_ns < <uint64_t>BEHIND_MS * 1000000:
        return True
    w.behind_ns = w.step_frames = 0
    return False


cdef inline bint follows(const Writer *w, const Cycle *c, uint64_t last_ns) noexcept nogil:
    """Whether the cycle begins where the last one ended.

    Where that had two lengths, there are two such places, and at the farther one a later cycle may begin, too: by its
    time it is told from that.
    """
    if c.clock_id != w.seen_clock:
        return False
    if w.other_end == NONE:
        return c.position == w.seen_end
    if c.position == min(w.seen_end, w.other_end):
        return True
    return c.position == max(w.seen_end, w.other_end) and (
        2 * frames_between(last_ns, c.monotonic_ns, c.rate) < w.other_within)


cdef bint slots_trusts(Writer *w, Cycle *c) noexcept nogil:
    """Whether the buffers hold this cycle's frames; where not, `slots_cycle` must not see it.

    A callback that comes late may run when the next cycle has moved the clock on but not filled the buffers yet: the
    position is new, the frames are old. PipeWire then calls again for the same cycle, and by then the device's buffer
    may have been replaced by silence, since the graph counted the late call as this cycle's. So the first cycle after
    a jump (also one of no frames, of one that was torn, of another length) is not believed, nor are those that follow it
    before they are steady, but for a first one that `must_be_its_own`. What is left out is booked as missed when the
    next believed cycle comes.
    """
    cdef uint64_t since_ns = c.now_ns - w.called_ns
    cdef uint64_t last_ns = w.seen_ns
    cdef bint is_first = w.seen_ns == 0 and w.rt.callbacks + w.rt.distrusted == 0
    if c.n_frames == 0:
        w.rt.distrusted += 1
        return False
    count_by_time(w, c)
    w.jumped = w.jumped or c.clock_flags & CLOCK_JUMPED
    if is_first or w.off_pace or not follows(w, c, last_ns) or c.is_resized:
        w.trusted = is_first and must_be_its_own(c)
        w.straight = w.steady = w.n_straight = 0
        w.jumped_ns = c.now_ns
    elif not w.trusted:
        w.trusted = is_steady(w, c, since_ns) and not is_behind(w, c)
        if w.trusted and w.rt.stands:
            place_by_time(w, c)
    if w.trusted and w.rt.stands:
        w.due_position = c.position + c.n_frames
        w.due_ns += c.n_frames * 1000000000ULL // c.rate
    w.seen_end = c.position + c.n_frames
    w.other_end = c.position + c.other_frames if c.other_frames != 0 else NONE
    w.other_within = c.n_frames + c.other_frames + max(c.n_frames, c.other_frames)
    w.seen_clock = c.clock_id
    w.called_ns = c.now_ns
    if not w.trusted:
        w.rt.distrusted += 1
    elif c.is_counted:
        w.step_position = c.live
        w.step_frames = c.n_frames
        w.step_count = c.count
        w.step_clock = c.clock_id
    return w.trusted


cdef bint slots_hand_over(Writer *w, Writer *next, const Cycle *c) noexcept nogil:
    """Whether `next` may take this trusted cycle, and all that follow, in place of `w`; it is prepared for it then.

    Only where the cycle follows the last one without a seam, so that the one's last frame and the other's first are
    neighbours: no gap is open or due, the clock is the same, and `next` has a slot to begin in.
    """
    if not (w.started and w.held == 0 and not c.is_doubtful and has_free(next) and c.lacks == 0
            and c.clock_id == w.rt.clock_id and c.position == w.rt.position
            and c.rate == w.rt.seen_rate and w.rt.gap_first == NONE and w.set_back == 0 and c.other_frames == 0
            and not w.jumped and not w.leapt
            and chaos_load(&w.rings.hint) == 0):
        return False
    next.own_clock = w.own_clock
    next.trusted = True
    next.straight = w.straight
    next.called_ns = w.called_ns
    next.seen_end = w.seen_end
    next.other_end = next.recounted = NONE
    next.seen_clock = w.seen_clock
    next.seen_position = w.seen_position
    next.step_position = w.step_position
    next.step_frames = w.step_frames
    next.step_count = w.step_count
    next.step_clock = w.step_clock
    next.seen_ns = w.seen_ns
    next.still = w.still
    next.rt.stands = w.rt.stands
    next.due_position, next.due_ns = w.due_position, w.due_ns
    return True


cdef bint begin(Writer *w, const Cycle *c) noexcept nogil:
    """Begins the take, if it should: with the first frame that has a place or, where the device is linked and brings
    nothing for BEGIN_S, with a gap of those cycles.

    Only cycles that follow each other on one clock count: a gap's length is never guessed. All that are told to begin at
    one time begin with one cycle where one driver runs them: they see the same time.
    """
    cdef bint follows = c.clock_id == w.rt.clock_id and c.position == w.rt.position and not w.jumped
    cdef uint64_t lead = w.lead if follows else 0
    cdef uint64_t hint
    w.lead = 0
    if c.monotonic_ns < chaos_load(&w.not_before_ns):
        return False
    if c.lacks == 0 and (c.is_doubtful or not has_free(w)):
        return False
    if c.lacks == 0:
        lead = 0                # it was only slow
    elif c.lacks != CAUSE_NO_DATA or not c.is_linked:
        return False
    elif lead + c.n_frames < <uint64_t>BEGIN_S * c.rate:
        w.lead = lead + c.n_frames
        w.jumped = False
        w.rt.clock_id = c.clock_id
        w.rt.position = c.position + c.n_frames
        return False
    w.started = True
    w.definition.sample_rate = c.rate
    w.run_position = c.position - lead
    w.run_ns = c.monotonic_ns - lead * 1000000000ULL // c.rate
    w.rt.first_position = w.run_position
    chaos_store(&w.rt.first_ns, w.run_ns)
    if lead > 0:
        hint = chaos_load(&w.rings.hint)
        if hint != 0:
            chaos_clear(&w.rings.hint, hint)    # it is of a time before the take
        skip(w, c, lead, CAUSE_NO_DATA, EXACT)
        signal(w)
    return True


cdef bint is_refused(Writer *w, const Cycle *c) noexcept nogil:
    """Whether the cycle is of a clock that is not the device's own, where only that will do; tells of it once."""
    cdef uint64_t own = chaos_load(&w.own_clock)
    if own == 0 or not c.is_linked or c.clock_id == own:
        w.refused = 0
        chaos_store(&w.other_clock, 0)
        return False
    w.refused += c.n_frames
    if w.refused * 1000 >= <uint64_t>REFUSE_MS * c.rate and chaos_peek(&w.other_clock) != c.clock_id:
        chaos_store(&w.other_clock, c.clock_id)
        signal(w)
    return True


cdef void slots_cycle(Writer *w, const Cycle *c) noexcept nogil:
    """Takes in one cycle of the graph. Called by one thread at a time; bounded by the cycle's size."""
    cdef uint64_t hint, cause
    w.rt.callbacks += 1
    if c.clock_flags & CLOCK_FREEWHEELS:
        w.rt.freewheeled += 1
    if w.definition.sample_rate != 0 and c.rate != w.definition.sample_rate:
        if w.rt.seen_rate != c.rate:
            chaos_store(&w.rt.seen_rate, c.rate)
            signal(w)
        return
    chaos_store(&w.rt.seen_rate, c.rate)
    if is_refused(w, c):
        return
    if w.started:
        settle_held(w, c)
        account(w, c)
    elif not begin(w, c):
        return
    w.jumped = False
    w.set_back = 0
    w.xrun = c.xrun
    w.rt.quantum = c.n_frames
    w.rt.clock_id = c.clock_id
    w.rt.position = c.position + c.n_frames
    w.recounted = c.position + c.other_frames if c.is_whole else NONE
    w.rt.end_ns = c.monotonic_ns + c.n_frames * 1000000000ULL // c.rate
    if c.lacks == 0 and c.is_doubtful:
        hold(w, c)
    elif c.lacks == 0:
        # The main thread learns of a device's end after the last frame of it has come.
        hint = chaos_load(&w.rings.hint)
        if hint != 0:
            if w.rt.gap_first != NONE and w.rt.gap_cause == CAUSE_NO_DATA:
                w.rt.gap_cause = hint
            chaos_clear(&w.rings.hint, hint)
        store_frames(w, c)
    else:
        # Since PipeWire 1.6 a node's cycles go on when its links have gone.
        hint = chaos_load(&w.rings.hint)
        cause = hint if hint != 0 and c.lacks == CAUSE_NO_DATA else c.lacks
        skip(w, c, c.n_frames, cause, EXACT)


cdef void slots_timed(Writer *w, uint64_t busy_ns) noexcept nogil:
    """Books the time that one callback took."""
    cdef uint64_t bucket = 63 - __builtin_clzll(busy_ns | 1)
    w.rt.busy_ns += busy_ns
    if busy_ns > w.rt.busy_max_ns:
        w.rt.busy_max_ns = busy_ns
    w.rt.busy_histogram[bucket if bucket < HISTOGRAM_BUCKETS else HISTOGRAM_BUCKETS - 1] += 1


cdef void slots_finish(Writer *w, uint64_t end_ns) noexcept nogil:
    """Ends the take, after the callback has been detached: the slot being filled becomes the last full one.

    It ends where the clock must be at `end_ns` (CLOCK_MONOTONIC; 0: not known), if the device is away (a hint stands)
    or cycles have not come for longer than they may be late: what is missing up to there is a gap.
    """
    cdef Cycle c
    cdef uint64_t hint = chaos_load(&w.rings.hint)
    cdef uint64_t elapsed
    memset(&c, 0, sizeof(c))
    c.rate = <uint32_t>w.definition.sample_rate
    drop_held(w, &c)
    if w.started and end_ns != 0:
        elapsed = frames_between(w.rt.end_ns, end_ns, c.rate)
        if hint == 0 and elapsed <= 2 * w.rt.quantum + <uint64_t>STALL_MS * c.rate // 1000:
            elapsed = 0
        if elapsed > 0:
            skip(w, &c, elapsed, hint if hint != 0 else CAUSE_MISSED, CLOCK)
    if w.slot >= 0:
        give_full(w)
