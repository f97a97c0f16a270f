"""The staging file's layout as Python sees it: where each field lies, and what the numbers in it mean."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint64_t

from chaos.atomics cimport chaos_fence, chaos_load, chaos_store

CAUSES = {"missed": CAUSE_MISSED, "hardware_xrun": CAUSE_HARDWARE_XRUN, "overrun": CAUSE_OVERRUN,
          "device_away": CAUSE_DEVICE_AWAY, "driver_switch": CAUSE_DRIVER_SWITCH, "no_data": CAUSE_NO_DATA, "foreign": CAUSE_FOREIGN,
          "midi_overflow": CAUSE_MIDI_OVERFLOW, "clock_jump": CAUSE_CLOCK_JUMP}
CONFIDENCES = {"exact": EXACT, "clock": CLOCK, "estimated": ESTIMATED}
NOTE_KINDS = {"gap": NOTE_GAP, "anchor": NOTE_ANCHOR}


cdef dict field_offsets():
    """Offset and size of each field, as this build's compiler laid them out."""
    cdef Definition d
    cdef RtState r
    cdef Rings g
    cdef char *at_d = <char *>&d
    cdef char *at_r = <char *>&r
    cdef char *at_g = <char *>&g
    return {
        "magic": <char *>&d.magic - at_d, "version": <char *>&d.version - at_d,
        "channels": <char *>&d.channels - at_d, "sample_bytes": <char *>&d.sample_bytes - at_d,
        "sample_format": <char *>&d.sample_format - at_d, "n_slots": <char *>&d.n_slots - at_d,
        "ring_size": <char *>&d.ring_size - at_d, "n_notes": <char *>&d.n_notes - at_d,
        "pid": <char *>&d.pid - at_d, "chunk_frames": <char *>&d.chunk_frames - at_d,
        "slot_bytes": <char *>&d.slot_bytes - at_d, "table_offset": <char *>&d.table_offset - at_d,
        "free_offset": <char *>&d.free_offset - at_d, "full_offset": <char *>&d.full_offset - at_d,
        "notes_offset": <char *>&d.notes_offset - at_d, "data_offset": <char *>&d.data_offset - at_d,
        "file_bytes": <char *>&d.file_bytes - at_d, "sample_rate": <char *>&d.sample_rate - at_d,
        "run_id": <char *>&d.run_id - at_d, "boot_id": <char *>&d.boot_id - at_d,
        "uri": <char *>&d.uri - at_d, "recording": <char *>&d.recording - at_d,
        "about_offset": <char *>&d.about_offset - at_d, "about_bytes": <char *>&d.about_bytes - at_d,
        "chunk_bytes": <char *>&d.chunk_bytes - at_d,
        "standby": <char *>&d.standby - at_d, "base_chunk": <char *>&d.base_chunk - at_d,
        "base_ns": <char *>&d.base_ns - at_d, "base_lost": <char *>&d.base_lost - at_d,
        "base_gaps": <char *>&d.base_gaps - at_d,
        "head_frame": RT_OFFSET + (<char *>&r.head_frame - at_r),
        "n_captured": RT_OFFSET + (<char *>&r.n_captured - at_r),
        "lost_frames": RT_OFFSET + (<char *>&r.lost_frames - at_r),
        "seen_rate": RT_OFFSET + (<char *>&r.seen_rate - at_r),
        "clock_id": RT_OFFSET + (<char *>&r.clock_id - at_r),
        "position": RT_OFFSET + (<char *>&r.position - at_r),
        "end_ns": RT_OFFSET + (<char *>&r.end_ns - at_r),
        "gap_first": RT_OFFSET + (<char *>&r.gap_first - at_r),
        "gap_cause": RT_OFFSET + (<char *>&r.gap_cause - at_r),
        "filling": RT_OFFSET + (<char *>&r.filling - at_r),
        "first_ns": RT_OFFSET + (<char *>&r.first_ns - at_r),
        "first_position": RT_OFFSET + (<char *>&r.first_position - at_r),
        "busy_histogram": RT_OFFSET + (<char *>&r.busy_histogram - at_r),
        "freewheeled": RT_OFFSET + (<char *>&r.freewheeled - at_r),
        "stands": RT_OFFSET + (<char *>&r.stands - at_r),
        "n_events": RT_OFFSET + (<char *>&r.n_events - at_r),
        "n_at_zero": RT_OFFSET + (<char *>&r.n_at_zero - at_r),
        "n_beyond": RT_OFFSET + (<char *>&r.n_beyond - at_r),
        "free_write": RINGS_OFFSET + (<char *>&g.free_write - at_g),
        "free_read": RINGS_OFFSET + (<char *>&g.free_read - at_g),
        "full_write": RINGS_OFFSET + (<char *>&g.full_write - at_g),
        "full_read": RINGS_OFFSET + (<char *>&g.full_read - at_g),
        "note_write": RINGS_OFFSET + (<char *>&g.note_write - at_g),
        "note_read": RINGS_OFFSET + (<char *>&g.note_read - at_g),
        "hint": RINGS_OFFSET + (<char *>&g.hint - at_g),
        "stalled": RINGS_OFFSET + (<char *>&g.stalled - at_g),
    }


OFFSETS = field_offsets()
ENTRY_BYTES = sizeof(SlotEntry)
NOTE_BYTES = sizeof(Note)
RT_BYTES = sizeof(RtState)
LAYOUT = LAYOUT_VERSION
CONTROL = CONTROL_BYTES


def load(object buffer, size_t at):
    """The 64-bit word at byte `at`, a multiple of 8: what its writer wrote before it is seen by what reads after this."""
    cdef Py_buffer view
    cdef uint64_t value
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        if at % 8 or view.len < 8 or at > <size_t>view.len - 8:
            raise ValueError("no such word")
        value = chaos_load(<const uint64_t *>(<const uint8_t *>view.buf + at))
    finally:
        PyBuffer_Release(&view)
    return value


def store(object buffer, size_t at, uint64_t value):
    """Puts a 64-bit word at byte `at`, a multiple of 8, for who reads it by `load`: never half of it."""
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    try:
        if at % 8 or view.len < 8 or at > <size_t>view.len - 8:
            raise ValueError("no such word")
        chaos_store(<uint64_t *>(<uint8_t *>view.buf + at), value)
    finally:
        PyBuffer_Release(&view)


def acquire_fence():
    """Orders what was read before it against what is read after it (for readers of a staging file)."""
    chaos_fence()
