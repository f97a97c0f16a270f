"""What the process callback hands to audio's `put`, and the slots that a capture fills."""

from chaos._slots cimport Slots

cdef struct AudioBuffers:
    const float *const *planes      # one per channel

cdef class AudioSlots(Slots):
    pass
