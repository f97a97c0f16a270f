"""A channel that falls silent in a stream of several: the device's own silence, or a converter's for one whose link went?

Up to PipeWire 1.6 at least a stream's converter puts zeros where one of its ports is brought nothing, and doesn't say so.
A link goes in the server first, and its end is told to us a moment later: cycles in between have one channel of zeros
beside others that are right. The server's own order decides: it tells of links in the order of what it does, so once it has
answered a question that was asked after the cycle, it has told of all that had gone by then. Until then the cycle is held
behind the head (`_cycle`), where nobody reads it.

What a channel is like that was silent before, by the device's doing, is not asked again at each cycle: zeros beside zeros
tell nothing. So where its link goes the last cycles before that are the channel's silence, whatever the device sent.
"""

from libc.string cimport memset

from chaos._cycle cimport Cycle


cdef bint silence_look(Silence *q, Cycle *c, uint64_t silent, bint is_answered, uint64_t ended) noexcept nogil:
    """Says in `c` what to do with a cycle of which the channels `silent` hold nothing but zeros, and with those held.

    `is_answered` tells whether the last question is, as found before the links were looked at; `ended` counts the links
    that have ended so far, as found after that: one may be made again before another cycle comes, so that a channel
    which is heard again proves nothing. Returns whether another question is to be asked.
    """
    cdef uint64_t doubt
    if ended != q.ended:
        q.ended = ended
        q.quiet = q.asked_of = q.more = 0
        c.is_denied = True
    q.quiet &= silent
    if q.asked_of != 0 and is_answered:
        c.is_answered = True
        q.quiet |= q.asked_of & silent
        q.asked_of = 0
    doubt = (silent & ~q.quiet) | q.more
    c.is_doubtful = q.asked_of != 0 or doubt != 0
    if q.asked_of != 0:
        q.more = doubt
        return False
    q.asked_of = doubt
    q.more = 0
    c.is_asked = doubt != 0
    return c.is_asked


def looked(cycles):
    """What becomes of cycles of (silent channels as bits, is_answered, links that have ended): of each (is_doubtful,
    is_asked, is_answered, is_denied); for tests."""
    cdef Silence q
    cdef Cycle c
    cdef list found = []
    memset(&q, 0, sizeof(q))
    for silent, is_answered, ended in cycles:
        memset(&c, 0, sizeof(c))
        silence_look(&q, &c, silent, is_answered, ended)
        found.append((bool(c.is_doubtful), bool(c.is_asked), bool(c.is_answered), bool(c.is_denied)))
    return found
