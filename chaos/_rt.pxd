"""A capture as its callbacks know it."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from chaos._audio cimport AudioBuffers
from chaos._connection cimport MAX_CHANNELS, Guard, Records
from chaos._cycle cimport Writer
from chaos._link cimport OwnLink
from chaos._midi cimport MidiEvents
from chaos._silence cimport Silence
from chaos.pipewire cimport pw_buffer, pw_core, pw_filter, pw_loop, pw_stream, spa_hook, spa_io_position, spa_source

cdef extern from "<stdint.h>" nogil:
    const uint32_t INVALID_ID "UINT32_MAX"

cdef struct CaptureState:
    Guard guard
    Writer *writer
    uint64_t next                       # a Writer that is to go on from this one, or NULL
    Records *records
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
    bint tells_xruns                    # whether the server's clock has the field
    bint counts_cycles                  # and that one
    bint tells_silence                  # whether a port's mixer hands on what a device says of its silence
    AudioBuffers content                # those planes, or a stream's one buffer
    MidiEvents events                   # or a cycle's events
    uint64_t fed_ns                     # when the link of events was first seen, 0 without one
    bint is_heard                       # whether an event has come over it
    OwnLink links[MAX_CHANNELS]
    uint32_t n_links
    uint64_t n_active                   # of those links
    uint64_t n_ended                    # links that were active and are not any more, so far
    uint64_t n_late                     # of them asynchronous: they bring the last cycle's frames
    uint64_t linked_ns                  # when links were last asked for, see `must_be_its_own`
    uint64_t last_end                   # position behind the last cycle, and how long that was
    uint64_t last_frames

cdef struct StreamData:         # what a stream's callbacks are handed
    CaptureState state
    pw_loop *data_loop
    Silence silence
    pw_loop *loop
    pw_core *core
    spa_source *question_event  # how the callback has the loop ask the server
    spa_hook core_hook
    int question_seq            # of the last one
    uint64_t question           # which of `silence.asked` that was

cdef uint32_t node_id_of(const CaptureState *s) noexcept nogil
cdef void listen_to_filter(CaptureState *s) noexcept nogil
cdef void listen_to_midi(CaptureState *s) noexcept nogil
cdef void listen_to_stream(StreamData *s) noexcept nogil
cdef int may_ask(StreamData *s) noexcept nogil
cdef void ask_no_more(StreamData *s) noexcept nogil
