"""What the process callback hands to audio's `put`, and the slots that a capture fills."""

from libc.stdint cimport uint8_t

from chaos._slots cimport Slots

cdef struct AudioBuffers:           # one of both
    const uint8_t *const *planes    # a pointer per channel, or NULL
    const void *interleaved

cdef class AudioSlots(Slots):
    pass
