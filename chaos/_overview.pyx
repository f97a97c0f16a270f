"""The overview's arithmetic: blocks of frames as their lowest and highest sample, rms, and share of frames that were there.

A file of blocks is (channels, file_blocks, 4) f32 in C order. What it is for, and where files lie: `chaos.store.overview`.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int16_t, int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

cdef extern from "_overview.h" nogil:
    struct chaos_block:
        pass
    void chaos_block_f32(const float *src, uint32_t n, chaos_block *block)
    void chaos_block_s16(const int16_t *src, uint32_t n, chaos_block *block)
    void chaos_block_s32(const int32_t *src, uint32_t n, chaos_block *block)
    void chaos_block_begin(chaos_block *block)
    void chaos_block_end(const chaos_block *block, uint32_t size, float *to)
    void chaos_fold(const float *from_, uint32_t n, uint32_t factor, float *to)

cdef enum:                  # codes of chaos.terms.formats
    F32 = 1
    S16 = 2
    S32 = 3

cdef enum:
    N_VALUES = 4


cdef class Blocks:
    """Blocks of the finest level, file by file: frames go in, in order, those that are missing by `skip`.

    `n_blocks` are whole, and in the file (`content`) until `clear`. `n_over` are the frames of the block that has begun.
    """

    cdef uint32_t channels
    cdef uint32_t code
    cdef uint32_t size
    cdef uint32_t file_blocks
    cdef chaos_block *open_
    cdef float *out
    cdef readonly uint32_t n_blocks
    cdef readonly uint32_t n_over

    def __cinit__(self, uint32_t channels, uint32_t code, uint32_t block_frames, uint32_t file_blocks):
        if code not in (F32, S16, S32) or not channels or not block_frames or not file_blocks:
            raise ValueError("no such samples")
        self.size = block_frames
        self.file_blocks = file_blocks
        self.channels = channels
        self.code = code
        self.open_ = <chaos_block *>malloc(channels * sizeof(chaos_block))
        self.out = <float *>malloc(<size_t>channels * self.file_blocks * N_VALUES * sizeof(float))
        if self.open_ == NULL or self.out == NULL:
            raise MemoryError
        self.begin()
        self.clear()

    def __dealloc__(self):
        free(self.open_)
        free(self.out)

    cdef float *place(self, uint32_t c, uint32_t block) noexcept nogil:
        """Where a block's values are in the file."""
        return self.out + (<size_t>c * self.file_blocks + block) * N_VALUES

    cdef void begin(self) noexcept nogil:
        cdef uint32_t c
        self.n_over = 0
        for c in range(self.channels):
            chaos_block_begin(&self.open_[c])

    cdef void end(self) noexcept nogil:
        cdef uint32_t c
        for c in range(self.channels):
            chaos_block_end(&self.open_[c], self.size, self.place(c, self.n_blocks))
        self.n_blocks += 1
        self.begin()

    cdef void block(self, const uint8_t *data, uint64_t at, uint32_t n, chaos_block *block) noexcept nogil:
        """Takes in n samples of a block, from the one at `at` on."""
        if self.code == F32:
            chaos_block_f32(<const float *>data + at, n, block)
        elif self.code == S16:
            chaos_block_s16(<const int16_t *>data + at, n, block)
        else:
            chaos_block_s32(<const int32_t *>data + at, n, block)

    cdef void whole(self, const uint8_t *data, uint64_t stride, uint64_t at, uint32_t n_blocks) noexcept nogil:
        """Takes in whole blocks, channel by channel: memory is fast where it is read in the order in which it lies."""
        cdef uint32_t c, k
        cdef chaos_block block
        for c in range(self.channels):
            for k in range(n_blocks):
                chaos_block_begin(&block)
                self.block(data, c * stride + at + k * self.size, self.size, &block)
                chaos_block_end(&block, self.size, self.place(c, self.n_blocks + k))
        self.n_blocks += n_blocks

    cdef uint64_t fill(self, const uint8_t *data, uint64_t stride, uint64_t first, uint64_t end) noexcept nogil:
        cdef uint64_t at = first
        cdef uint32_t c, n
        while at < end and self.n_blocks < self.file_blocks:
            if data != NULL and self.n_over == 0 and end - at >= self.size:
                n = <uint32_t>min((end - at) // self.size, <uint64_t>(self.file_blocks - self.n_blocks))
                self.whole(data, stride, at, n)
                at += <uint64_t>n * self.size
                continue
            n = <uint32_t>min(end - at, <uint64_t>(self.size - self.n_over))
            if data != NULL:
                for c in range(self.channels):
                    self.block(data, c * stride + at, n, &self.open_[c])
            at += n
            self.n_over += n
            if self.n_over == self.size:
                self.end()
        return at - first

    def take(self, object data, uint64_t first, uint64_t end):
        """Takes in frames [first, end) of `data`, which has whole planes of samples; up to where the file is full. How many
        it took."""
        cdef Py_buffer view
        cdef uint64_t n, stride
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            stride = <uint64_t>view.len // (self.channels * (2 if self.code == S16 else 4))
            if not first <= end <= stride:
                raise ValueError("no such frames")
            with nogil:
                n = self.fill(<const uint8_t *>view.buf, stride, first, end)
        finally:
            PyBuffer_Release(&view)
        return n

    def skip(self, uint64_t n_frames):
        """So many frames are missing; up to where the file is full. How many it took."""
        cdef uint64_t n
        with nogil:
            n = self.fill(NULL, 0, 0, n_frames)
        return n

    def close_block(self):
        """Nothing more comes: what has begun is a block."""
        if self.n_over:
            self.end()

    def content(self):
        """The file; behind the blocks that are whole nothing is there."""
        return (<char *>self.out)[: <size_t>self.channels * self.file_blocks * N_VALUES * sizeof(float)]

    def clear(self):
        """Begins the next file."""
        cdef uint32_t c, k
        cdef chaos_block empty
        chaos_block_begin(&empty)
        self.n_blocks = 0
        for c in range(self.channels):
            for k in range(self.file_blocks):
                chaos_block_end(&empty, self.size, self.out + (<size_t>c * self.file_blocks + k) * N_VALUES)


def fold(object file, uint32_t channels, uint32_t file_blocks, uint32_t n_blocks, uint32_t factor,
         object coarser, uint32_t at):
    """Folds the first blocks of a file, `factor` to one, into another file from its block `at` on."""
    cdef Py_buffer source, target
    cdef size_t size = <size_t>channels * file_blocks * N_VALUES * sizeof(float)
    cdef uint32_t c
    PyObject_GetBuffer(file, &source, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(coarser, &target, PyBUF_WRITABLE)
        try:
            if (<size_t>source.len != size or <size_t>target.len != size or n_blocks > file_blocks or not factor
                    or at + (n_blocks + factor - 1) // factor > file_blocks):
                raise ValueError("these are not files of blocks")
            with nogil:
                for c in range(channels):
                    chaos_fold(<const float *>source.buf + <size_t>c * file_blocks * N_VALUES, n_blocks, factor,
                               <float *>target.buf + (<size_t>c * file_blocks + at) * N_VALUES)
        finally:
            PyBuffer_Release(&target)
    finally:
        PyBuffer_Release(&source)
