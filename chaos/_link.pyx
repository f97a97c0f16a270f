"""Links of ours in the graph: made, watched and dropped, each from one output port to one input port."""

from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.string cimport strcmp

from chaos._connection cimport check_pointer, records_push, records_push_text
from chaos.atomics cimport chaos_store
from chaos.pipewire cimport *
from chaos.spa cimport spa_dict_lookup

cdef enum:
    RECORD_LINK = 11
    GONE = -3                   # below PipeWire's own states: the link was removed

LINK_STATE = RECORD_LINK
LINK_GONE = GONE
LINK_ACTIVE = PW_LINK_STATE_ACTIVE


cdef inline void set_link_state(OwnLink *link, int state) noexcept nogil:
    cdef int64_t change = (state == PW_LINK_STATE_ACTIVE) - (link.state == PW_LINK_STATE_ACTIVE)
    if change < 0:
        chaos_store(link.n_ended, link.n_ended[0] + 1)
    chaos_store(link.n_active, link.n_active[0] + change)
    link.state = state


cdef void on_link_info(void *data, const pw_link_info *info) noexcept nogil:
    cdef OwnLink *link = <OwnLink *>data
    cdef const char *is_async = NULL
    if info.change_mask & PW_LINK_CHANGE_MASK_PROPS and info.props != NULL:
        is_async = spa_dict_lookup(info.props, b"link.async")
    if is_async != NULL and strcmp(is_async, b"true") == 0 and not link.is_late:
        link.is_late = True
        chaos_store(link.n_late, link.n_late[0] + 1)
    if info.change_mask & PW_LINK_CHANGE_MASK_STATE and link.state != info.state:
        set_link_state(link, info.state)
        records_push_text(link.records, RECORD_LINK, link.handle, link.index, info.state, info.error)


cdef void on_link_removed(void *data) noexcept nogil:
    cdef OwnLink *link = <OwnLink *>data
    set_link_state(link, GONE)
    records_push(link.records, RECORD_LINK, link.handle, link.index, GONE, NULL, 0)


cdef void on_link_error(void *data, int seq, int res, const char *message) noexcept nogil:
    cdef OwnLink *link = <OwnLink *>data
    set_link_state(link, PW_LINK_STATE_ERROR)
    records_push_text(link.records, RECORD_LINK, link.handle, link.index, PW_LINK_STATE_ERROR, message)


cdef pw_link_events link_events
link_events.version = PW_VERSION_LINK_EVENTS
link_events.info = on_link_info

cdef pw_proxy_events link_proxy_events
link_proxy_events.version = PW_VERSION_PROXY_EVENTS
link_proxy_events.removed = on_link_removed
link_proxy_events.error = on_link_error


cdef int link_make(OwnLink *link, pw_core *core, ids) except -1:
    """Asks for a link between `ids`: output node, output port, input node, input port. With the loop locked.

    The caller has set all but the proxy and its hooks. Raises PipeWireUnavailable; then there is nothing to drop.
    """
    cdef const char **keys = [b"link.output.node", b"link.output.port", b"link.input.node", b"link.input.port"]
    cdef char text[16]
    cdef int k
    cdef pw_properties *props = pw_properties_new(b"object.linger", <const char *>b"false", NULL)
    for k in range(4):
        snprintf(text, sizeof(text), b"%u", <unsigned int>ids[k])
        pw_properties_set(props, keys[k], text)
    link.proxy = <pw_proxy *>pw_core_create_object(
        core, b"link-factory", b"PipeWire:Interface:Link", PW_VERSION_LINK, &props.dict, 0)
    pw_properties_free(props)
    check_pointer(link.proxy, "making a link")
    pw_proxy_add_listener(link.proxy, &link.proxy_hook, &link_proxy_events, link)
    pw_link_add_listener(<pw_link *>link.proxy, &link.link_hook, &link_events, link)
    return 0


cdef void link_drop(OwnLink *link) noexcept nogil:
    """Ends a link that was made. With the loop locked."""
    spa_hook_remove(&link.link_hook)
    spa_hook_remove(&link.proxy_hook)
    pw_proxy_destroy(link.proxy)
