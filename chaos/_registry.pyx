"""The listener on PipeWire's registry: what comes, tells of itself and goes, as records for
`chaos.graph.objects.Decoder`.

All globals of the kinds in `chaos.graph.objects.Kind` are told with their properties. Audio and MIDI nodes, nodes of
programs that may send audio, device objects and the default and settings metadata are bound besides, because what
makes a device of a node stands in their info and params. The callbacks run in the loop's thread and copy what they are told into the connection's queue. They
decide one thing: a link to a capture of ours that it did not ask for is destroyed at once, and until it is gone
the capture keeps no frame. PipeWire tells of a link before it tells our node to take data from it, and of its
end afterwards, so that no frame of it can be taken for the device's.
"""

from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free, realloc, strtoll
from libc.string cimport memset, strcmp, strncmp

from chaos._connection cimport Connection, Guard
from chaos._tracked cimport *
from chaos.atomics cimport chaos_store
from chaos.pipewire cimport *
from chaos.spa cimport *

import warnings

from chaos.terms.errors import PipeWireUnavailable

cdef enum:
    MAX_ID = 1 << 20

RECORD_KINDS = {
    "ADDED": RECORD_ADDED, "REMOVED": RECORD_REMOVED, "NODE_INFO": RECORD_NODE_INFO, "NODE_PARAM": RECORD_NODE_PARAM,
    "DEVICE_INFO": RECORD_DEVICE_INFO, "NODE_SYNCED": RECORD_NODE_SYNCED, "METADATA": RECORD_METADATA,
    "FOREIGN": RECORD_FOREIGN,
}
KINDS = {
    "NODE": KIND_NODE, "PORT": KIND_PORT, "LINK": KIND_LINK, "DEVICE": KIND_DEVICE, "CLIENT": KIND_CLIENT,
    "METADATA": KIND_METADATA,
}


cdef Kind kind_of(const char *type) noexcept nogil:
    if strcmp(type, PW_TYPE_INTERFACE_Node) == 0:
        return KIND_NODE
    if strcmp(type, PW_TYPE_INTERFACE_Port) == 0:
        return KIND_PORT
    if strcmp(type, PW_TYPE_INTERFACE_Link) == 0:
        return KIND_LINK
    if strcmp(type, PW_TYPE_INTERFACE_Device) == 0:
        return KIND_DEVICE
    if strcmp(type, PW_TYPE_INTERFACE_Client) == 0:
        return KIND_CLIENT
    if strcmp(type, PW_TYPE_INTERFACE_Metadata) == 0:
        return KIND_METADATA
    return KIND_NONE


cdef bint is_wanted(Kind kind, const spa_dict *props) noexcept nogil:
    """Is there more to know of this global than the registry tells?"""
    cdef const char *text
    if kind == KIND_DEVICE:
        return True
    if kind == KIND_NODE:
        text = spa_dict_lookup(props, b"media.class")
        if text == NULL:        # a JACK client or a filter; our own captures are of the category "Capture"
            text = spa_dict_lookup(props, b"media.category")
            return text == NULL or strcmp(text, b"Capture") != 0
        return strncmp(text, b"Audio/", 6) == 0 or strncmp(text, b"Midi/", 5) == 0 or \
            strcmp(text, b"Stream/Output/Audio") == 0
    if kind == KIND_METADATA:
        text = spa_dict_lookup(props, b"metadata.name")
        return text != NULL and (strcmp(text, b"default") == 0 or strcmp(text, b"settings") == 0)
    return False


cdef bint make_room(Watch *w, uint32_t id) noexcept nogil:
    cdef Tracked **table
    cdef uint32_t size
    if id < w.size:
        return True
    if id >= MAX_ID:
        return False
    size = id + 256
    table = <Tracked **>realloc(w.table, size * sizeof(Tracked *))
    if table == NULL:
        return False
    memset(table + w.size, 0, (size - w.size) * sizeof(Tracked *))
    w.table = table
    w.size = size
    return True


cdef inline uint32_t number(const spa_dict *props, const char *key) noexcept nogil:
    cdef const char *text = spa_dict_lookup(props, key)
    return <uint32_t>strtoll(text, NULL, 10) if text != NULL else RESET


cdef Guard *guard_of(Watch *w, uint32_t node_id) noexcept nogil:
    cdef Guard *guard = w.guards[0]
    while guard != NULL and guard.node_id != node_id:
        guard = guard.next
    return guard if node_id != RESET else NULL


cdef bint is_asked_for(Watch *w, const Guard *guard, uint32_t output, uint32_t input) noexcept nogil:
    """Between those two ports, and is the output still the one that was meant?"""
    cdef uint32_t k
    if output >= w.size or w.table[output] == NULL:
        return False
    for k in range(guard.n_wanted):
        if guard.wanted[k][0] == output and guard.wanted[k][1] == input:
            return guard.serials[k] == w.table[output].serial
    return False


cdef void look_at_link(Tracked *t, const spa_dict *props) noexcept nogil:
    cdef uint32_t node_id = number(props, b"link.input.node")
    cdef Guard *guard = guard_of(t.watch, node_id)
    if guard == NULL or is_asked_for(t.watch, guard, number(props, b"link.output.port"),
                                     number(props, b"link.input.port")):
        return
    t.foreign_to = node_id
    chaos_store(&guard.n_foreign, guard.n_foreign + 1)
    pw_registry_destroy(t.watch.registry, t.id)
    push(t, RECORD_FOREIGN, (<int64_t>number(props, b"link.output.node") << 32) | node_id, 0)


cdef void forget_link(Tracked *t) noexcept nogil:
    cdef Guard *guard = guard_of(t.watch, t.foreign_to)
    if guard != NULL:
        chaos_store(&guard.n_foreign, guard.n_foreign - 1)


cdef void on_global(void *data, uint32_t id, uint32_t permissions, const char *type, uint32_t version,
                    const spa_dict *props) noexcept nogil:
    cdef Watch *w = <Watch *>data
    cdef Kind kind = kind_of(type)
    cdef const char *serial
    cdef Tracked *t
    if kind == KIND_NONE or props == NULL or not make_room(w, id):
        return
    on_global_remove(data, id)
    serial = spa_dict_lookup(props, b"object.serial")
    t = <Tracked *>calloc(1, sizeof(Tracked))
    if t == NULL:
        return
    t.id = id
    t.serial = strtoll(serial, NULL, 10) if serial != NULL else 0
    t.kind = kind
    t.watch = w
    t.foreign_to = RESET
    w.table[id] = t
    if kind == KIND_LINK:
        look_at_link(t, props)
    push(t, RECORD_ADDED, kind, put_dict(w.scratch, 0, props))
    if is_wanted(kind, props):
        bind(t, type, version)


cdef void on_global_remove(void *data, uint32_t id) noexcept nogil:
    cdef Watch *w = <Watch *>data
    cdef Tracked *t
    if id >= w.size or w.table[id] == NULL:
        return
    t = w.table[id]
    w.table[id] = NULL
    unbind(t)
    forget_link(t)
    push(t, RECORD_REMOVED, t.kind, 0)
    free(t)


cdef pw_registry_events on_registry
on_registry.version = PW_VERSION_REGISTRY_EVENTS
on_registry.global_ = on_global
on_registry.global_remove = on_global_remove


cdef class Registry:
    """Listens from construction to `close`; the records come out of the connection's `drain`.

    All that is there already is told first, and wholly once `settle` has come back. The connection closes the
    listener before it closes itself.

    Raises:
        PipeWireUnavailable: the connection is closed.
    """

    cdef Connection connection
    cdef Watch *watch
    cdef object __weakref__

    def __cinit__(self, Connection connection not None):
        connection.alive()
        cdef Watch *w = <Watch *>calloc(1, sizeof(Watch))
        if w == NULL:
            raise MemoryError
        w.records = connection.records
        w.guards = &connection.guards
        w.scratch = <char *>calloc(1, SCRATCH_BYTES)
        if w.scratch == NULL:
            free(w)
            raise MemoryError
        with nogil:
            pw_thread_loop_lock(connection.loop)
            w.registry = pw_core_get_registry(connection.core, PW_VERSION_REGISTRY, 0)
            if w.registry != NULL:
                pw_registry_add_listener(w.registry, &w.hook, &on_registry, w)
            pw_thread_loop_unlock(connection.loop)
        if w.registry == NULL:
            free(w.scratch)
            free(w)
            raise PipeWireUnavailable("PipeWire gave no registry", hint="has its process ended?")
        self.connection = connection
        self.watch = w
        connection.adopt(self)

    cdef int alive(self) except -1:
        """Raises unless the listener is alive."""
        if self.watch == NULL:
            raise PipeWireUnavailable("this registry listener is closed", hint="make another one")
        return 0

    @property
    def closed(self):
        return self.watch == NULL

    def settle(self):
        """Waits until all that was there is queued: globals, their infos, the params those made us ask for.

        Raises:
            PipeWireUnavailable: closed, or PipeWire does not answer.
        """
        self.alive()
        for _ in range(3):
            self.connection.sync()

    def set_node_param(self, uint32_t node_id, uint32_t param_id, bytes pod not None):
        """Sets a node's param; what PipeWire makes of it comes as records, or not at all. The node must not be one
        of this connection's own: PipeWire would wait for the answer that it keeps the connection from giving.

        Raises:
            PipeWireUnavailable: closed.
        """
        self.alive()
        cdef const spa_pod *param = <const spa_pod *><const char *>pod
        cdef pw_proxy *node
        if len(pod) < <Py_ssize_t>sizeof(spa_pod) or len(pod) < <Py_ssize_t>(sizeof(spa_pod) + param.size):
            raise ValueError("not a whole pod")
        with nogil:
            pw_thread_loop_lock(self.connection.loop)
            node = <pw_proxy *>pw_registry_bind(self.watch.registry, node_id, PW_TYPE_INTERFACE_Node,
                                                PW_VERSION_NODE, 0)
            if node != NULL:
                pw_node_set_param(<pw_node *>node, param_id, 0, param)
                pw_proxy_destroy(node)
            pw_thread_loop_unlock(self.connection.loop)

    def close(self):
        """Ends listening. None of its records is queued afterwards. Twice is harmless."""
        cdef Watch *w = self.watch
        cdef uint32_t id
        if w == NULL:
            return
        self.watch = NULL
        with nogil:
            pw_thread_loop_lock(self.connection.loop)
            for id in range(w.size):
                if w.table[id] != NULL:
                    unbind(w.table[id])
                    free(w.table[id])
            spa_hook_remove(&w.hook)
            pw_proxy_destroy(<pw_proxy *>w.registry)
            pw_thread_loop_unlock(self.connection.loop)
            free(w.table)
            free(w.scratch)
            free(w)
        self.connection = None

    def __del__(self):
        if self.watch != NULL:
            try:
                warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self)
            finally:
                self.close()
