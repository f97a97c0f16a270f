"""What a stream's callback remembers of channels that are silent."""

from libc.stdint cimport uint64_t

from chaos._cycle cimport Cycle

cdef struct Silence:        # channels as bits; the callback's own but for `answered`
    uint64_t quiet          # silent by the device's own doing
    uint64_t asked_of       # of which it was asked whether they are, until that is answered
    uint64_t more           # silent in cycles since then
    uint64_t ended          # links that had ended
    uint64_t asked          # questions so far
    uint64_t answered       # of them; the loop's thread writes it

cdef bint silence_look(Silence *q, Cycle *c, uint64_t silent, bint is_answered, uint64_t ended) noexcept nogil
