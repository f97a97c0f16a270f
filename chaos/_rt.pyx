"""Everything that touches a PipeWire stream: filters, streams and the process callback.

PipeWire's own threads never run Python: the process callback hands frames to `chaos._slots`, all other callbacks put a
record in a queue that `Connection.drain` empties. Nothing in here takes the GIL from a thread of PipeWire's.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from chaos._slots cimport Cycle, SlotWriter, Writer, slots_cycle, slots_hand_over, slots_timed, slots_trusts
from chaos.pipewire cimport *
from chaos._connection cimport Connection, Guard, Notes, check, check_pointer, push_text
from chaos._link cimport Link, link_drop, link_make

from chaos.terms.errors import FormatUnsupported, InternalError

cdef extern from "_kernels.h" nogil:
    uint64_t chaos_load(const uint64_t *p)
    void chaos_store(uint64_t *p, uint64_t v)

cdef extern from "time.h" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *time)

cdef enum:
    MAX_CHANNELS = 64
    KIND_STATE = 10

CAPTURE_STATE = KIND_STATE

STATES = {-1: "error", 0: "unconnected", 1: "connecting", 2: "paused", 3: "streaming"}

cdef uint32_t INVALID_ID = 0xFFFFFFFF


# ---- the process callback ------------------------------------------------------------------------------------------

cdef struct CaptureState:
    Guard guard
    Writer *writer
    uint64_t next                       # a Writer that is to go on from this one, or NULL
    Notes *notes
    uint32_t handle
    uint32_t channels
    uint32_t sample_bytes
    pw_filter *filter
    pw_stream *stream
    spa_hook hook
    spa_io_position *position           # of a stream; a filter is handed its own
    void *ports[MAX_CHANNELS]
    pw_buffer *buffers[MAX_CHANNELS]
    const uint8_t *planes[MAX_CHANNELS]
    Link links[MAX_CHANNELS]
    uint32_t n_links
    uint64_t n_active                   # of those links


cdef inline uint64_t now_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)      # through the vDSO: no system call
    return <uint64_t>t.tv_sec * 1000000000ULL + <uint64_t>t.tv_nsec


cdef inline void from_clock(Cycle *c, const spa_io_position *position) noexcept nogil:
    c.position = position.clock.position
    c.n_frames = position.clock.duration
    c.monotonic_ns = position.clock.nsec
    c.rate = position.clock.rate.denom
    c.clock_id = position.clock.id
    c.live_position = &position.clock.position


cdef inline bint is_unfed(const spa_data *d) noexcept nogil:
    """Is it the silence that a port's mixer makes up, as nothing is linked or what is has not run?

    It fills the whole buffer then. A device's own silence is as long as the cycle.
    """
    return d.chunk.flags & SPA_CHUNK_FLAG_EMPTY and d.chunk.size >= d.maxsize


cdef inline bint is_fed(const CaptureState *s) noexcept nogil:
    """Is every channel linked? A stream's converter makes up silence for one that is not, and says EMPTY only where
    that is all it has; a device's own silence can then not be told from none."""
    return chaos_load(&s.n_active) == s.channels


cdef inline void refuse_foreign(CaptureState *s, Cycle *c) noexcept nogil:
    c.foreign = chaos_load(&s.guard.n_foreign) != 0
    c.complete = c.complete and not c.foreign


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
    cdef Cycle c
    cdef uint32_t k
    cdef spa_data *d
    memset(&c, 0, sizeof(c))
    c.complete = position != NULL
    if position != NULL:
        from_clock(&c, position)
    for k in range(s.channels):
        s.buffers[k] = pw_filter_dequeue_buffer(s.ports[k])
        if s.buffers[k] == NULL:
            c.complete = False
            continue
        d = &s.buffers[k].buffer.datas[0]
        if d.data == NULL or d.chunk.size < c.n_frames * 4 or d.chunk.offset + d.chunk.size > d.maxsize:
            s.writer.rt.short_buffers += 1
            c.complete = False
        elif d.chunk.flags & SPA_CHUNK_FLAG_CORRUPTED or is_unfed(d):
            c.complete = False
        else:
            s.planes[k] = <const uint8_t *>d.data + d.chunk.offset
    c.planes = s.planes
    refuse_foreign(s, &c)
    if position != NULL and c.rate != 0 and slots_trusts(s.writer, &c):
        take_in(s, &c)
    for k in range(s.channels):
        if s.buffers[k] != NULL:
            pw_filter_queue_buffer(s.ports[k], s.buffers[k])
    slots_timed(s.writer, now_ns() - began)


cdef void on_stream_process(void *data) noexcept nogil:
    """One cycle, interleaved. Of several buffers only the last belongs to this cycle; all go back."""
    cdef CaptureState *s = <CaptureState *>data
    cdef uint64_t began = now_ns()
    cdef Cycle c
    cdef pw_buffer *buffer = NULL
    cdef pw_buffer *later = pw_stream_dequeue_buffer(s.stream)
    cdef spa_data *d
    cdef uint32_t bound = 64
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
        from_clock(&c, s.position)
        if buffer != NULL:
            d = &buffer.buffer.datas[0]
            if (d.data == NULL or d.chunk.size != c.n_frames * s.channels * s.sample_bytes
                    or d.chunk.offset + d.chunk.size > d.maxsize):
                s.writer.rt.short_buffers += 1
            elif not d.chunk.flags & (SPA_CHUNK_FLAG_CORRUPTED | SPA_CHUNK_FLAG_EMPTY) and is_fed(s):
                c.interleaved = <const uint8_t *>d.data + d.chunk.offset
                c.complete = True
        refuse_foreign(s, &c)
        if slots_trusts(s.writer, &c):
            take_in(s, &c)
    if buffer != NULL:
        pw_stream_queue_buffer(s.stream, buffer)
    slots_timed(s.writer, now_ns() - began)


# ---- the loop's callbacks ------------------------------------------------------------------------------------------

cdef inline uint32_t node_id_of(CaptureState *s) noexcept nogil:
    if s.filter != NULL:
        return pw_filter_get_node_id(s.filter)
    return pw_stream_get_node_id(s.stream) if s.stream != NULL else INVALID_ID


cdef void on_state_changed(void *data, int old, int state, const char *error) noexcept nogil:
    cdef CaptureState *s = <CaptureState *>data
    s.guard.node_id = node_id_of(s)
    push_text(s.notes, KIND_STATE, s.handle, old, state, error)


cdef int take_position(spa_loop *loop, c_bool is_async, uint32_t seq, const void *data, size_t size,
                       void *user_data) noexcept nogil:
    cdef CaptureState *s = <CaptureState *>user_data
    s.position = (<spa_io_position **>data)[0]
    return 0


cdef struct StreamData:         # what a stream's callbacks are handed
    CaptureState state
    pw_loop *data_loop


cdef void on_io_changed(void *data, uint32_t id, void *area, uint32_t size) noexcept nogil:
    """Hands the clock's place to the data thread, in that thread: it never sees a place that is going away."""
    cdef StreamData *s = <StreamData *>data
    if id == SPA_IO_Position:
        pw_loop_invoke(s.data_loop, take_position, 1, &area, sizeof(area), True, &s.state)


cdef pw_filter_events filter_events
filter_events.version = PW_VERSION_FILTER_EVENTS
filter_events.state_changed = on_state_changed
filter_events.process = on_filter_process

cdef pw_stream_events stream_events
stream_events.version = PW_VERSION_STREAM_EVENTS
stream_events.state_changed = on_state_changed
stream_events.io_changed = on_io_changed
stream_events.process = on_stream_process

cdef uint32_t next_handle = 1
cdef dict SPA_FORMATS = {"f32": SPA_AUDIO_FORMAT_F32, "s16": SPA_AUDIO_FORMAT_S16, "s32": SPA_AUDIO_FORMAT_S32}


cdef class Capture:
    """A capture node of ours in the graph, with its links: alive from construction to `close`, which may come twice.

    A planar capture is a `pw_filter` with one 32-bit float DSP port per channel: buffers are shared with the device's
    own ports, and there is no volume, resampler or remixer between. An interleaved one is a `pw_stream` without
    AUTOCONNECT, whose converter gives f32, s16 or s32. Neither links itself: `link` does, and nobody else.

    Args:
        writer: where frames go; the caller keeps it open until after `close`.
        name: node.name.
        description: what people see in a patchbay.
        positions: the channels' names ("FL", ...), one per channel.
        sample_format: "f32", "s16" or "s32".
        sample_rate: Hz, for an interleaved stream; a filter takes the graph's.
        interleaved: which of both.
        latency_frames: quantum to ask for, or None.

    Attributes:
        handle: stands in the records of this capture (CAPTURE_STATE, LINK_STATE) as their id.

    Raises:
        FormatUnsupported: more than 64 channels, or planar that is not f32.
        PipeWireUnavailable: the connection is gone.
    """

    cdef Connection connection
    cdef SlotWriter writer
    cdef SlotWriter next
    cdef StreamData *data
    cdef CaptureState *state
    cdef object __weakref__

    def __cinit__(self, Connection connection, SlotWriter writer, *, str name, str description, list positions,
                  str sample_format="f32", int sample_rate=0, bint interleaved=False, latency_frames=None):
        global next_handle
        connection.ask()
        if not 1 <= len(positions) <= MAX_CHANNELS:
            raise FormatUnsupported(f"{len(positions)} channels in one stream", hint=f"1 to {MAX_CHANNELS} work")
        if not interleaved and sample_format != "f32":
            raise FormatUnsupported(f"planar {sample_format}", hint="planar is f32; ask for interleaved")
        self.connection = connection
        self.writer = writer
        self.data = <StreamData *>calloc(1, sizeof(StreamData))
        if self.data == NULL:
            raise MemoryError
        self.state = &self.data.state
        self.state.writer = writer.ask()
        self.state.notes = connection.notes
        self.state.handle = next_handle
        next_handle += 1
        self.state.channels = len(positions)
        self.state.sample_bytes = 2 if sample_format == "s16" else 4
        self.state.guard.node_id = INVALID_ID
        cdef pw_properties *props = pw_properties_new(
            b"media.type", <const char *>b"Audio", b"media.category", <const char *>b"Capture",
            b"media.role", <const char *>b"Production", b"node.autoconnect", <const char *>b"false",
            b"node.dont-reconnect", <const char *>b"true", b"stream.dont-remix", <const char *>b"true",
            b"state.restore-props", <const char *>b"false", b"state.restore-target", <const char *>b"false", NULL)
        pw_properties_set(props, b"node.name", name.encode())
        pw_properties_set(props, b"node.description", description.encode())
        if latency_frames:
            pw_properties_set(props, b"node.latency", f"{latency_frames}/{sample_rate or 48000}".encode())
        connection.lock()
        try:
            self.state.guard.next = connection.guards
            connection.guards = &self.state.guard
            if interleaved:
                self.open_stream(props, positions, sample_format, sample_rate)
            else:
                self.open_filter(props, positions)
        except BaseException:
            self.close()
            raise
        finally:
            connection.unlock()
        connection.adopt(self)

    cdef int open_filter(self, pw_properties *props, list positions) except -1:
        cdef CaptureState *s = self.state
        cdef bytes channel, port
        cdef pw_properties *of_port
        s.filter = pw_filter_new(self.connection.core, b"chaosd capture", props)
        check_pointer(s.filter, "making a filter")
        pw_filter_add_listener(s.filter, &s.hook, &filter_events, s)
        for k, position in enumerate(positions):
            channel = position.encode()
            port = f"input_{k + 1}".encode()
            of_port = pw_properties_new(b"format.dsp", <const char *>b"32 bit float mono audio",
                                        b"port.name", <const char *>port, b"audio.channel", <const char *>channel,
                                        NULL)
            s.ports[k] = pw_filter_add_port(s.filter, PW_DIRECTION_INPUT, PW_FILTER_PORT_FLAG_MAP_BUFFERS, 8, of_port,
                                            NULL, 0)
            check_pointer(s.ports[k], "adding a port")
        check(pw_filter_connect(s.filter, PW_FILTER_FLAG_RT_PROCESS, NULL, 0), "connecting a filter")

    cdef int open_stream(self, pw_properties *props, list positions, str sample_format, int sample_rate) except -1:
        cdef CaptureState *s = self.state
        cdef spa_audio_info_raw info
        cdef spa_pod_builder builder
        cdef uint8_t scratch[2048]
        cdef const spa_pod *params[1]
        memset(&info, 0, sizeof(info))
        info.format = SPA_FORMATS[sample_format]
        info.channels = s.channels
        info.rate = sample_rate
        for k, position in enumerate(positions):
            info.position[k] = channel_code(position, k)
        spa_pod_builder_init(&builder, scratch, sizeof(scratch))
        params[0] = spa_format_audio_raw_build(&builder, SPA_PARAM_EnumFormat, &info)
        self.data.data_loop = pw_data_loop_get_loop(pw_context_get_data_loop(self.connection.context))
        s.stream = pw_stream_new(self.connection.core, b"chaosd capture", props)
        check_pointer(s.stream, "making a stream")
        pw_stream_add_listener(s.stream, &s.hook, &stream_events, self.data)
        check(pw_stream_connect(s.stream, PW_DIRECTION_INPUT, INVALID_ID,
                                PW_STREAM_FLAG_MAP_BUFFERS | PW_STREAM_FLAG_RT_PROCESS, params, 1),
              "connecting a stream")

    cdef int ask(self) except -1:
        if self.data == NULL:
            raise InternalError("the capture is closed")
        return self.connection.ask()

    @property
    def handle(self):
        self.ask()
        return self.state.handle

    @property
    def node_id(self):
        """Id of our node in PipeWire's registry, or None before it has one."""
        self.ask()
        cdef uint32_t id = node_id_of(self.state)
        return None if id == INVALID_ID else id

    def link(self, pairs):
        """Asks for links, replacing those there were. No frame is kept while the node has any others.

        Args:
            pairs: (output node, output port, input node, input port, the output port's serial), one per channel and
                in their order.
        """
        self.ask()
        cdef CaptureState *s = self.state
        if len(pairs) > MAX_CHANNELS:
            raise FormatUnsupported(f"{len(pairs)} links", hint=f"at most {MAX_CHANNELS}")
        self.connection.lock()
        try:
            self.drop_links()
            for index, ids in enumerate(pairs):
                s.guard.wanted[index][0] = ids[1]
                s.guard.wanted[index][1] = ids[3]
                s.guard.serials[index] = ids[4]
            s.guard.n_wanted = len(pairs)
            for index, ids in enumerate(pairs):
                memset(&s.links[index], 0, sizeof(Link))
                s.links[index].notes = s.notes
                s.links[index].handle = s.handle
                s.links[index].index = index
                s.links[index].n_active = &s.n_active
                link_make(&s.links[index], self.connection.core, ids)
                s.n_links = index + 1
        finally:
            self.connection.unlock()

    cdef void drop_links(self) noexcept:
        """With the loop locked."""
        cdef uint32_t k
        for k in range(self.state.n_links):
            link_drop(&self.state.links[k])
        self.state.n_links = 0
        chaos_store(&self.state.n_active, 0)
        self.state.guard.n_wanted = 0

    cdef void leave_guards(self) noexcept:
        """With the loop locked."""
        cdef Guard **place = &self.connection.guards
        while place[0] != NULL:
            if place[0] == &self.state.guard:
                place[0] = self.state.guard.next
                return
            place = &place[0].next

    def go_on_with(self, SlotWriter following):
        """Has `following` take over from the writer at the next cycle that follows the last one without a seam.

        It has done so when its first frame is there; by then the callback has left the former one for good.
        """
        self.ask()
        if self.next is not None:
            self.writer = self.next
        self.next = following
        chaos_store(&self.state.next, <uint64_t><uintptr_t>following.ask())

    def unlink(self):
        """Drops the links, if any."""
        self.ask()
        self.connection.lock()
        try:
            self.drop_links()
        finally:
            self.connection.unlock()

    def close(self):
        """Takes the node out of the graph; when it returns, the callback has run for the last time."""
        if self.data == NULL:
            return
        cdef CaptureState *s = self.state
        if self.connection.core != NULL:
            self.connection.lock()
            self.leave_guards()
            with nogil:
                if s.filter != NULL:
                    spa_hook_remove(&s.hook)
                    pw_filter_destroy(s.filter)
                if s.stream != NULL:
                    spa_hook_remove(&s.hook)
                    pw_stream_destroy(s.stream)
            self.drop_links()           # now: without them the callback would see cycles that bring nothing
            self.connection.unlock()
        free(self.data)
        self.data = NULL
        self.state = NULL
        self.writer = self.next = None

    def __dealloc__(self):
        self.close()


cdef uint32_t channel_code(str position, int index):
    """SPA's number for a channel's name; AUX<index> where SPA knows no such name."""
    cdef bytes wanted = b":" + position.encode()
    cdef const spa_type_info *t = spa_type_audio_channel
    while t.name != NULL:
        if (<bytes>t.name).endswith(wanted):
            return t.type
        t += 1
    return 0x1000 + index
