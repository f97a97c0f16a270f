"""The listener on PipeWire's registry: what comes, tells of itself and goes, as notes for `chaos.graph.objects.Decoder`.

All globals of the kinds in `chaos.graph.objects.Kind` are told with their properties. Audio nodes, device objects and
the default and settings metadata are bound besides, because what makes a device of a node stands in their info
and params. The callbacks run in the loop's thread and copy what they are told into the connection's queue. They
decide one thing: a link to a capture of ours that it did not ask for is destroyed at once, and until it is gone
the capture keeps no frame. PipeWire tells of a link before it tells our node to take data from it, and of its
end afterwards, so that no frame of it can be taken for the device's.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc, strtoll
from libc.string cimport memcpy, memset, strcmp, strlen, strncmp

cimport cython

from chaos._connection cimport Connection, Guard, Notes, notes_push
from chaos.pipewire cimport *
from chaos.spa cimport *

from chaos.terms.errors import PipeWireUnavailable

cdef extern from "_kernels.h" nogil:
    void chaos_store(uint64_t *p, uint64_t v)

cdef enum Kind:
    KIND_NONE = 0
    KIND_NODE = 1
    KIND_PORT = 2
    KIND_LINK = 3
    KIND_DEVICE = 4
    KIND_CLIENT = 5
    KIND_METADATA = 6

cdef enum:
    NOTE_ADDED = 100
    NOTE_REMOVED = 101
    NOTE_NODE_INFO = 102
    NOTE_NODE_PARAM = 103
    NOTE_DEVICE_INFO = 104
    NOTE_NODE_SYNCED = 105
    NOTE_METADATA = 106
    NOTE_FOREIGN = 107
    N_PARAMS = 4
    MAX_PARAMS_TOLD = 64            # values of one param, EnumFormat's for example
    MAX_ID = 1 << 20
    SCRATCH_BYTES = 1 << 16         # no payload is longer

NOTE_KINDS = {
    "ADDED": NOTE_ADDED, "REMOVED": NOTE_REMOVED, "NODE_INFO": NOTE_NODE_INFO, "NODE_PARAM": NOTE_NODE_PARAM,
    "DEVICE_INFO": NOTE_DEVICE_INFO, "NODE_SYNCED": NOTE_NODE_SYNCED, "METADATA": NOTE_METADATA,
    "FOREIGN": NOTE_FOREIGN,
}
KINDS = {
    "NODE": KIND_NODE, "PORT": KIND_PORT, "LINK": KIND_LINK, "DEVICE": KIND_DEVICE, "CLIENT": KIND_CLIENT,
    "METADATA": KIND_METADATA,
}

cdef uint32_t RESET = 0xFFFFFFFF
cdef uint32_t[N_PARAMS] PARAMS
PARAMS[:] = [SPA_PARAM_EnumFormat, SPA_PARAM_Format, SPA_PARAM_Props, SPA_PARAM_PortConfig]

cdef struct Tracked:                # a global that is there now
    uint32_t id
    int64_t serial
    Kind kind
    Watch *watch
    uint32_t foreign_to             # of a link that is not wanted there: the node, else RESET
    pw_proxy *proxy                 # NULL where it isn't bound
    spa_hook proxy_hook
    spa_hook object_hook
    int n_asked                     # syncs under way: what is told before the last is answered is one news
    bint known[N_PARAMS]
    uint32_t flags[N_PARAMS]

cdef struct Watch:
    Notes *notes
    pw_registry *registry
    Guard **guards                  # the connection's
    spa_hook hook
    Tracked **table                 # by id
    uint32_t size
    int64_t sequence
    char *scratch


# ---- serialising -------------------------------------------------------------------------------------------

cdef inline size_t put(char *scratch, size_t at, const char *text) noexcept nogil:
    """Appends text with its NUL; gives `at` back unchanged where there is no room."""
    cdef size_t n = strlen(text) + 1
    if n > SCRATCH_BYTES - at:
        return at
    memcpy(scratch + at, text, n)
    return at + n


cdef size_t put_dict(char *scratch, size_t at, const spa_dict *props) noexcept nogil:
    """Appends whole pairs as long as there is room."""
    cdef uint32_t i
    cdef size_t key_end, end
    if props == NULL:
        return at
    for i in range(props.n_items):
        if props.items[i].key == NULL or props.items[i].value == NULL:
            continue
        key_end = put(scratch, at, props.items[i].key)
        end = put(scratch, key_end, props.items[i].value)
        if key_end == at or end == key_end:
            return at
        at = end
    return at


cdef inline void push(Tracked *t, int kind, int64_t b, size_t n) noexcept nogil:
    """A note with what stands in the scratch."""
    notes_push(t.watch.notes, kind, t.id, t.serial, b, t.watch.scratch, n)


cdef inline int64_t next_sequence(Tracked *t) noexcept nogil:
    t.watch.sequence += 1
    return t.watch.sequence


# ---- bound objects -----------------------------------------------------------------------------------------

cdef void unbind(Tracked *t) noexcept nogil:
    cdef pw_proxy *proxy = t.proxy
    if proxy == NULL:
        return
    t.proxy = NULL
    spa_hook_remove(&t.proxy_hook)
    spa_hook_remove(&t.object_hook)
    pw_proxy_destroy(proxy)


cdef void on_proxy_destroy(void *data) noexcept nogil:
    cdef Tracked *t = <Tracked *>data
    t.proxy = NULL
    spa_hook_remove(&t.proxy_hook)
    spa_hook_remove(&t.object_hook)


cdef void on_proxy_removed(void *data) noexcept nogil:
    unbind(<Tracked *>data)


cdef void on_proxy_done(void *data, int seq) noexcept nogil:
    cdef Tracked *t = <Tracked *>data
    t.n_asked -= 1
    if t.n_asked == 0:
        push(t, NOTE_NODE_SYNCED, next_sequence(t), 0)


cdef void on_node_info(void *data, const pw_node_info *info) noexcept nogil:
    cdef Tracked *t = <Tracked *>data
    cdef uint32_t i
    cdef char *scratch = t.watch.scratch
    cdef size_t n = 9
    memcpy(scratch, &info.n_input_ports, 4)
    memcpy(scratch + 4, &info.n_output_ports, 4)
    scratch[8] = (info.change_mask & PW_NODE_CHANGE_MASK_PROPS) != 0
    if scratch[8]:
        n = put_dict(scratch, n, info.props)
    push(t, NOTE_NODE_INFO, 0, n)
    if info.change_mask & PW_NODE_CHANGE_MASK_PARAMS:
        for i in range(info.n_params):
            ask_param(t, &info.params[i])
    t.n_asked += 1
    pw_proxy_sync(t.proxy, 0)


cdef void ask_param(Tracked *t, const spa_param_info *param) noexcept nogil:
    """Asks for a param of ours whose flags are new: one of them only toggles, when the value changes."""
    cdef uint32_t k
    for k in range(<uint32_t>N_PARAMS):
        if PARAMS[k] == param.id and not (t.known[k] and t.flags[k] == param.flags):
            t.known[k] = True
            t.flags[k] = param.flags
            push(t, NOTE_NODE_PARAM, (<int64_t>param.id << 32) | RESET, 0)
            if param.flags & SPA_PARAM_INFO_READ:
                pw_node_enum_params(<pw_node *>t.proxy, 0, param.id, 0, MAX_PARAMS_TOLD, NULL)


cdef void on_node_param(void *data, int seq, uint32_t id, uint32_t index, uint32_t next,
                        const spa_pod *param) noexcept nogil:
    cdef Tracked *t = <Tracked *>data
    cdef size_t n
    if param == NULL:
        return
    n = sizeof(spa_pod) + param.size
    if n <= SCRATCH_BYTES:
        notes_push(t.watch.notes, NOTE_NODE_PARAM, t.id, t.serial, (<int64_t>id << 32) | index,
                   <const char *>param, n)


cdef void on_device_info(void *data, const pw_device_info *info) noexcept nogil:
    cdef Tracked *t = <Tracked *>data
    if info.change_mask & PW_DEVICE_CHANGE_MASK_PROPS:
        push(t, NOTE_DEVICE_INFO, next_sequence(t), put_dict(t.watch.scratch, 0, info.props))


cdef int on_metadata(void *data, uint32_t subject, const char *key, const char *type,
                     const char *value) noexcept nogil:
    cdef Tracked *t = <Tracked *>data
    cdef char *scratch = t.watch.scratch
    cdef size_t n = 6
    memcpy(scratch, &subject, 4)
    scratch[4] = key != NULL
    scratch[5] = value != NULL
    if key != NULL:
        n = put(scratch, n, key)
        if n == 6:
            return 0
    if key != NULL and value != NULL:
        n = put(scratch, n, value)
    push(t, NOTE_METADATA, next_sequence(t), n)
    return 0


cdef pw_proxy_events on_proxy
on_proxy.version = PW_VERSION_PROXY_EVENTS
on_proxy.destroy = on_proxy_destroy
on_proxy.removed = on_proxy_removed
on_proxy.done = on_proxy_done

cdef pw_node_events on_node
on_node.version = PW_VERSION_NODE_EVENTS
on_node.info = on_node_info
on_node.param = on_node_param

cdef pw_device_events on_device
on_device.version = PW_VERSION_DEVICE_EVENTS
on_device.info = on_device_info

cdef pw_metadata_events on_metadata_object
on_metadata_object.version = PW_VERSION_METADATA_EVENTS
on_metadata_object.property = on_metadata


# ---- the registry ------------------------------------------------------------------------------------------

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
        return text != NULL and strncmp(text, b"Audio/", 6) == 0
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


cdef void bind(Tracked *t, const char *type, uint32_t version) noexcept nogil:
    if t.kind == KIND_NODE:
        version = min(version, <uint32_t>PW_VERSION_NODE)
    elif t.kind == KIND_DEVICE:
        version = min(version, <uint32_t>PW_VERSION_DEVICE)
    else:
        version = min(version, <uint32_t>PW_VERSION_METADATA)
    t.proxy = <pw_proxy *>pw_registry_bind(t.watch.registry, t.id, type, version, 0)
    if t.proxy == NULL:
        return
    pw_proxy_add_listener(t.proxy, &t.proxy_hook, &on_proxy, t)
    if t.kind == KIND_NODE:
        pw_node_add_listener(<pw_node *>t.proxy, &t.object_hook, &on_node, t)
    elif t.kind == KIND_DEVICE:
        pw_device_add_listener(<pw_device *>t.proxy, &t.object_hook, &on_device, t)
    else:
        pw_metadata_add_listener(<pw_metadata *>t.proxy, &t.object_hook, &on_metadata_object, t)


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
    push(t, NOTE_FOREIGN, (<int64_t>number(props, b"link.output.node") << 32) | node_id, 0)


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
    push(t, NOTE_ADDED, kind, put_dict(w.scratch, 0, props))
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
    push(t, NOTE_REMOVED, t.kind, 0)
    free(t)


cdef pw_registry_events on_registry
on_registry.version = PW_VERSION_REGISTRY_EVENTS
on_registry.global_ = on_global
on_registry.global_remove = on_global_remove


@cython.no_gc_clear              # so that the connection outlives this object in __dealloc__ too
cdef class Registry:
    """Listens from construction to `close`; the notes come out of the connection's `drain`.

    All that is there already is told first, and wholly once `settle` has come back. The connection closes the
    listener before it closes itself.

    Raises:
        PipeWireUnavailable: the connection is closed.
    """

    cdef Connection connection
    cdef Watch *watch
    cdef object __weakref__

    def __cinit__(self, Connection connection not None):
        connection.ask()
        cdef Watch *w = <Watch *>calloc(1, sizeof(Watch))
        if w == NULL:
            raise MemoryError
        w.notes = connection.notes
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

    cdef int ask(self) except -1:
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
        self.ask()
        for _ in range(3):
            self.connection.sync()

    def set_node_param(self, uint32_t node_id, uint32_t param_id, bytes pod not None):
        """Sets a node's param; what PipeWire makes of it comes as notes, or not at all. The node must not be one
        of this connection's own: PipeWire would wait for the answer that it keeps the connection from giving.

        Raises:
            PipeWireUnavailable: closed.
        """
        self.ask()
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
        """Ends listening. No note of ours is queued afterwards, also none that says so. Twice is harmless."""
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

    def __dealloc__(self):
        if self.watch != NULL:
            self.close()
