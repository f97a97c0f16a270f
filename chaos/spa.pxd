"""What the registry listener uses of libpipewire-0.3 beside `chaos.pipewire`. Contracts: their own headers."""

from libc.stdint cimport uint32_t, uint64_t

from chaos.pipewire cimport pw_core, pw_proxy, spa_dict, spa_hook, spa_pod

cdef extern from "<spa/utils/dict.h>" nogil:
    const char *spa_dict_lookup(const spa_dict *dict, const char *key)

cdef extern from "<spa/param/param.h>" nogil:
    enum:
        SPA_PARAM_Props
        SPA_PARAM_PortConfig
        SPA_PARAM_INFO_READ
    cdef struct spa_param_info:
        uint32_t id
        uint32_t flags

cdef extern from "<pipewire/pipewire.h>" nogil:
    const char *PW_TYPE_INTERFACE_Node
    const char *PW_TYPE_INTERFACE_Port
    const char *PW_TYPE_INTERFACE_Link
    const char *PW_TYPE_INTERFACE_Device
    const char *PW_TYPE_INTERFACE_Client
    const char *PW_TYPE_INTERFACE_Metadata
    enum:
        PW_VERSION_REGISTRY
        PW_VERSION_REGISTRY_EVENTS
        PW_VERSION_NODE
        PW_VERSION_NODE_EVENTS
        PW_NODE_CHANGE_MASK_PROPS
        PW_NODE_CHANGE_MASK_PARAMS
        PW_VERSION_DEVICE
        PW_VERSION_DEVICE_EVENTS
        PW_DEVICE_CHANGE_MASK_PROPS

    int pw_proxy_sync(pw_proxy *proxy, int seq)

    cdef struct pw_registry:
        pass
    cdef struct pw_registry_events:
        uint32_t version
        void (*global_ "global")(void *data, uint32_t id, uint32_t permissions, const char *type, uint32_t version,
                                 const spa_dict *props) noexcept nogil
        void (*global_remove)(void *data, uint32_t id) noexcept nogil
    pw_registry *pw_core_get_registry(pw_core *core, uint32_t version, size_t user_data_size)
    int pw_registry_add_listener(pw_registry *registry, spa_hook *listener, const pw_registry_events *events,
                                 void *data)
    int pw_registry_destroy(pw_registry *registry, uint32_t id)
    void *pw_registry_bind(pw_registry *registry, uint32_t id, const char *type, uint32_t version,
                           size_t user_data_size)

    cdef struct pw_node:
        pass
    cdef struct pw_node_info:
        uint32_t n_input_ports
        uint32_t n_output_ports
        uint64_t change_mask
        spa_dict *props
        spa_param_info *params
        uint32_t n_params
    cdef struct pw_node_events:
        uint32_t version
        void (*info)(void *data, const pw_node_info *info) noexcept nogil
        void (*param)(void *data, int seq, uint32_t id, uint32_t index, uint32_t next,
                      const spa_pod *param) noexcept nogil
    int pw_node_add_listener(pw_node *node, spa_hook *listener, const pw_node_events *events, void *data)
    int pw_node_set_param(pw_node *node, uint32_t id, uint32_t flags, const spa_pod *param)
    int pw_node_enum_params(pw_node *node, int seq, uint32_t id, uint32_t start, uint32_t num, const spa_pod *filter)

    cdef struct pw_device:
        pass
    cdef struct pw_device_info:
        uint64_t change_mask
        const spa_dict *props
    cdef struct pw_device_events:
        uint32_t version
        void (*info)(void *data, const pw_device_info *info) noexcept nogil
    int pw_device_add_listener(pw_device *device, spa_hook *listener, const pw_device_events *events, void *data)

cdef extern from "<pipewire/extensions/metadata.h>" nogil:
    enum:
        PW_VERSION_METADATA
        PW_VERSION_METADATA_EVENTS
    cdef struct pw_metadata:
        pass
    cdef struct pw_metadata_events:
        uint32_t version
        int (*property)(void *data, uint32_t subject, const char *key, const char *type,
                        const char *value) noexcept nogil
    int pw_metadata_add_listener(pw_metadata *metadata, spa_hook *listener, const pw_metadata_events *events,
                                 void *data)
