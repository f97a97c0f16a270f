"""What the process callback hands to MIDI's `put`, and the slots that a capture of events fills."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from chaos._slots cimport Slots

cdef enum:
    EVENT_BYTES = 65536     # of a cycle's events, as PipeWire wraps them
    SEQUENCE_BYTES = 16     # of those without one

cdef struct MidiEvents:     # one cycle's, in memory of ours
    uint8_t *pod            # EVENT_BYTES, of which n_bytes are a sequence that was looked through
    uint64_t n_bytes

cdef enum Looked:
    EVENTS          # a sequence, which may be empty
    UNFIT           # there were more than fit in
    BROKEN          # no sequence

cdef Looked midi_look(MidiEvents *to, const uint8_t *data, uint64_t room, uint64_t offset, uint64_t size) noexcept nogil

cdef class MidiSlots(Slots):
    pass
