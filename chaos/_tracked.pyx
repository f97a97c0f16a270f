"""A global of PipeWire's that is there now, and what it tells of itself once it is bound, as records."""

from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy, strlen

from chaos._connection cimport records_push
from chaos.pipewire cimport *
from chaos.spa cimport *

cdef enum:
    MAX_PARAMS_TOLD = 64            # values of one param, EnumFormat's for example

cdef uint32_t[N_PARAMS] PARAMS
PARAMS[:] = [SPA_PARAM_EnumFormat, SPA_PARAM_Format, SPA_PARAM_Props, SPA_PARAM_PortConfig]


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


cdef void push(Tracked *t, int kind, int64_t b, size_t n) noexcept nogil:
    """Queues a record with what stands in the scratch."""
    records_push(t.watch.records, kind, t.id, t.serial, b, t.watch.scratch, n)


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
    if seq == t.asked:      # PipeWire uses a proxy's id again, and answers that one with what the former one asked
        push(t, RECORD_NODE_SYNCED, next_sequence(t), 0)


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
    push(t, RECORD_NODE_INFO, 0, n)
    if info.change_mask & PW_NODE_CHANGE_MASK_PARAMS:
        for i in range(info.n_params):
            ask_param(t, &info.params[i])
    t.asked = pw_proxy_sync(t.proxy, 0)


cdef void ask_param(Tracked *t, const spa_param_info *param) noexcept nogil:
    """Asks for a param of ours whose flags are new: one of them only toggles, when the value changes."""
    cdef uint32_t k
    for k in range(<uint32_t>N_PARAMS):
        if PARAMS[k] == param.id and not (t.known[k] and t.flags[k] == param.flags):
            t.known[k] = True
            t.flags[k] = param.flags
            push(t, RECORD_NODE_PARAM, (<int64_t>param.id << 32) | RESET, 0)
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
        records_push(t.watch.records, RECORD_NODE_PARAM, t.id, t.serial, (<int64_t>id << 32) | index,
                   <const char *>param, n)


cdef void on_device_info(void *data, const pw_device_info *info) noexcept nogil:
    cdef Tracked *t = <Tracked *>data
    if info.change_mask & PW_DEVICE_CHANGE_MASK_PROPS:
        push(t, RECORD_DEVICE_INFO, next_sequence(t), put_dict(t.watch.scratch, 0, info.props))


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
    push(t, RECORD_METADATA, next_sequence(t), n)
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
