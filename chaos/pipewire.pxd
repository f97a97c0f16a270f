"""The symbols of libpipewire-0.3 and SPA that chaosd uses, and no others. Contracts: their own headers.

Event tables are declared at the top of a module, static in C: what is not set in them is NULL.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "<stdbool.h>" nogil:
    ctypedef bint c_bool "bool"

cdef extern from "<spa/utils/dict.h>" nogil:
    cdef struct spa_dict_item:
        const char *key
        const char *value
    cdef struct spa_dict:
        uint32_t flags
        uint32_t n_items
        const spa_dict_item *items

cdef extern from "<spa/utils/hook.h>" nogil:
    cdef struct spa_hook:
        pass
    void spa_hook_remove(spa_hook *hook)

cdef extern from "<spa/utils/defs.h>" nogil:
    cdef struct spa_fraction:
        uint32_t num
        uint32_t denom
    ctypedef int spa_direction

cdef extern from "<spa/pod/pod.h>" nogil:
    cdef struct spa_pod:
        uint32_t size
        uint32_t type

cdef extern from "<spa/pod/builder.h>" nogil:
    cdef struct spa_pod_builder:
        pass
    void spa_pod_builder_init(spa_pod_builder *builder, void *data, uint32_t size)

cdef extern from "<spa/param/param.h>" nogil:
    enum:
        SPA_PARAM_EnumFormat
        SPA_PARAM_Format
        SPA_PARAM_Buffers
        SPA_PARAM_Latency

cdef extern from "<spa/param/audio/raw.h>" nogil:
    enum:
        SPA_AUDIO_FORMAT_F32
        SPA_AUDIO_FORMAT_S16
        SPA_AUDIO_FORMAT_S32
        SPA_AUDIO_MAX_CHANNELS
    cdef struct spa_audio_info_raw:
        uint32_t format
        uint32_t flags
        uint32_t rate
        uint32_t channels
        uint32_t *position

cdef extern from "<spa/param/audio/type-info.h>" nogil:
    cdef struct spa_type_info:
        uint32_t type
        uint32_t parent
        const char *name
        const spa_type_info *values
    const spa_type_info *spa_type_audio_channel

cdef extern from "<spa/param/audio/format-utils.h>" nogil:
    const spa_pod *spa_format_audio_raw_build(spa_pod_builder *builder, uint32_t id, const spa_audio_info_raw *info)

cdef extern from "<spa/buffer/buffer.h>" nogil:
    cdef struct spa_chunk:
        uint32_t offset
        uint32_t size
        int32_t stride
        int32_t flags
    cdef struct spa_data:
        uint32_t type
        uint32_t maxsize
        void *data
        spa_chunk *chunk
    cdef struct spa_buffer:
        uint32_t n_datas
        spa_data *datas
    enum:
        SPA_CHUNK_FLAG_CORRUPTED
        SPA_CHUNK_FLAG_EMPTY

cdef extern from "<spa/node/io.h>" nogil:
    enum:
        SPA_IO_Position
    cdef struct spa_io_clock:
        uint32_t flags
        uint32_t id
        uint64_t nsec
        spa_fraction rate
        uint64_t position
        uint64_t duration
        uint64_t next_nsec
    cdef struct spa_io_position:
        spa_io_clock clock

cdef extern from "<spa/support/loop.h>" nogil:
    cdef struct spa_loop:
        pass
    ctypedef int (*spa_invoke_func_t)(spa_loop *loop, c_bool is_async, uint32_t seq, const void *data, size_t size,
                                      void *user_data) noexcept nogil

cdef extern from "<pipewire/pipewire.h>" nogil:
    void pw_init(int *argc, char ***argv)
    const char *pw_get_library_version()

    cdef struct pw_properties:
        spa_dict dict
    pw_properties *pw_properties_new(const char *key, ...)
    void pw_properties_free(pw_properties *properties)
    int pw_properties_set(pw_properties *properties, const char *key, const char *value)

    cdef struct pw_loop:
        pass
    ctypedef void (*spa_source_event_func_t)(void *data, uint64_t count) noexcept nogil
    cdef struct spa_source:
        pass
    spa_source *pw_loop_add_event(pw_loop *loop, spa_source_event_func_t func, void *data)
    int pw_loop_signal_event(pw_loop *loop, spa_source *source)
    void pw_loop_destroy_source(pw_loop *loop, spa_source *source)
    int pw_loop_invoke(pw_loop *loop, spa_invoke_func_t func, uint32_t seq, const void *data, size_t size, bint block,
                       void *user_data)

    cdef struct pw_thread_loop:
        pass
    pw_thread_loop *pw_thread_loop_new(const char *name, const spa_dict *props)
    void pw_thread_loop_destroy(pw_thread_loop *loop)
    pw_loop *pw_thread_loop_get_loop(pw_thread_loop *loop)
    int pw_thread_loop_start(pw_thread_loop *loop)
    void pw_thread_loop_stop(pw_thread_loop *loop)
    void pw_thread_loop_lock(pw_thread_loop *loop)
    void pw_thread_loop_unlock(pw_thread_loop *loop)
    int pw_thread_loop_timed_wait(pw_thread_loop *loop, int wait_max_sec)
    void pw_thread_loop_signal(pw_thread_loop *loop, bint wait_for_accept)

    cdef struct pw_context:
        pass
    cdef struct pw_data_loop:
        pass
    pw_context *pw_context_new(pw_loop *main_loop, pw_properties *props, size_t user_data_size)
    void pw_context_destroy(pw_context *context)
    pw_data_loop *pw_context_get_data_loop(pw_context *context)
    pw_loop *pw_data_loop_get_loop(pw_data_loop *loop)

    cdef struct pw_proxy:
        pass
    cdef struct pw_proxy_events:
        uint32_t version
        void (*destroy)(void *data) noexcept nogil
        void (*bound)(void *data, uint32_t global_id) noexcept nogil
        void (*removed)(void *data) noexcept nogil
        void (*done)(void *data, int seq) noexcept nogil
        void (*error)(void *data, int seq, int res, const char *message) noexcept nogil
    enum:
        PW_VERSION_PROXY_EVENTS
    void pw_proxy_destroy(pw_proxy *proxy)
    void pw_proxy_add_listener(pw_proxy *proxy, spa_hook *listener, const pw_proxy_events *events, void *data)
    uint32_t pw_proxy_get_bound_id(pw_proxy *proxy)

    cdef struct pw_core:
        pass
    cdef struct pw_core_info:
        uint32_t id
        uint32_t cookie
        const char *user_name
        const char *host_name
        const char *version
        const char *name
    cdef struct pw_core_events:
        uint32_t version
        void (*info)(void *data, const pw_core_info *info) noexcept nogil
        void (*done)(void *data, uint32_t id, int seq) noexcept nogil
        void (*error)(void *data, uint32_t id, int seq, int res, const char *message) noexcept nogil
    enum:
        PW_ID_CORE
        PW_VERSION_CORE_EVENTS
        PW_VERSION_LINK
    pw_core *pw_context_connect(pw_context *context, pw_properties *properties, size_t user_data_size)
    int pw_core_disconnect(pw_core *core)
    int pw_core_add_listener(pw_core *core, spa_hook *listener, const pw_core_events *events, void *data)
    int pw_core_sync(pw_core *core, uint32_t id, int seq)
    void *pw_core_create_object(pw_core *core, const char *factory_name, const char *type, uint32_t version,
                                const spa_dict *props, size_t user_data_size)

    cdef struct pw_buffer:
        spa_buffer *buffer
        void *user_data
        uint64_t size

cdef extern from "<pipewire/link.h>" nogil:
    cdef struct pw_link:
        pass
    cdef struct pw_link_info:
        uint32_t id
        uint32_t output_node_id
        uint32_t output_port_id
        uint32_t input_node_id
        uint32_t input_port_id
        uint64_t change_mask
        int state
        const char *error
        const spa_dict *props
    cdef struct pw_link_events:
        uint32_t version
        void (*info)(void *data, const pw_link_info *info) noexcept nogil
    enum:
        PW_VERSION_LINK_EVENTS
        PW_LINK_CHANGE_MASK_STATE
        PW_LINK_CHANGE_MASK_PROPS
        PW_LINK_STATE_ERROR
        PW_LINK_STATE_ACTIVE
    int pw_link_add_listener(pw_link *link, spa_hook *listener, const pw_link_events *events, void *data)

cdef extern from "<pipewire/filter.h>" nogil:
    cdef struct pw_filter:
        pass
    cdef struct pw_filter_events:
        uint32_t version
        void (*destroy)(void *data) noexcept nogil
        void (*state_changed)(void *data, int old, int state, const char *error) noexcept nogil
        void (*param_changed)(void *data, void *port_data, uint32_t id, const spa_pod *param) noexcept nogil
        void (*add_buffer)(void *data, void *port_data, pw_buffer *buffer) noexcept nogil
        void (*process)(void *data, spa_io_position *position) noexcept nogil
    enum:
        PW_VERSION_FILTER_EVENTS
        PW_FILTER_FLAG_CUSTOM_LATENCY
        PW_FILTER_FLAG_RT_PROCESS
        PW_FILTER_PORT_FLAG_MAP_BUFFERS
        PW_DIRECTION_INPUT
    pw_filter *pw_filter_new(pw_core *core, const char *name, pw_properties *props)
    void pw_filter_add_listener(pw_filter *filter, spa_hook *listener, const pw_filter_events *events, void *data)
    int pw_filter_connect(pw_filter *filter, int flags, const spa_pod **params, uint32_t n_params)
    uint32_t pw_filter_get_node_id(pw_filter *filter)
    void pw_filter_destroy(pw_filter *filter)
    void *pw_filter_add_port(pw_filter *filter, int direction, int flags, size_t port_data_size, pw_properties *props,
                             const spa_pod **params, uint32_t n_params)
    int pw_filter_update_params(pw_filter *filter, void *port_data, const spa_pod **params, uint32_t n_params)
    pw_buffer *pw_filter_dequeue_buffer(void *port_data)
    int pw_filter_queue_buffer(void *port_data, pw_buffer *buffer)

cdef extern from "<pipewire/stream.h>" nogil:
    cdef struct pw_stream:
        pass
    cdef struct pw_stream_events:
        uint32_t version
        void (*state_changed)(void *data, int old, int state, const char *error) noexcept nogil
        void (*io_changed)(void *data, uint32_t id, void *area, uint32_t size) noexcept nogil
        void (*param_changed)(void *data, uint32_t id, const spa_pod *param) noexcept nogil
        void (*process)(void *data) noexcept nogil
    enum:
        PW_VERSION_STREAM_EVENTS
        PW_STREAM_FLAG_MAP_BUFFERS
        PW_STREAM_FLAG_RT_PROCESS
    pw_stream *pw_stream_new(pw_core *core, const char *name, pw_properties *props)
    void pw_stream_add_listener(pw_stream *stream, spa_hook *listener, const pw_stream_events *events, void *data)
    int pw_stream_connect(pw_stream *stream, int direction, uint32_t target_id, int flags, const spa_pod **params,
                          uint32_t n_params)
    uint32_t pw_stream_get_node_id(pw_stream *stream)
    void pw_stream_destroy(pw_stream *stream)
    pw_buffer *pw_stream_dequeue_buffer(pw_stream *stream)
    int pw_stream_queue_buffer(pw_stream *stream, pw_buffer *buffer)
