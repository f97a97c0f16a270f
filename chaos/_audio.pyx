"""Audio as a form of what slots hold: each chunk is (channels, chunk_frames) samples, planar, in C order.

The graph has planes of f32, one per channel: the copy converts where s16 or s32 is recorded. A stream has one interleaved
buffer of what is recorded.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int16_t, int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from chaos._cycle cimport Cycle, Form, Writer, slots_cycle, slots_trusts
from chaos._layout cimport CAUSE_FOREIGN, CAUSE_NO_DATA
from chaos._slots cimport Slots

cdef extern from "_kernels.h" nogil:
    void chaos_deinterleave_32(uint32_t *dst, uint64_t stride, const uint32_t *src, uint64_t channels, uint64_t n)
    void chaos_deinterleave_16(uint16_t *dst, uint64_t stride, const uint16_t *src, uint64_t channels, uint64_t n)
    void chaos_copy_planes(uint8_t *dst, uint64_t stride, const uint8_t *const *planes, uint64_t channels, uint64_t at,
                           uint64_t n)
    void chaos_interleave_32(uint32_t *dst, const uint32_t *const *planes, uint64_t channels, uint64_t n)
    void chaos_interleave_16(uint16_t *dst, const uint16_t *const *planes, uint64_t channels, uint64_t n)
    void chaos_level_f32(const float *src, uint64_t n, double *peak, double *mean_square)
    void chaos_level_s16(const int16_t *src, uint64_t n, double *peak, double *mean_square)
    void chaos_level_s32(const int32_t *src, uint64_t n, double *peak, double *mean_square)
    struct chaos_measure:
        double peak, squares, sum
        uint64_t n_clipped, first_clipped, n_odd, first_odd
    void chaos_measure_f32(const float *src, uint64_t n, chaos_measure *m)
    void chaos_measure_s16(const int16_t *src, uint64_t n, chaos_measure *m)
    void chaos_measure_s32(const int32_t *src, uint64_t n, chaos_measure *m)

cdef extern from "_convert.h" nogil:
    void chaos_convert_16(int16_t *dst, uint64_t stride, const float *const *planes, uint64_t channels, uint64_t at,
                          uint64_t n)
    void chaos_convert_32(int32_t *dst, uint64_t stride, const float *const *planes, uint64_t channels, uint64_t at,
                          uint64_t n)

cdef enum:                  # codes of chaos.terms.formats
    F32 = 1
    S16 = 2
    S32 = 3


# ---- in the callback -----------------------------------------------------------------------------------------------

cdef inline uint8_t *place_of(const Writer *w) noexcept nogil:
    """Where the first channel's next sample goes."""
    return w.data + <uint64_t>w.slot * w.definition.slot_bytes + w.offset * w.definition.sample_bytes


cdef uint64_t put(Writer *w, const Cycle *c, uint64_t from_frame, uint64_t n) noexcept nogil:
    cdef const AudioBuffers *from_ = <const AudioBuffers *>c.content
    cdef uint64_t width = w.definition.sample_bytes
    cdef uint64_t channels = w.definition.channels
    cdef uint64_t stride = w.definition.chunk_frames
    cdef uint8_t *to = place_of(w)
    if from_.planes != NULL and w.definition.sample_format == S16:
        chaos_convert_16(<int16_t *>to, stride, <const float *const *>from_.planes, channels, from_frame, n)
    elif from_.planes != NULL and w.definition.sample_format == S32:
        chaos_convert_32(<int32_t *>to, stride, <const float *const *>from_.planes, channels, from_frame, n)
    elif from_.planes != NULL:
        chaos_copy_planes(to, stride * width, from_.planes, channels, from_frame * width, n * width)
    elif width == 2:
        chaos_deinterleave_16(<uint16_t *>to, stride, <const uint16_t *>from_.interleaved + from_frame * channels,
                              channels, n)
    else:
        chaos_deinterleave_32(<uint32_t *>to, stride, <const uint32_t *>from_.interleaved + from_frame * channels,
                              channels, n)
    return 0


cdef void take_back(Writer *w, uint64_t n) noexcept nogil:
    cdef uint64_t width = w.definition.sample_bytes
    cdef uint8_t *to = place_of(w)
    cdef uint64_t k
    for k in range(w.definition.channels):
        memset(to + k * w.definition.chunk_frames * width, 0, n * width)


cdef Form AUDIO
AUDIO.put = put
AUDIO.take_back = take_back


# ---- for Python ----------------------------------------------------------------------------------------------------

cdef uint8_t *sample_at(const Writer *w, uint32_t slot, uint64_t channel, uint64_t frame) noexcept nogil:
    """Where a channel's sample lies, of a slot's frame."""
    return (w.data + <uint64_t>slot * w.definition.slot_bytes
            + (channel * w.definition.chunk_frames + frame) * w.definition.sample_bytes)


cdef void measure_channel(const Writer *w, const uint8_t *at, uint64_t n, chaos_measure *found) noexcept nogil:
    if w.definition.sample_format == F32:
        chaos_measure_f32(<const float *>at, n, found)
    elif w.definition.sample_format == S16:
        chaos_measure_s16(<const int16_t *>at, n, found)
    else:
        chaos_measure_s32(<const int32_t *>at, n, found)


cdef class AudioSlots(Slots):
    """Slots that hold samples."""

    def __cinit__(self, object buffer, int wake_fd):
        self.writer.form = &AUDIO

    def cycle(self, uint64_t position, uint64_t n_frames, object data, *, uint32_t rate=48000, uint32_t clock_id=1,
              object monotonic_ns=None, uint64_t now_ns=0, uint32_t clock_flags=0, uint64_t xrun=0, bint interleaved=False,
              bint torn=False, bint foreign=False, bint doubting=False, bint linked=False,
              bint doubtful=False, bint asked=False, bint answered=False, bint denied=False,
              uint64_t other_frames=0, bint whole=False):
        """Runs what the callback runs for one cycle, without the GIL; for tests.

        Args:
            position: the clock's position where the cycle begins, frames.
            data: bytes-like, (channels, n_frames) samples of f32, or (n_frames, channels) interleaved of what is
                recorded; None where the device delivered nothing.
            now_ns: when the callback began, where it was late.
            clock_flags: of the driver's clock, as PipeWire numbers them.
            xrun: frames that the driver has lost so far.
            torn: pretend that the next cycle began during the copy.
            doubting: leave out what the callback would not believe.
            linked: whether the device is, so that it should bring frames.
            doubtful, asked, answered, denied: of what may be made up in part, see `Cycle`.
            other_frames, whole: of a cycle that has another length by its clock, see `Cycle`.
            foreign: pretend that somebody else's links bring audio, too; without `data`.
        """
        cdef Writer *w = self.alive()
        cdef uint64_t channels = w.definition.channels
        cdef AudioBuffers buffers
        cdef Cycle c
        cdef Py_buffer view
        cdef uint64_t live = position + (1 if torn else 0)
        cdef const uint8_t **planes = NULL
        cdef uint64_t k
        memset(&c, 0, sizeof(c))
        memset(&buffers, 0, sizeof(buffers))
        c.position = position
        c.n_frames = n_frames
        c.rate = rate
        c.clock_id = clock_id
        c.monotonic_ns = position * 1000000000ULL // rate if monotonic_ns is None else <uint64_t>monotonic_ns
        c.now_ns = now_ns if now_ns != 0 else c.monotonic_ns
        c.clock_flags = clock_flags
        c.xrun = xrun
        c.live_position = &live
        c.live = position
        c.content = &buffers
        c.is_linked = linked
        c.is_doubtful, c.is_asked, c.is_answered, c.is_denied = doubtful, asked, answered, denied
        c.other_frames, c.is_whole = other_frames, whole
        if doubting and not slots_trusts(w, &c):
            return
        if data is None or foreign:
            c.lacks = CAUSE_FOREIGN if foreign else CAUSE_NO_DATA
            with nogil:
                slots_cycle(w, &c)
            return
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if <uint64_t>view.len != channels * n_frames * (w.definition.sample_bytes if interleaved else sizeof(float)):
                raise ValueError("data does not hold channels x n_frames samples")
            if interleaved:
                buffers.interleaved = view.buf
            else:
                planes = <const uint8_t **>malloc(channels * sizeof(void *))
                if planes == NULL:
                    raise MemoryError
                for k in range(channels):
                    planes[k] = <uint8_t *>view.buf + k * n_frames * sizeof(float)
                buffers.planes = planes
            with nogil:
                slots_cycle(w, &c)
        finally:
            free(planes)
            PyBuffer_Release(&view)

    def measure(self, uint32_t slot, uint64_t first, uint64_t end, uint64_t origin=0):
        """Of each channel what frames [first, end) of a slot are like, which is not given back meanwhile: (peak, sum of
        squares, sum, n_clipped, first_clipped, n_odd, first_odd). Full scale is 1.0; odd are NaN and infinite ones, which
        count for nothing else. `first_` is a frame of the slot, or `end`; counted on from `origin`."""
        cdef Writer *w = self.alive()
        if slot >= w.definition.n_slots or not first <= end <= w.definition.chunk_frames:
            raise ValueError("no such frames")
        cdef uint64_t k, n = end - first, channels = w.definition.channels
        cdef chaos_measure *found = <chaos_measure *>malloc(channels * sizeof(chaos_measure))
        if found == NULL:
            raise MemoryError
        try:
            with nogil:
                for k in range(channels):
                    measure_channel(w, sample_at(w, slot, k, first), n, &found[k])
            return [(found[k].peak, found[k].squares, found[k].sum, found[k].n_clipped,
                     origin + first + found[k].first_clipped, found[k].n_odd, origin + first + found[k].first_odd)
                    for k in range(channels)]
        finally:
            free(found)

    def levels(self, uint64_t n_frames):
        """(peak, mean square) of each channel over the last n_frames of the filling slot; full scale is 1.0."""
        cdef Writer *w = self.alive()
        now = self.filling()
        if now is None:
            return []
        slot, _, filled = now
        cdef uint64_t n = min(n_frames, <uint64_t>filled)
        cdef uint64_t k, first = <uint64_t>filled - n
        cdef uint8_t *at
        cdef double peak = 0, square = 0
        cdef list found = []
        for k in range(w.definition.channels):
            at = sample_at(w, slot, k, first)
            if w.definition.sample_format == F32:
                chaos_level_f32(<const float *>at, n, &peak, &square)
            elif w.definition.sample_format == S16:
                chaos_level_s16(<const int16_t *>at, n, &peak, &square)
            else:
                chaos_level_s32(<const int32_t *>at, n, &peak, &square)
            found.append((peak, square))
        return found


def interleave(object frames, planes not None, uint64_t sample_bytes):
    """Writes planes (a bytes-like of each channel) side by side into `frames`, without the GIL.

    Raises ValueError where samples have neither 2 nor 4 bytes, or the sizes don't fit each other.
    """
    cdef uint64_t channels = len(planes), n_bytes = 0, n_held = 0, k
    cdef Py_buffer to
    cdef Py_buffer *views = <Py_buffer *>malloc(channels * (sizeof(Py_buffer) + sizeof(void *)) + 1)
    cdef const uint8_t **places = <const uint8_t **>(views + channels)
    if views == NULL:
        raise MemoryError
    try:
        for plane in planes:
            PyObject_GetBuffer(plane, &views[n_held], PyBUF_SIMPLE)
            places[n_held] = <const uint8_t *>views[n_held].buf
            n_held += 1
            n_bytes = <uint64_t>views[0].len
            if <uint64_t>views[n_held - 1].len != n_bytes:
                raise ValueError("the planes are not of one length")
        PyObject_GetBuffer(frames, &to, PyBUF_WRITABLE)
        try:
            if sample_bytes not in (2, 4) or n_bytes % sample_bytes or <uint64_t>to.len != channels * n_bytes:
                raise ValueError("frames does not hold these planes")
            with nogil:
                if sample_bytes == 4:
                    chaos_interleave_32(<uint32_t *>to.buf, <const uint32_t **>places, channels, n_bytes // 4)
                else:
                    chaos_interleave_16(<uint16_t *>to.buf, <const uint16_t **>places, channels, n_bytes // 2)
        finally:
            PyBuffer_Release(&to)
    finally:
        for k in range(n_held):
            PyBuffer_Release(&views[k])
        free(views)
