"""The clock that all others are compared with."""

from libc.stdint cimport uint64_t

cdef extern from "time.h" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *time)


cdef inline uint64_t now_ns() noexcept nogil:
    """CLOCK_MONOTONIC, through the vDSO: no system call."""
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <uint64_t>t.tv_sec * 1000000000ULL + <uint64_t>t.tv_nsec
