"""What captures need of memory."""

from libc.stdint cimport uint8_t

cdef void populate(uint8_t *at, size_t n) noexcept nogil
