"""What the registry listener needs of the connection."""

from libc.stdint cimport int64_t, uint32_t
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

cdef struct Notes:              # touched only with the loop locked, as in callbacks it is
    Record *first
    Record *last
    int wake_fd
    pw_thread_loop *loop
    int done_seq                # of the last pw_core_sync that was answered

cdef void notes_push(Notes *q, int kind, uint32_t id, int64_t a, int64_t b, const char *text,
                     size_t n) noexcept nogil

cdef class Connection:
    cdef pw_thread_loop *loop
    cdef pw_context *context
    cdef pw_core *core
    cdef Notes *notes
    cdef spa_hook *hook
    cdef object children
    cdef readonly str remote
    cdef object __weakref__
    cdef int ask(self) except -1
    cdef int open(self) except -1
