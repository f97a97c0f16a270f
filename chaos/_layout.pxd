"""The staging file's layout: one declaration for C, Cython and Python.

A staging file is one page of control (`Definition` at 0, `RtState` at 2048, `Rings` at 3072), the slot table, three
rings (free slots, full slots, notes) and the slots. The callback is the only writer of `RtState` and of the write
index of the full and note rings; the rotator is the only writer of the rest. `chaos.staging.layout` documents the same
offsets for readers in other processes, and a test holds both against each other.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "<stdint.h>" nogil:
    const uint64_t NONE "UINT64_MAX"

cdef enum:
    LAYOUT_VERSION = 1
    RT_OFFSET = 2048
    RINGS_OFFSET = 3072
    CONTROL_BYTES = 4096
    HISTOGRAM_BUCKETS = 32

cdef enum:      # as chaos.terms.ledger numbers them; a test holds both against each other
    CAUSE_MISSED = 1
    CAUSE_HARDWARE_XRUN = 2
    CAUSE_OVERRUN = 3
    CAUSE_DEVICE_AWAY = 4
    CAUSE_DRIVER_SWITCH = 5
    CAUSE_NO_DATA = 7
    CAUSE_FOREIGN = 9
    CAUSE_MIDI_OVERFLOW = 10
    CAUSE_CLOCK_JUMP = 11
    EXACT = 1
    CLOCK = 2
    ESTIMATED = 3

cdef enum:
    NOTE_GAP = 1
    NOTE_ANCHOR = 2

cdef struct Definition:     # written once, before the stream starts
    uint8_t magic[8]
    uint32_t version
    uint32_t channels
    uint32_t sample_bytes
    uint32_t sample_format
    uint32_t n_slots
    uint32_t ring_size      # entries of the free and the full ring: a power of two, >= n_slots
    uint32_t n_notes        # entries of the note ring: a power of two
    uint32_t pid
    uint64_t chunk_frames
    uint64_t slot_bytes     # from one slot to the next; the chunk itself may be shorter
    uint64_t table_offset
    uint64_t free_offset
    uint64_t full_offset
    uint64_t notes_offset
    uint64_t data_offset
    uint64_t file_bytes
    uint64_t sample_rate    # Hz that the graph's clock must show; 0: not known before the first frame
    uint8_t run_id[16]
    uint8_t boot_id[16]
    uint8_t uri[192]
    uint8_t recording[1024]
    uint64_t about_offset   # JSON of `about_bytes`: what recovery needs to make the recording
    uint64_t about_bytes
    uint64_t chunk_bytes    # of a slot, where channels and frames do not tell
    uint64_t standby        # 1: the take holds its last seconds and is no recording yet
    uint64_t base_chunk     # where the recording begins; the callback goes on to count from the capture's begin
    uint64_t base_ns        # CLOCK_MONOTONIC of that; 0: `first_ns`
    uint64_t base_lost      # frames of gaps before it
    uint64_t base_gaps      # gaps that ended before it

cdef struct RtState:        # written by the callback alone
    uint64_t head_frame     # frames of the timeline so far, gaps included; stored with release
    uint64_t n_captured     # frames copied into slots
    uint64_t lost_frames    # frames of all gaps so far
    uint64_t n_gaps
    uint64_t callbacks
    uint64_t xruns          # times the clock showed that cycles had been missed
    uint64_t overruns       # times there was no slot
    uint64_t switches       # times the clock was another one, or jumped
    uint64_t torn           # buffers that the next cycle overwrote while they were copied
    uint64_t distrusted     # cycles left out because the buffers may have been another cycle's
    uint64_t short_buffers  # buffers that did not hold the cycle's frames
    uint64_t seen_rate      # Hz, of the clock as last seen
    uint64_t quantum        # frames of the last cycle
    uint64_t clock_id
    uint64_t position       # of the clock, at which the next cycle should begin
    uint64_t end_ns         # CLOCK_MONOTONIC at which the next cycle should begin
    uint64_t gap_first      # first frame of the open gap, or NONE
    uint64_t gap_cause
    uint64_t filling        # index of the slot being filled, or NONE
    uint64_t first_ns       # CLOCK_MONOTONIC of frame 0, 0 before it
    uint64_t first_position
    uint64_t busy_ns        # time spent in the callback, in all
    uint64_t busy_max_ns
    uint64_t busy_histogram[HISTOGRAM_BUCKETS]   # bucket k counts callbacks of 2^k to 2^(k+1) ns
    uint64_t freewheeled    # cycles of a graph that does not keep time
    uint64_t stands         # whether the clock's position stands still, so that cycles are counted by time
    uint64_t n_events       # that slots took
    uint64_t n_at_zero      # of them at the first frame of their cycle: a bridge puts those there that come late
    uint64_t n_beyond       # of them whose frame lay behind their cycle: they stand at its last one

cdef struct Rings:          # each index has its cache line; all only grow
    uint64_t free_write
    uint64_t pad0[7]
    uint64_t free_read
    uint64_t pad1[7]
    uint64_t full_write
    uint64_t pad2[7]
    uint64_t full_read
    uint64_t pad3[7]
    uint64_t note_write
    uint64_t pad4[7]
    uint64_t note_read
    uint64_t pad5[7]
    uint64_t hint           # a Cause that the main thread knows of (the device is away, the stream paused), or 0
    uint64_t pad6[7]
    uint64_t stalled        # 1 + the head at which the rotator saw that no cycle comes; past once the head has moved
    uint64_t pad7[7]

cdef struct SlotEntry:      # one cache line
    uint64_t chunk          # number of the chunk that the slot holds, or NONE
    uint64_t pad[7]

cdef struct Note:           # one cache line: what the callback has to tell
    uint32_t kind           # NOTE_GAP, NOTE_ANCHOR
    uint32_t cause
    uint32_t confidence
    uint32_t rate
    uint64_t first_frame
    uint64_t n_frames
    uint64_t position
    uint64_t monotonic_ns
    uint64_t clock_id
    uint64_t pad
