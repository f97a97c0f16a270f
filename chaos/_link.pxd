"""What a capture needs of its links."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from chaos._connection cimport Records
from chaos.pipewire cimport pw_core, pw_proxy, spa_hook

cdef struct OwnLink:            # from a device's port to one of ours
    pw_proxy *proxy
    spa_hook proxy_hook
    spa_hook link_hook
    Records *records            # what becomes of it is told there
    uint32_t handle
    int64_t index
    int state
    bint is_late                # counted in n_late
    uint64_t *n_active          # how many of its capture's links are
    uint64_t *n_ended           # how many of them were, and are not any more
    uint64_t *n_late            # how many of them bring the last cycle's frames

cdef int link_make(OwnLink *link, pw_core *core, ids) except -1
cdef void link_drop(OwnLink *link) noexcept nogil
