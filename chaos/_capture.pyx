"""A capture: a node of ours in the graph, made, linked and closed by Python; its callbacks are in `_rt`."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from chaos._connection cimport MAX_CHANNELS, Connection, Guard, check, check_pointer, version_code
from chaos._cycle cimport Writer
from chaos._link cimport OwnLink, link_drop, link_make
from chaos._memory cimport populate
from chaos._midi cimport EVENT_BYTES, MidiSlots
from chaos._rt cimport *
from chaos._slots cimport Slots
from chaos.atomics cimport chaos_load, chaos_store
from chaos.clock cimport now_ns
from chaos.pipewire cimport *

import threading
import warnings

from chaos import _audio, _cycle, _midi, _rt, _silence
from chaos._memory import hold_code

from chaos.terms.errors import FormatUnsupported, InternalError, PipeWireUnavailable

cdef extern from *:
    """
    #include <spa/param/buffers.h>
    #include <sys/mman.h>

    /* Buffers of at least so many bytes: left alone they are 4096 or 8192, and what does not fit is lost. */
    static inline const struct spa_pod *chaos_buffers_of(struct spa_pod_builder *b, uint32_t size)
    {
        return spa_pod_builder_add_object(b, SPA_TYPE_OBJECT_ParamBuffers, SPA_PARAM_Buffers,
            SPA_PARAM_BUFFERS_size, SPA_POD_CHOICE_RANGE_Int(size, size, INT32_MAX));
    }
    """
    const spa_pod *chaos_buffers_of(spa_pod_builder *builder, uint32_t size)
    int mlock(const void *at, size_t n) nogil

cdef int ARRIVE_S = 1
cdef uint32_t next_handle = 1
cdef bint is_code_held = False
cdef dict SPA_FORMATS = {"f32": SPA_AUDIO_FORMAT_F32, "s16": SPA_AUDIO_FORMAT_S16, "s32": SPA_AUDIO_FORMAT_S32}


cdef class Capture:
    """A capture node of ours in the graph, with its links: alive from construction to `close`, which may come twice.

    A planar capture is a `pw_filter` with one 32-bit float DSP port per channel: buffers are shared with the device's
    own ports, and there is no volume, resampler or remixer between; where s16 or s32 is recorded the copy converts. An
    interleaved one is a `pw_stream` without AUTOCONNECT, whose converter gives f32, s16 or s32. One of events
    (`MidiSlots`) is a `pw_filter` with one port that takes MIDI 1 and UMP. None links itself: `link` does, and nobody else.

    Args:
        slots: where frames go, of the same shape; the caller keeps them open until after `close`.
        name: node.name.
        description: what people see in a patchbay.
        positions: the channels' names ("FL", ...), one per channel; of events one, which nobody sees.
        sample_format: "f32", "s16" or "s32".
        sample_rate: Hz, for an interleaved stream; a filter takes the graph's.
        interleaved: which of both.
        latency_frames: quantum to ask for, or None.

    Attributes:
        handle: stands in the records of this capture (CAPTURE_STATE, LINK_STATE) as their id.

    Raises:
        FormatUnsupported: more than 256 channels, or more than 64 interleaved.
        ValueError: the slots are closed, or of another shape.
        PipeWireUnavailable: the connection is gone.
    """

    cdef Connection connection
    cdef Slots slots
    cdef Slots next
    cdef StreamData *data
    cdef CaptureState *state
    cdef bint is_made
    cdef object closing
    cdef object __weakref__

    def __cinit__(self, Connection connection, Slots slots, *, str name, str description, list positions,
                  str sample_format="f32", int sample_rate=0, bint interleaved=False, latency_frames=None):
        global next_handle, is_code_held
        if not is_code_held:
            is_code_held = True
            own = [module.__file__ for module in (_rt, _cycle, _silence, _audio, _midi)]
            hold_code(own, ["/libpipewire-", "/libc.so"])
        self.closing = threading.Lock()
        connection.alive()
        cdef Writer *writer = slots.alive()
        cdef bytes node_name = name.encode()
        cdef bytes node_description = description.encode()
        cdef uint32_t width = 2 if sample_format == "s16" else 4
        cdef bint is_midi = isinstance(slots, MidiSlots)
        if not 1 <= len(positions) <= MAX_CHANNELS:
            raise FormatUnsupported(f"{len(positions)} channels in one stream", hint=f"1 to {MAX_CHANNELS} work")
        if interleaved and len(positions) > SPA_AUDIO_MAX_CHANNELS:
            raise FormatUnsupported(f"{len(positions)} interleaved channels",
                                    hint=f"up to {SPA_AUDIO_MAX_CHANNELS} work interleaved; planar f32 takes more")
        if writer.definition.channels != len(positions) or not (is_midi or writer.definition.sample_bytes == width):
            raise ValueError("the slots are for another shape")
        self.connection = connection
        self.slots = slots
        self.data = <StreamData *>calloc(1, sizeof(StreamData))
        if self.data == NULL:
            raise MemoryError
        populate(<uint8_t *>self.data, sizeof(StreamData))      # zeroed memory may not be there before it is written to
        self.state = &self.data.state
        if is_midi:
            self.state.events.pod = <uint8_t *>calloc(1, EVENT_BYTES)
            if self.state.events.pod == NULL:
                free(self.data)
                self.data = NULL
                raise MemoryError
            mlock(self.state.events.pod, EVENT_BYTES)       # as far as the limit allows; written to, it is there
            memset(self.state.events.pod, 1, EVENT_BYTES)
        self.state.writer = writer
        self.state.records = connection.records
        self.state.tells_xruns = connection.records.version >= 3080      # 0.3.80, see `book_missed`
        self.state.counts_cycles = connection.records.version >= 1002000    # 1.2, see `is_behind`
        self.state.tells_silence = version_code(pw_get_library_version()) >= 1007000     # see `look_at`
        self.state.handle = next_handle
        next_handle += 1
        self.state.channels = len(positions)
        self.state.sample_bytes = width
        self.state.guard.node_id = INVALID_ID
        cdef pw_properties *props = pw_properties_new(
            b"media.type", <const char *>(b"Midi" if is_midi else b"Audio"), b"media.category", <const char *>b"Capture",
            b"media.role", <const char *>b"Production", b"node.autoconnect", <const char *>b"false",
            b"node.dont-reconnect", <const char *>b"true", b"stream.dont-remix", <const char *>b"true",
            b"state.restore-props", <const char *>b"false", b"state.restore-target", <const char *>b"false",
            # Later PipeWires fade in after a link and fade out by invented samples, in our own ports.
            b"zeroramp.duration", <const char *>b"0", NULL)
        pw_properties_set(props, b"node.name", node_name)
        pw_properties_set(props, b"node.description", node_description)
        if latency_frames:
            pw_properties_set(props, b"node.latency", f"{latency_frames}/{sample_rate or 48000}".encode())
        connection.lock()
        try:
            self.state.guard.next = connection.guards
            connection.guards = &self.state.guard
            if is_midi:
                self.open_midi(props)
            elif interleaved:
                self.open_stream(props, positions, sample_format, sample_rate)
            else:
                self.open_filter(props, positions)
        except BaseException:
            self.close()
            raise
        finally:
            connection.unlock()
        self.is_made = True
        connection.adopt(self)

    cdef int open_filter(self, pw_properties *props, list positions) except -1:
        cdef CaptureState *s = self.state
        cdef bytes channel, port
        cdef pw_properties *of_port
        s.filter = pw_filter_new(self.connection.core, b"chaosd capture", props)
        check_pointer(s.filter, "making a filter")
        listen_to_filter(s)
        for k, position in enumerate(positions):
            channel = position.encode()
            port = f"input_{k + 1}".encode()
            of_port = pw_properties_new(b"format.dsp", <const char *>b"32 bit float mono audio",
                                        b"port.name", <const char *>port, b"audio.channel", <const char *>channel,
                                        NULL)
            s.ports[k] = pw_filter_add_port(s.filter, PW_DIRECTION_INPUT, PW_FILTER_PORT_FLAG_MAP_BUFFERS, 8, of_port,
                                            NULL, 0)
            check_pointer(s.ports[k], "adding a port")
        self.connect_filter()

    cdef int open_midi(self, pw_properties *props) except -1:
        """One port, of the format that all sources of events can be linked to."""
        cdef CaptureState *s = self.state
        cdef spa_pod_builder builder
        cdef uint8_t scratch[256]
        cdef const spa_pod *params[1]
        s.filter = pw_filter_new(self.connection.core, b"chaosd capture", props)
        check_pointer(s.filter, "making a filter")
        listen_to_midi(s)
        s.ports[0] = pw_filter_add_port(
            s.filter, PW_DIRECTION_INPUT, PW_FILTER_PORT_FLAG_MAP_BUFFERS, 8,
            pw_properties_new(b"format.dsp", <const char *>b"8 bit raw control", b"port.name",
                              <const char *>b"input_1", NULL), NULL, 0)
        check_pointer(s.ports[0], "adding a port")
        spa_pod_builder_init(&builder, scratch, sizeof(scratch))
        params[0] = chaos_buffers_of(&builder, EVENT_BYTES)
        check(pw_filter_update_params(s.filter, s.ports[0], params, 1), "asking for large buffers")
        self.connect_filter()

    cdef int connect_filter(self) except -1:
        # Without that flag the filter keeps to itself what its ports are told of latency.
        check(pw_filter_connect(self.state.filter, PW_FILTER_FLAG_RT_PROCESS | PW_FILTER_FLAG_CUSTOM_LATENCY, NULL, 0),
              "connecting a filter")

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
        self.data.loop = pw_thread_loop_get_loop(self.connection.loop)
        self.data.core = self.connection.core
        memset(&self.data.silence, 0, sizeof(self.data.silence))    # it is there before the callback writes to it
        self.data.silence.ended = ~<uint64_t>0      # what a former capture's last cycles have held was never answered
        check(may_ask(self.data), "making an event")
        s.stream = pw_stream_new(self.connection.core, b"chaosd capture", props)
        check_pointer(s.stream, "making a stream")
        listen_to_stream(self.data)
        check(pw_stream_connect(s.stream, PW_DIRECTION_INPUT, INVALID_ID,
                                PW_STREAM_FLAG_MAP_BUFFERS | PW_STREAM_FLAG_RT_PROCESS, params, 1),
              "connecting a stream")

    cdef int alive(self) except -1:
        if self.data == NULL:
            raise InternalError("the capture is closed")
        return self.connection.alive()

    @property
    def handle(self):
        self.alive()
        return self.state.handle

    @property
    def node_id(self):
        """Id of our node in PipeWire's registry, or None before it has one."""
        self.alive()
        cdef uint32_t id = node_id_of(self.state)
        return None if id == INVALID_ID else id

    def link(self, pairs):
        """Asks for links, replacing those there were. No frame is kept while the node has any others.

        Args:
            pairs: (output node, output port, input node, input port, the output port's serial), one per channel and
                in their order.
        """
        self.alive()
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
            chaos_store(&s.linked_ns, now_ns())
            for index, ids in enumerate(pairs):
                memset(&s.links[index], 0, sizeof(OwnLink))
                s.links[index].records = s.records
                s.links[index].handle = s.handle
                s.links[index].index = index
                s.links[index].n_active = &s.n_active
                s.links[index].n_ended = &s.n_ended
                s.links[index].n_late = &s.n_late
                link_make(&s.links[index], self.connection.core, ids)
                s.n_links = index + 1
        finally:
            self.connection.unlock()

    cdef void drop_links(self) noexcept:
        """With the loop locked."""
        cdef uint32_t k
        for k in range(self.state.n_links):
            link_drop(&self.state.links[k])
        chaos_store(&self.state.n_ended, self.state.n_ended + self.state.n_links)
        self.state.n_links = 0
        chaos_store(&self.state.n_active, 0)
        chaos_store(&self.state.n_late, 0)
        self.state.guard.n_wanted = 0

    cdef void leave_guards(self) noexcept:
        """With the loop locked."""
        cdef Guard **place = &self.connection.guards
        while place[0] != NULL:
            if place[0] == &self.state.guard:
                place[0] = self.state.guard.next
                return
            place = &place[0].next

    def go_on_with(self, Slots following):
        """Has `following` take over from the writer at the next cycle that follows the last one without a seam.

        It has done so when its first frame is there; by then the callback has left the former one for good.
        """
        self.alive()
        if self.next is not None:
            self.slots = self.next
        self.next = following
        chaos_store(&self.state.next, <uint64_t><uintptr_t>following.alive())

    def unlink(self):
        """Drops the links, if any."""
        self.alive()
        self.connection.lock()
        try:
            self.drop_links()
        finally:
            self.connection.unlock()

    cdef void let_arrive(self):
        """Waits for what PipeWire sends for the node's birth and its links: descriptors that come for a node that is
        gone already are never closed (seen with libpipewire 0.3.65). A node whose links all stand has had them."""
        cdef uint64_t until = now_ns() + <uint64_t>ARRIVE_S * 1000000000
        try:
            if self.state.n_links and chaos_load(&self.state.n_active) == self.state.n_links:
                return
            while self.node_id is None and now_ns() < until:
                self.connection.sync(ARRIVE_S)
            self.connection.sync(ARRIVE_S)
        except PipeWireUnavailable:
            pass

    def close(self):
        """Takes the node out of the graph; when it returns, the callback has run for the last time."""
        with self.closing:      # the stream and the connection may both close it, and the latter must outlive the wait
            if self.is_made:
                self.is_made = False
                self.let_arrive()
            self.destroy()

    cdef void destroy(self):
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
                ask_no_more(self.data)
            self.drop_links()           # now: without them the callback would see cycles that bring nothing
            self.connection.unlock()
        free(s.events.pod)
        free(self.data)
        self.data = NULL
        self.state = NULL
        self.slots = self.next = None

    def __del__(self):
        if self.data != NULL:
            try:
                warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self)
            finally:
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
