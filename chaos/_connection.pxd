"""What captures and the registry listener need of the connection."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stddef cimport size_t

from chaos.pipewire cimport pw_context, pw_core, pw_thread_loop, spa_hook

cdef struct Record:             # from a PipeWire callback to Python, in order
    Record *next
    int kind
    uint32_t id
    int64_t a
    int64_t b
    size_t size
    char *payload

cdef struct Records:            # touched only with the loop locked, as in callbacks it is
    Record *first
    Record *last
    int wake_fd
    pw_thread_loop *loop
    int done_seq                # of the last pw_core_sync that was answered
    bint broken                 # PipeWire has gone
    uint32_t version            # of the PipeWire we reach, 1.4.2 as 1004002

cdef enum:
    MAX_CHANNELS = 256          # of one stream; also in chaos.terms.formats

cdef struct Guard:              # what the registry listener asks of a capture, with the loop locked
    Guard *next
    uint32_t node_id            # of our node, INVALID_ID before it has one
    uint32_t n_wanted
    uint32_t wanted[MAX_CHANNELS][2]    # the links asked for: output port, input port
    int64_t serials[MAX_CHANNELS]       # and the output ports' serials, since ids are used again
    uint64_t n_foreign          # links to our node that we did not ask for; the callback reads it

cdef uint32_t version_code(const char *text) noexcept nogil
cdef int check(int res, str doing) except -1
cdef int check_pointer(const void *p, str doing) except -1

cdef void records_push(Records *q, int kind, uint32_t id, int64_t a, int64_t b, const char *text,
                       size_t n) noexcept nogil
cdef void records_push_text(Records *q, int kind, uint32_t id, int64_t a, int64_t b, const char *text) noexcept nogil

cdef class Connection:
    cdef pw_thread_loop *loop
    cdef pw_context *context
    cdef pw_core *core
    cdef Records *records
    cdef spa_hook *hook
    cdef Guard *guards
    cdef object children
    cdef readonly str remote
    cdef object __weakref__
    cdef int alive(self) except -1
    cdef int open(self) except -1
