"""The atomic loads and stores of `_atomics.h`. Which order each place needs is argued in `_cycle.pyx`."""

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "_atomics.h" nogil:
    uint64_t chaos_load(const uint64_t *p)
    uint64_t chaos_peek(const uint64_t *p)
    uint32_t chaos_peek_32(const uint32_t *p)
    void chaos_store(uint64_t *p, uint64_t v)
    void chaos_clear(uint64_t *p, uint64_t seen)
    void chaos_fence()
