"""The callbacks of a capture's filter or stream: the process callback, which is real-time, and the loop's own.

The process callback hands each cycle to `slots_cycle`; the loop's callbacks queue records that `Connection.drain`
empties. None of them runs Python: PipeWire's threads never take the GIL.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset

from chaos._connection cimport records_push_text
from chaos._cycle cimport Cycle, Writer, slots_cycle, slots_hand_over, slots_timed, slots_trusts
from chaos._layout cimport CAUSE_FOREIGN, CAUSE_MIDI_OVERFLOW, CAUSE_NO_DATA
from chaos._midi cimport BROKEN, EVENTS, SEQUENCE_BYTES, UNFIT, Looked, midi_look
from chaos._silence cimport silence_look
from chaos.atomics cimport chaos_load, chaos_peek, chaos_peek_32, chaos_store
from chaos.clock cimport now_ns
from chaos.pipewire cimport *

cdef enum:
    RECORD_STATE = 10
    RECORD_LATENCY = 12
    OFF_NS = 1000000000
    SETTLE_NS = 250000000

CAPTURE_STATE = RECORD_STATE
PORT_LATENCY = RECORD_LATENCY

STATES = {-1: "error", 0: "unconnected", 1: "connecting", 2: "paused", 3: "streaming"}


# ---- the process callback ------------------------------------------------------------------------------------------

cdef extern from "_kernels.h" nogil:
    uint64_t chaos_silent_32(const uint32_t *src, uint64_t channels, uint64_t n)
    uint64_t chaos_silent_16(const uint16_t *src, uint64_t channels, uint64_t n)

cdef extern from *:
    """
    /* Of spa_io_clock's fields since 0.3.79, which were padding in 0.3.65's headers, the last. */
    static inline uint64_t chaos_clock_xrun(const struct spa_io_clock *clock)
    {
        uint64_t xrun;
        memcpy(&xrun, (const char *)clock + offsetof(struct spa_io_clock, next_nsec) + 32, sizeof(xrun));
        return xrun;
    }

    /* And of the one before that, which counts cycles since 1.2. Read before the position, it is never newer. */
    static inline uint32_t chaos_clock_cycle(const struct spa_io_clock *clock)
    {
        return __atomic_load_n((const uint32_t *)((const char *)clock + offsetof(struct spa_io_clock, next_nsec) + 28),
                               __ATOMIC_ACQUIRE);
    }
    """
    uint64_t chaos_clock_xrun(const spa_io_clock *clock) nogil
    uint32_t chaos_clock_cycle(const spa_io_clock *clock) nogil


cdef inline void be_late(Cycle *c, CaptureState *s) noexcept nogil:
    """Makes the cycle before of one whose buffers an asynchronous link brings a cycle late."""
    cdef uint64_t end = c.position + c.n_frames
    cdef uint64_t n = s.last_frames if c.position == s.last_end else c.n_frames
    s.last_frames = c.n_frames
    s.last_end = end
    c.position -= n
    c.n_frames = n
    if c.rate != 0:
        c.monotonic_ns -= n * 1000000000ULL // c.rate


cdef inline uint64_t time_of(uint64_t ns, uint64_t now, uint64_t seen) noexcept nogil:
    """When a cycle began: as its driver says where that can be, else now.

    A driver's time that is seconds off is none. But a cycle that waited while chaosd was stopped may be as old as the
    one before it, which began at `seen`.
    """
    return ns if ns < now + OFF_NS and (now < ns + OFF_NS or (seen != 0 and seen < ns)) else now


cdef inline void from_clock(Cycle *c, CaptureState *s, const spa_io_position *position,
                            uint64_t now) noexcept nogil:
    cdef uint64_t ns
    c.is_counted = s.counts_cycles
    c.count = chaos_clock_cycle(&position.clock) if s.counts_cycles else 0
    # A driver writes the time before the position. Of two cycles they would look like a clock that stood.
    c.position = chaos_load(&position.clock.position)
    ns = chaos_load(&position.clock.nsec)
    if chaos_peek(&position.clock.position) != c.position:
        c.position = chaos_load(&position.clock.position)
        ns = chaos_load(&position.clock.nsec)
    c.n_frames = position.clock.duration
    c.monotonic_ns = time_of(ns, now, s.writer.seen_ns)
    c.rate = position.clock.rate.denom
    c.clock_id = position.clock.id
    c.clock_flags = position.clock.flags
    c.xrun = chaos_clock_xrun(&position.clock) if s.tells_xruns else 0
    c.live_position = &position.clock.position
    c.live = c.position
    c.live_ns = &position.clock.nsec
    c.begun_ns = ns
    c.now_ns = now
    c.linked_ns = chaos_load(&s.linked_ns)
    if chaos_load(&s.n_late) != 0:
        be_late(c, s)


cdef enum Verdict:
    USABLE
    UNFED           # nobody has written to it: no data, and none was due
    SPOILT          # CORRUPTED, or not the cycle's length, or not where it could be


cdef inline Verdict look_at(const spa_data *d, uint64_t n_bytes, uint32_t width, bint is_linked, bint is_made_up,
                            uint32_t *offset) noexcept nogil:
    """Whether a buffer holds the cycle's `n_bytes`, samples of `width`, and from which byte on. `is_made_up`: if it
    says EMPTY, that is not the device's word.

    Its chunk is shared memory: what it says is read once, so that what was checked is what is used.
    """
    cdef uint32_t flags = chaos_peek_32(<const uint32_t *>&d.chunk.flags)
    cdef uint64_t size = chaos_peek_32(&d.chunk.size)
    cdef uint64_t begin = chaos_peek_32(&d.chunk.offset)
    offset[0] = <uint32_t>begin
    if d.data == NULL or flags & SPA_CHUNK_FLAG_CORRUPTED:
        return SPOILT
    # A port's mixer makes up silence where nothing is linked, or what is has not run. Up to PipeWire 1.6 that is a whole
    # buffer, and a device may say EMPTY of its own silence, as long as the cycle: at the largest quantum only links tell.
    # From 1.7 on both are as long as the cycle, but a device's is in the device's buffer.
    if flags & SPA_CHUNK_FLAG_EMPTY and (not is_linked or is_made_up or (size >= d.maxsize and size != n_bytes)):
        return UNFED
    return USABLE if size == n_bytes and begin % width == 0 and begin + size <= d.maxsize else SPOILT


cdef inline void be_as_filled(Cycle *c, const spa_data *d, uint64_t last_frames, uint64_t frame_bytes,
                              bint is_cut) noexcept nogil:
    """Makes the cycle as long as the device that drives it has filled it.

    Before 0.3.80 the server sets another quantum when its driver has filled the cycle, so that what the driver itself
    brings is as long as the cycle before, and the clock says another length. Whether its position goes on by the one or
    by the other is the driver's choice. Where the new length is the shorter one a stream's converter cuts the rest off
    (`is_cut`), or nothing was to be cut, as the device is none that drives: then both may follow as well.
    """
    if last_frames == 0 or last_frames == c.n_frames or d.data == NULL:
        return
    if chaos_peek_32(&d.chunk.size) == last_frames * frame_bytes:
        c.other_frames = c.n_frames
        c.n_frames = last_frames
        c.is_whole = True
    elif is_cut and c.n_frames < last_frames:
        c.other_frames = last_frames


cdef inline uint64_t frames_before(CaptureState *s, const Cycle *c) noexcept nogil:
    """How long the cycle before was, where a server may have changed that in mid-cycle; else 0."""
    cdef uint64_t last = s.last_frames
    if s.tells_xruns:
        return 0
    s.last_frames = c.n_frames
    return last


cdef inline bint is_ours(const pw_buffer *b) noexcept nogil:
    """Has a port's mixer put nobody else's buffer in place of its own? See `on_add_buffer`."""
    return b.user_data == <void *>b.buffer.datas


cdef inline bint is_fed(const CaptureState *s) noexcept nogil:
    """Is every channel linked? A stream's converter makes up silence for one that is not, and says EMPTY only where
    that is all it has; a device's own silence can then not be told from none."""
    return chaos_load(&s.n_active) == s.channels


cdef inline void doubt(StreamData *data, Cycle *c, bint is_answered) noexcept nogil:
    """Looks for what a stream's converter may have made up. On 0.3.65 it gives zeros, and doesn't say so, for what is
    not brought: a cycle of nothing but zeros can't be told from that, one with a silent channel only in the end."""
    cdef CaptureState *s = &data.state
    cdef uint64_t silent
    if s.sample_bytes == 2:
        silent = chaos_silent_16(<const uint16_t *>s.content.interleaved, s.channels, c.n_frames)
    else:
        silent = chaos_silent_32(<const uint32_t *>s.content.interleaved, s.channels, c.n_frames)
    if silent == ~<uint64_t>0 >> (64 - s.channels):
        c.lacks = CAUSE_NO_DATA
    elif silence_look(&data.silence, c, silent, is_answered, chaos_load(&s.n_ended)):
        chaos_store(&data.silence.asked, data.silence.asked + 1)
        pw_loop_signal_event(data.loop, data.question_event)


cdef inline void refuse_foreign(CaptureState *s, Cycle *c) noexcept nogil:
    if chaos_load(&s.guard.n_foreign) != 0:
        c.lacks = CAUSE_FOREIGN


cdef inline void take_in(CaptureState *s, const Cycle *c) noexcept nogil:
    """Gives a trusted cycle to the writer, or to the one that goes on from it where one waits and may."""
    cdef Writer *next = <Writer *><uintptr_t>chaos_load(&s.next)
    if next != NULL and slots_hand_over(s.writer, next, c):
        s.writer = next
        chaos_store(&s.next, 0)
    slots_cycle(s.writer, c)


cdef void on_filter_process(void *data, spa_io_position *position) noexcept nogil:
    """One cycle, a port per channel. Every buffer taken goes back on the one path out."""
    cdef CaptureState *s = <CaptureState *>data
    cdef uint64_t began = now_ns()
    cdef bint linked = is_fed(s)
    cdef Cycle c
    cdef uint32_t k, offset
    cdef uint64_t before = 0
    cdef Verdict verdict
    cdef spa_data *d
    memset(&c, 0, sizeof(c))
    c.is_linked = linked
    if position != NULL:
        from_clock(&c, s, position, began)
        before = frames_before(s, &c)
    for k in range(s.channels):
        s.buffers[k] = pw_filter_dequeue_buffer(s.ports[k])
        if s.buffers[k] == NULL:
            c.lacks = CAUSE_NO_DATA
            continue
        d = &s.buffers[k].buffer.datas[0]
        if k == 0:
            be_as_filled(&c, d, before, 4, False)
        verdict = look_at(d, c.n_frames * 4, 4, linked, s.tells_silence and is_ours(s.buffers[k]), &offset)
        s.planes[k] = <const uint8_t *>d.data + offset
        if verdict != USABLE:
            c.lacks = CAUSE_NO_DATA
            s.writer.rt.short_buffers += verdict == SPOILT
    s.content.planes = s.planes
    c.content = &s.content
    refuse_foreign(s, &c)
    if position != NULL and c.rate != 0 and slots_trusts(s.writer, &c):
        take_in(s, &c)
    for k in range(s.channels):
        if s.buffers[k] != NULL:
            pw_filter_queue_buffer(s.ports[k], s.buffers[k])
    slots_timed(s.writer, now_ns() - began)


cdef inline Looked look_for_events(CaptureState *s, const spa_data *d) noexcept nogil:
    """Takes a copy of a cycle's events. As in `look_at`, what the chunk says is read once."""
    if d.data == NULL or chaos_peek_32(<const uint32_t *>&d.chunk.flags) & SPA_CHUNK_FLAG_CORRUPTED:
        s.events.n_bytes = 0
        return BROKEN
    return midi_look(&s.events, <const uint8_t *>d.data, d.maxsize, chaos_peek_32(&d.chunk.offset),
                     chaos_peek_32(&d.chunk.size))


cdef inline bint is_heard(CaptureState *s, uint64_t now) noexcept nogil:
    """Whether cycles without an event are the device's own silence. A port's mixer makes them up, too, and a link that is
    active may bring nothing before its device has taken note of it: so not until an event, or SETTLE_NS, have come."""
    if not is_fed(s):
        s.fed_ns = 0
        s.is_heard = False
        return False
    if s.fed_ns == 0:
        s.fed_ns = now
    s.is_heard = s.is_heard or s.events.n_bytes > SEQUENCE_BYTES or now - s.fed_ns > SETTLE_NS
    return s.is_heard


cdef void on_midi_process(void *data, spa_io_position *position) noexcept nogil:
    """One cycle of events, in the one port. That nothing came can't be told from silence but by the link."""
    cdef CaptureState *s = <CaptureState *>data
    cdef uint64_t began = now_ns()
    cdef Cycle c
    cdef Looked looked
    cdef pw_buffer *buffer = pw_filter_dequeue_buffer(s.ports[0])
    memset(&c, 0, sizeof(c))
    if position != NULL:
        from_clock(&c, s, position, began)
    c.linked_ns = 0     # of no use: cycles before this one may have called, where the driver makes up for lost time
    c.is_mixed = True
    # Before 0.3.80 the server sets another quantum once the device has filled the cycle, and events don't tell for which.
    c.is_resized = not s.tells_xruns and c.n_frames != s.last_frames
    s.last_frames = c.n_frames
    c.lacks = CAUSE_NO_DATA
    s.events.n_bytes = 0
    if buffer != NULL:
        looked = look_for_events(s, &buffer.buffer.datas[0])
        if is_heard(s, began):
            if looked == EVENTS:
                c.lacks = 0
            elif looked == UNFIT:
                c.lacks = CAUSE_MIDI_OVERFLOW
            else:
                s.writer.rt.short_buffers += 1
    c.content = &s.events
    refuse_foreign(s, &c)
    if position != NULL and c.rate != 0 and slots_trusts(s.writer, &c):
        take_in(s, &c)
    if buffer != NULL:
        pw_filter_queue_buffer(s.ports[0], buffer)
    slots_timed(s.writer, now_ns() - began)


cdef void on_stream_process(void *data) noexcept nogil:
    """One cycle, interleaved. Of several buffers only the last belongs to this cycle; all go back."""
    cdef CaptureState *s = <CaptureState *>data
    cdef StreamData *stream = <StreamData *>data
    cdef uint64_t began = now_ns()
    cdef bint is_answered = chaos_load(&stream.silence.answered) == stream.silence.asked    # before the links are looked at
    cdef Cycle c
    cdef pw_buffer *buffer = NULL
    cdef pw_buffer *later = pw_stream_dequeue_buffer(s.stream)
    cdef spa_data *d
    cdef Verdict verdict
    cdef uint32_t offset, bound = 64
    cdef uint64_t before
    memset(&c, 0, sizeof(c))
    while later != NULL and bound > 0:
        if buffer != NULL:
            pw_stream_queue_buffer(s.stream, buffer)
        buffer = later
        later = pw_stream_dequeue_buffer(s.stream)
        bound -= 1
    if later != NULL:
        pw_stream_queue_buffer(s.stream, later)
    if s.position != NULL and s.position.clock.rate.denom != 0:
        from_clock(&c, s, s.position, began)
        c.linked_ns = 0     # a converter stands between: what it brings first is not believed by its links alone
        c.lacks = CAUSE_NO_DATA
        c.is_linked = is_fed(s)
        before = frames_before(s, &c)
        if buffer != NULL:
            d = &buffer.buffer.datas[0]
            be_as_filled(&c, d, before, s.channels * s.sample_bytes, True)
            verdict = look_at(d, c.n_frames * s.channels * s.sample_bytes, s.sample_bytes, False, False, &offset)
            s.writer.rt.short_buffers += verdict == SPOILT
            if verdict == USABLE and c.is_linked:
                s.content.interleaved = <const uint8_t *>d.data + offset
                c.content = &s.content
                c.lacks = 0
                doubt(stream, &c, is_answered)
        refuse_foreign(s, &c)
        if slots_trusts(s.writer, &c):
            take_in(s, &c)
    if buffer != NULL:
        pw_stream_queue_buffer(s.stream, buffer)
    slots_timed(s.writer, now_ns() - began)


# ---- the loop's callbacks ------------------------------------------------------------------------------------------

cdef uint32_t node_id_of(const CaptureState *s) noexcept nogil:
    if s.filter != NULL:
        return pw_filter_get_node_id(s.filter)
    return pw_stream_get_node_id(s.stream) if s.stream != NULL else INVALID_ID


cdef void on_state_changed(void *data, int old, int state, const char *error) noexcept nogil:
    cdef CaptureState *s = <CaptureState *>data
    s.guard.node_id = node_id_of(s)
    records_push_text(s.records, RECORD_STATE, s.handle, old, state, error)


cdef extern from *:
    """
    #include <stdio.h>
    #include <spa/param/latency-utils.h>

    /* What comes down to a port of ours, in words: quanta, frames, nanoseconds. False where it is something else. */
    static inline bool chaos_latency_text(const struct spa_pod *param, char *text, size_t size)
    {
        struct spa_latency_info info;
        if (param == NULL || spa_latency_parse(param, &info) < 0 || info.direction != SPA_DIRECTION_OUTPUT)
            return false;
        /* Signed from 1.6 on, as it always was on the wire. Who says that it is early, or no number, is not late. */
        long long frames = (int32_t)info.max_rate, ns = (int64_t)info.max_ns;
        snprintf(text, size, "%.9g %lld %lld", info.max_quantum > 0 && info.max_quantum < 1e6 ? info.max_quantum : 0.0,
                 frames > 0 ? frames : 0LL, ns > 0 ? ns : 0LL);
        return true;
    }
    """
    bint chaos_latency_text(const spa_pod *param, char *text, size_t size) nogil


cdef void tell_latency(CaptureState *s, uint32_t port, const spa_pod *param) noexcept nogil:
    cdef char text[128]
    if chaos_latency_text(param, text, sizeof(text)):
        records_push_text(s.records, RECORD_LATENCY, s.handle, port, 0, text)


cdef void on_port_param(void *data, void *port, uint32_t id, const spa_pod *param) noexcept nogil:
    cdef CaptureState *s = <CaptureState *>data
    cdef uint32_t k
    if id == SPA_PARAM_Latency and port != NULL:
        for k in range(s.channels):
            if s.ports[k] == port:
                tell_latency(s, k, param)


cdef void on_add_buffer(void *data, void *port, pw_buffer *buffer) noexcept nogil:
    """A port's mixer, of one link, hands a device's buffers on as they are: it writes what they are over what ours was."""
    buffer.user_data = <void *>buffer.buffer.datas


cdef void on_stream_param(void *data, uint32_t id, const spa_pod *param) noexcept nogil:
    """What a stream's converter is told, of all channels in one."""
    if id == SPA_PARAM_Latency:
        tell_latency(<CaptureState *>data, 0, param)


cdef int take_position(spa_loop *loop, c_bool is_async, uint32_t seq, const void *data, size_t size,
                       void *user_data) noexcept nogil:
    cdef CaptureState *s = <CaptureState *>user_data
    s.position = (<spa_io_position **>data)[0]
    return 0


cdef void on_io_changed(void *data, uint32_t id, void *area, uint32_t size) noexcept nogil:
    """Hands the clock's place to the data thread, in that thread: it never sees a place that is going away."""
    cdef StreamData *s = <StreamData *>data
    if id == SPA_IO_Position:
        pw_loop_invoke(s.data_loop, take_position, 1, &area, sizeof(area), True, &s.state)


cdef void on_question(void *data, uint64_t count) noexcept nogil:
    """Asks the server, in the loop's thread, which also learns of links there: it has heard of all that were gone when
    the answer comes."""
    cdef StreamData *s = <StreamData *>data
    s.question = chaos_load(&s.silence.asked)
    s.question_seq = pw_core_sync(s.core, PW_ID_CORE, 0)


cdef void on_answer(void *data, uint32_t id, int seq) noexcept nogil:
    cdef StreamData *s = <StreamData *>data
    if id == PW_ID_CORE and seq == s.question_seq and s.question != 0:
        chaos_store(&s.silence.answered, s.question)


cdef pw_core_events answer_events
answer_events.version = PW_VERSION_CORE_EVENTS
answer_events.done = on_answer


cdef int may_ask(StreamData *s) noexcept nogil:
    """Lets the callback ask the server. With the loop locked. Negative where that fails."""
    s.question = 0
    s.question_seq = -1
    s.question_event = pw_loop_add_event(s.loop, on_question, s)
    if s.question_event == NULL:
        return -12
    pw_core_add_listener(s.core, &s.core_hook, &answer_events, s)
    return 0


cdef void ask_no_more(StreamData *s) noexcept nogil:
    """With the loop locked, when the callback has run for the last time."""
    if s.question_event != NULL:
        spa_hook_remove(&s.core_hook)
        pw_loop_destroy_source(s.loop, s.question_event)
        s.question_event = NULL


cdef pw_filter_events filter_events
filter_events.version = PW_VERSION_FILTER_EVENTS
filter_events.state_changed = on_state_changed
filter_events.param_changed = on_port_param
filter_events.add_buffer = on_add_buffer
filter_events.process = on_filter_process

cdef pw_filter_events midi_events
midi_events.version = PW_VERSION_FILTER_EVENTS
midi_events.state_changed = on_state_changed
midi_events.param_changed = on_port_param
midi_events.process = on_midi_process

cdef pw_stream_events stream_events
stream_events.version = PW_VERSION_STREAM_EVENTS
stream_events.state_changed = on_state_changed
stream_events.io_changed = on_io_changed
stream_events.param_changed = on_stream_param
stream_events.process = on_stream_process


cdef void listen_to_filter(CaptureState *s) noexcept nogil:
    pw_filter_add_listener(s.filter, &s.hook, &filter_events, s)


cdef void listen_to_midi(CaptureState *s) noexcept nogil:
    pw_filter_add_listener(s.filter, &s.hook, &midi_events, s)


cdef void listen_to_stream(StreamData *s) noexcept nogil:
    pw_stream_add_listener(s.state.stream, &s.state.hook, &stream_events, s)


def judged(uint32_t offset, uint32_t size, uint32_t flags, uint32_t maxsize, uint64_t n_bytes, *, bint linked=True,
           bint made_up=False):
    """What the process callback makes of a buffer ("usable", "unfed", "spoilt") that holds `maxsize` bytes, of which
    its chunk says the rest; for tests."""
    cdef uint8_t byte
    cdef uint32_t begin
    cdef spa_chunk chunk
    cdef spa_data d
    memset(&d, 0, sizeof(d))
    memset(&chunk, 0, sizeof(chunk))
    chunk.offset, chunk.size, chunk.flags = offset, size, <int32_t>flags
    d.data, d.chunk, d.maxsize = &byte, &chunk, maxsize
    return {USABLE: "usable", UNFED: "unfed", SPOILT: "spoilt"}[look_at(&d, n_bytes, 4, linked, made_up, &begin)]


def begun(uint64_t ns, uint64_t now, uint64_t seen):
    """When a cycle began for the process callback (CLOCK_MONOTONIC): its driver says `ns`, and it is called `now`; the
    cycle before began at `seen`, or 0. For tests."""
    return time_of(ns, now, seen)
