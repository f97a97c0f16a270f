"""What the registry listener keeps of each global of PipeWire's."""

from libc.stdint cimport int64_t, uint32_t

from chaos._connection cimport Guard, Records
from chaos.pipewire cimport pw_proxy, spa_dict, spa_hook
from chaos.spa cimport pw_registry

cdef extern from "<stdint.h>" nogil:
    const uint32_t RESET "UINT32_MAX"

cdef enum Kind:
    KIND_NONE = 0
    KIND_NODE = 1
    KIND_PORT = 2
    KIND_LINK = 3
    KIND_DEVICE = 4
    KIND_CLIENT = 5
    KIND_METADATA = 6

cdef enum:
    RECORD_ADDED = 100
    RECORD_REMOVED = 101
    RECORD_NODE_INFO = 102
    RECORD_NODE_PARAM = 103
    RECORD_DEVICE_INFO = 104
    RECORD_NODE_SYNCED = 105
    RECORD_METADATA = 106
    RECORD_FOREIGN = 107
    N_PARAMS = 4
    SCRATCH_BYTES = 1 << 16         # no payload is longer

cdef struct Tracked:                # a global that is there now
    uint32_t id
    int64_t serial
    Kind kind
    Watch *watch
    uint32_t foreign_to             # of a link that is not wanted there: the node, else RESET
    pw_proxy *proxy                 # NULL where it isn't bound
    spa_hook proxy_hook
    spa_hook object_hook
    int asked                       # the last sync: what is told before it is answered is one news
    bint known[N_PARAMS]
    uint32_t flags[N_PARAMS]

cdef struct Watch:
    Records *records
    pw_registry *registry
    Guard **guards                  # the connection's
    spa_hook hook
    Tracked **table                 # by id
    uint32_t size
    int64_t sequence
    char *scratch

cdef size_t put_dict(char *scratch, size_t at, const spa_dict *props) noexcept nogil
cdef void push(Tracked *t, int kind, int64_t b, size_t n) noexcept nogil
cdef void bind(Tracked *t, const char *type, uint32_t version) noexcept nogil
cdef void unbind(Tracked *t) noexcept nogil
