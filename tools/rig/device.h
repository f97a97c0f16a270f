/* device: what the rig's devices share that are nodes of their own. No adapter stands between them and the graph, so
 * what they write into a buffer's chunk or into the clock is what others see.
 *
 * A device drives the graph unless another driver drives it. A cycle begins no sooner than `speed` allows, and when all
 * followers have finished the last or `patience_ns` after it began. Audio ports appear when a session manager, or
 * somebody in its place, configures them (PortConfig), as a sound card's do; ports of events are there at once.
 *
 * All that happens in cycles happens in the data thread, `begin` and `fill` of the device included. Its commands come
 * as lines over stdin; "begin", "hold" and "delay" are dealt with here, all others wait for the next cycle that it begins.
 * What it has to tell is one JSON object per line on stdout:
 *   {"event": "node", "node_id": N}                the node exists; without a session manager that is all
 *   {"event": "ready", "node_id": N, "ports": N}   all ports are there and can be linked
 *   {"event": "held"}                              no cycle is under way, and none begins before "begin"
 *   {"event": "done", "command": "...", "position": P}   a command took effect in the cycle that begins at P
 *   {"event": "delayed"}                           it has told PipeWire the new delay of a port ("delay CHANNEL FRAMES")
 *   {"event": "error", "message": "..."}           the end, exit code 1
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <pipewire/impl.h>
#include <spa/node/io.h>
#include <spa/node/node.h>
#include <spa/node/utils.h>
#include <spa/param/audio/format-utils.h>
#include <spa/param/latency-utils.h>
#include <spa/param/param.h>
#include <spa/debug/types.h>
#include <spa/param/audio/type-info.h>
#include <spa/pod/builder.h>
#include <spa/pod/filter.h>

#include "client.h"

#define MAX_PORTS 128
#define MAX_BUFFERS 16
#define MAX_COMMANDS 64
#define AUDIO_BYTES 32768
#define CONTROL_TYPES 0x60001 /* SPA_FORMAT_CONTROL_types, which 0.3.65 has not */
#define SETTLE_NS (100 * SPA_NSEC_PER_MSEC)

enum port_kind { PORT_AUDIO, PORT_MIDI, PORT_CONTROL, PORT_UMP };

static const char *const port_formats[] = {
	"32 bit float mono audio", "8 bit raw midi", "8 bit raw control", "32 bit raw UMP",
};

struct buffer {
	struct spa_buffer *buffer;
	void *data;
	size_t mapped;
};

struct port {
	enum port_kind kind;
	uint32_t id, channel, least_bytes, buffer_bytes;
	int32_t delay;		/* how many frames late it says that it is, of audio */
	bool is_there, has_format;
	char name[32];
	struct spa_param_info params[5];
	struct spa_dict_item items[4];
	struct spa_dict props;
	struct spa_port_info info;

	/* the data thread's */
	struct spa_io_buffers *io;
	struct buffer buffers[MAX_BUFFERS];
	uint32_t n_buffers, last;
};

struct command {
	char text[64];
};

struct device {
	struct client client;
	struct spa_node node;
	struct spa_hook_list hooks;
	struct spa_callbacks callbacks;
	struct spa_param_info params[2];
	struct pw_proxy *proxy;
	struct pw_registry *registry;
	struct spa_hook core_hook, proxy_hook, registry_hook;
	struct spa_source *input;
	struct port ports[MAX_PORTS];
	uint32_t n_ports, channels, rate, node_id, n_seen;
	double speed;
	int64_t patience_ns;
	int exit_code;
	char line[256];
	size_t line_length;

	/* What it is: `obey` carries out a command before a cycle, false where it knows none such; `delay_ns` is how much
	 * later than it could the next cycle begins; `fill` puts a cycle's content into all ports. Any but `fill` may be
	 * NULL. */
	bool (*obey)(struct device *d, const char *command);
	int64_t (*delay_ns)(struct device *d);
	void (*fill)(struct device *d, uint64_t position, uint32_t n_frames);
	void (*began)(struct device *d);

	/* the data thread's */
	struct spa_io_clock *clock;
	struct spa_source *timer;
	struct command commands[MAX_COMMANDS];
	uint32_t n_commands;
	bool started, held, in_cycle, stands;
	uint64_t position, duration, n_cycles, first;
	uint64_t stood;		/* frames of cycles during which its position stood still: its content goes on by them */
	int64_t due_ns;
};

static inline int64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return SPA_TIMESPEC_TO_NSEC(&ts);
}

/* What PipeWire added to the clock after 0.3.65, in what was padding there. */
struct clock_rest {
	struct spa_fraction target_rate;
	uint64_t target_duration;
	uint32_t target_seq, cycle;
	uint64_t xrun;
};

static inline struct clock_rest *clock_rest(struct spa_io_clock *clock)
{
	return SPA_PTROFF(&clock->next_nsec, sizeof clock->next_nsec, struct clock_rest);
}

/* --- what it tells, from any thread --- */

static inline int device_print(struct spa_loop *loop, bool async, uint32_t seq, const void *data, size_t size, void *user)
{
	fputs(data, stdout);
	return 0;
}

#define device_tell(d, ...) do { \
	char text_[256]; \
	int length_ = snprintf(text_, sizeof text_, __VA_ARGS__); \
	pw_loop_invoke((d)->client.loop, device_print, 0, text_, SPA_MIN((size_t)length_, sizeof text_ - 1) + 1, false, d); \
} while (0)

static inline void device_fail(struct device *d, const char *message)
{
	printf("{\"event\": \"error\", \"message\": \"%s\"}\n", message);
	d->exit_code = 1;
	pw_main_loop_quit(d->client.main_loop);
}

/* --- cycles, in the data thread --- */

static inline bool device_drives(const struct device *d)
{
	return d->clock && d->client.position && d->client.position->clock.id == d->clock->id;
}

static inline void device_arm(struct device *d, int64_t at_ns)
{
	struct timespec at = { at_ns / SPA_NSEC_PER_SEC, at_ns % SPA_NSEC_PER_SEC };
	pw_loop_update_timer(pw_data_loop_get_loop(d->client.data_loop), d->timer, at_ns ? &at : NULL, NULL, true);
}

/* The buffer that a port brings in this cycle, NULL where nobody is linked. Without `offered` it brings none. */
static inline struct buffer *device_buffer(struct port *p, bool offered)
{
	struct spa_io_buffers *io = p->io;
	if (io == NULL || p->n_buffers == 0)
		return NULL;
	p->last = (p->last + 1) % p->n_buffers;
	io->buffer_id = offered ? p->last : SPA_ID_INVALID;
	io->status = offered ? SPA_STATUS_HAVE_DATA : SPA_STATUS_OK;
	return &p->buffers[p->last];
}

static inline void device_obey(struct device *d)
{
	bool known[MAX_COMMANDS];
	for (uint32_t i = 0; i < d->n_commands; i++)
		known[i] = d->obey && d->obey(d, d->commands[i].text);
	for (uint32_t i = 0; i < d->n_commands; i++)
		if (known[i])
			device_tell(d, "{\"event\": \"done\", \"command\": \"%s\", \"position\": %" PRIu64 "}\n",
				    d->commands[i].text, d->position);
		else
			device_tell(d, "{\"event\": \"error\", \"message\": \"%s: there is no such command\"}\n",
				    d->commands[i].text);
	d->n_commands = 0;
}

static inline void device_begin_cycle(struct device *d)
{
	struct spa_io_clock *clock = d->clock;
	int64_t now = now_ns(), delay;
	if (!d->started || d->held || !device_drives(d))
		return;
	if (!d->in_cycle && d->delay_ns && (delay = d->delay_ns(d)) > 0) {
		device_arm(d, now + delay);
		return;
	}
	if (d->n_cycles > 0)
		*(d->stands ? &d->stood : &d->position) += d->duration;
	device_obey(d);
	struct clock_rest *rest = clock_rest(clock);
	if (rest->target_duration) {
		clock->duration = rest->target_duration;
		clock->rate = rest->target_rate;
	}
	d->duration = clock->duration;
	if (d->n_cycles++ == 0)
		d->first = d->position;
	clock->position = d->position;
	clock->nsec = now;
	clock->delay = 0;
	clock->rate_diff = 1.0;
	int64_t length = 1e9 * d->duration / clock->rate.denom;
	clock->next_nsec = now + length;
	d->due_ns = d->speed > 0 ? SPA_MAX(d->due_ns, now - (int64_t)SPA_NSEC_PER_SEC) + length / d->speed : now;
	d->in_cycle = true;
	device_arm(d, SPA_MAX(d->due_ns, now + d->patience_ns));
	d->fill(d, d->position + d->stood, d->duration);
	spa_node_call_ready(&d->callbacks, SPA_STATUS_HAVE_DATA);
	if (d->began)
		d->began(d);
}

/* Also when the patience is at its end: then the cycle is still under way. */
static inline void device_on_timer(void *data, uint64_t expirations)
{
	device_begin_cycle(data);
}

/* For a driver all followers have finished; a follower's turn has come. */
static inline int device_process(void *object)
{
	struct device *d = object;
	if (d->client.position == NULL)
		return SPA_STATUS_OK;
	if (!device_drives(d)) {
		d->in_cycle = false;
		device_obey(d);
		d->n_cycles++;
		d->fill(d, d->client.position->clock.position, d->client.position->clock.duration);
		return SPA_STATUS_HAVE_DATA;
	}
	if (!d->in_cycle)
		return SPA_STATUS_OK;
	d->in_cycle = false;
	if (d->held) {
		device_arm(d, 0);
		device_tell(d, "{\"event\": \"held\"}\n");
	} else
		device_arm(d, SPA_MAX(d->due_ns, 1));
	return SPA_STATUS_OK;
}

/* --- what other threads hand to the data thread --- */

static inline void device_hand_over(struct device *d, spa_invoke_func_t what, const void *data, size_t size)
{
	pw_data_loop_invoke(d->client.data_loop, what, 1, data, size, true, d);
}

static inline int device_do_start(struct spa_loop *loop, bool async, uint32_t seq, const void *data, size_t size, void *user)
{
	struct device *d = user;
	d->started = *(const bool *)data;
	d->in_cycle = false;
	/* While links are being made PipeWire may run a cycle without some of the followers. */
	d->due_ns = now_ns() + SETTLE_NS;	/* it makes up for no time that it didn't run */
	device_arm(d, d->started ? d->due_ns : 0);
	return 0;
}

/* Another driver drives the node, or none any more: then it goes on by itself, a moment later. */
static inline int device_do_turn(struct spa_loop *loop, bool async, uint32_t seq, const void *data, size_t size, void *user)
{
	struct device *d = user;
	if (d->started && !d->in_cycle && device_drives(d)) {
		d->due_ns = 0;
		device_arm(d, now_ns() + SETTLE_NS);
	}
	return 0;
}

static inline int device_do_clock(struct spa_loop *loop, bool async, uint32_t seq, const void *data, size_t size, void *user)
{
	((struct device *)user)->clock = *(struct spa_io_clock *const *)data;
	return 0;
}

struct io_change { uint32_t port; void *io; };

static inline int device_do_io(struct spa_loop *loop, bool async, uint32_t seq, const void *data, size_t size, void *user)
{
	const struct io_change *change = data;
	((struct device *)user)->ports[change->port].io = change->io;
	return 0;
}

static inline int device_do_command(struct spa_loop *loop, bool async, uint32_t seq, const void *data, size_t size,
				    void *user)
{
	struct device *d = user;
	const struct command *command = data;
	if (spa_streq(command->text, "hold")) {
		d->held = true;
		if (!d->in_cycle)
			device_tell(d, "{\"event\": \"held\"}\n");
	} else if (spa_streq(command->text, "begin")) {
		d->held = false;
		d->due_ns = SPA_MAX(d->due_ns, now_ns());	/* it makes up for no time that it was held */
		if (d->started && !d->in_cycle)
			device_arm(d, 1);
	} else if (d->n_commands < MAX_COMMANDS)
		d->commands[d->n_commands++] = *command;
	return 0;
}

/* --- the node, in the main thread --- */

static inline void device_announce_port(struct device *d, struct port *p)
{
	p->params[1].flags = p->has_format ? SPA_PARAM_INFO_READWRITE : SPA_PARAM_INFO_WRITE;
	p->params[2].flags = p->has_format ? SPA_PARAM_INFO_READ : 0;
	p->params[4].flags ^= SPA_PARAM_INFO_SERIAL;	/* what it says may be new */
	p->info.change_mask = SPA_PORT_CHANGE_MASK_FLAGS | SPA_PORT_CHANGE_MASK_PROPS | SPA_PORT_CHANGE_MASK_PARAMS;
	spa_node_emit_port_info(&d->hooks, SPA_DIRECTION_OUTPUT, p->id, &p->info);
}

static inline int device_add_listener(void *object, struct spa_hook *listener, const struct spa_node_events *events,
				      void *data)
{
	struct device *d = object;
	struct spa_hook_list save;
	struct spa_node_info info = SPA_NODE_INFO_INIT();
	info.max_output_ports = MAX_PORTS;
	info.flags = SPA_NODE_FLAG_RT | (d->channels ? SPA_NODE_FLAG_OUT_PORT_CONFIG : 0);
	info.params = d->params;
	info.n_params = d->channels ? SPA_N_ELEMENTS(d->params) : 0;
	info.change_mask = SPA_NODE_CHANGE_MASK_FLAGS | SPA_NODE_CHANGE_MASK_PARAMS;
	spa_hook_list_isolate(&d->hooks, &save, listener, events, data);
	spa_node_emit_info(&d->hooks, &info);
	for (uint32_t i = 0; i < d->n_ports; i++)
		if (d->ports[i].is_there)
			device_announce_port(d, &d->ports[i]);
	spa_hook_list_join(&d->hooks, &save);
	return 0;
}

static inline int device_set_callbacks(void *object, const struct spa_node_callbacks *callbacks, void *data)
{
	((struct device *)object)->callbacks = SPA_CALLBACKS_INIT(callbacks, data);
	return 0;
}

static inline int device_set_io(void *object, uint32_t id, void *area, size_t size)
{
	struct device *d = object;
	if (id == SPA_IO_Clock)
		device_hand_over(d, device_do_clock, &area, sizeof area);
	client_io_changed(&d->client, id, area);
	if (id == SPA_IO_Position)
		device_hand_over(d, device_do_turn, NULL, 0);
	return 0;
}

static inline int device_send_command(void *object, const struct spa_command *command)
{
	bool start = SPA_NODE_COMMAND_ID(command) == SPA_NODE_COMMAND_Start;
	device_hand_over(object, device_do_start, &start, sizeof start);
	return 0;
}

static inline struct spa_pod *device_raw_format(struct device *d, struct spa_pod_builder *b, uint32_t id)
{
	struct spa_audio_info_raw info = { .format = SPA_AUDIO_FORMAT_F32P, .rate = d->rate };
	client_set_channels(&info, d->channels);
	return spa_format_audio_raw_build(b, id, &info);
}

/* Everything that a node or a port tells has one value at most. */
static inline int device_result(struct device *d, int seq, uint32_t id, uint32_t start, struct spa_pod_builder *b,
				struct spa_pod *param, const struct spa_pod *filter)
{
	struct spa_result_node_params result = { .id = id, .index = start, .next = start + 1 };
	if (start > 0 || spa_pod_filter(b, &result.param, param, filter) < 0)
		return 0;
	spa_node_emit_result(&d->hooks, seq, 0, SPA_RESULT_TYPE_NODE_PARAMS, &result);
	return 0;
}

static inline int device_enum_params(void *object, int seq, uint32_t id, uint32_t start, uint32_t max,
				     const struct spa_pod *filter)
{
	struct device *d = object;
	uint8_t space[4096];
	struct spa_pod_builder b = SPA_POD_BUILDER_INIT(space, sizeof space);
	struct spa_pod_frame frame;
	if (id == SPA_PARAM_EnumFormat && d->channels)
		return device_result(d, seq, id, start, &b, device_raw_format(d, &b, id), filter);
	if (id != SPA_PARAM_PortConfig || !d->channels)
		return -ENOENT;
	spa_pod_builder_push_object(&b, &frame, SPA_TYPE_OBJECT_ParamPortConfig, id);
	spa_pod_builder_add(&b, SPA_PARAM_PORT_CONFIG_direction, SPA_POD_Id(SPA_DIRECTION_OUTPUT),
			    SPA_PARAM_PORT_CONFIG_mode,
			    SPA_POD_Id(d->ports[0].is_there ? SPA_PARAM_PORT_CONFIG_MODE_dsp : SPA_PARAM_PORT_CONFIG_MODE_none),
			    0);
	if (d->ports[0].is_there) {
		spa_pod_builder_prop(&b, SPA_PARAM_PORT_CONFIG_format, 0);
		device_raw_format(d, &b, SPA_PARAM_Format);
	}
	return device_result(d, seq, id, start, &b, spa_pod_builder_pop(&b, &frame), filter);
}

static inline int device_set_param(void *object, uint32_t id, uint32_t flags, const struct spa_pod *param)
{
	struct device *d = object;
	uint32_t mode = SPA_PARAM_PORT_CONFIG_MODE_none;
	if (id != SPA_PARAM_PortConfig || param == NULL)
		return 0;
	spa_pod_parse_object(param, SPA_TYPE_OBJECT_ParamPortConfig, NULL, SPA_PARAM_PORT_CONFIG_mode, SPA_POD_Id(&mode));
	for (uint32_t i = 0; i < d->n_ports; i++) {
		struct port *p = &d->ports[i];
		bool wanted = mode == SPA_PARAM_PORT_CONFIG_MODE_dsp;
		if (p->kind != PORT_AUDIO || p->is_there == wanted)
			continue;
		p->is_there = wanted;
		if (wanted)
			device_announce_port(d, p);
		else
			spa_node_emit_port_info(&d->hooks, SPA_DIRECTION_OUTPUT, p->id, NULL);
	}
	struct spa_node_info info = SPA_NODE_INFO_INIT();
	d->params[1].flags ^= SPA_PARAM_INFO_SERIAL;
	info.max_output_ports = MAX_PORTS;
	info.params = d->params;
	info.n_params = SPA_N_ELEMENTS(d->params);
	info.change_mask = SPA_NODE_CHANGE_MASK_PARAMS;
	spa_node_emit_info(&d->hooks, &info);
	return 0;
}

static inline int device_port_set_io(void *object, enum spa_direction direction, uint32_t port, uint32_t id, void *area,
				     size_t size)
{
	struct device *d = object;
	struct io_change change = { port, area };
	if (id != SPA_IO_Buffers || port >= d->n_ports)
		return -ENOENT;
	device_hand_over(d, device_do_io, &change, sizeof change);
	return 0;
}

static inline int device_port_enum_params(void *object, int seq, enum spa_direction direction, uint32_t port, uint32_t id,
					  uint32_t start, uint32_t max, const struct spa_pod *filter)
{
	struct device *d = object;
	struct port *p = &d->ports[port];
	uint8_t space[1024];
	struct spa_pod_builder b = SPA_POD_BUILDER_INIT(space, sizeof space);
	struct spa_pod_frame frame;
	struct spa_pod *param;
	if (port >= d->n_ports)
		return -ENOENT;
	switch (id) {
	case SPA_PARAM_Format:
		if (!p->has_format)
			return 0;
		SPA_FALLTHROUGH;
	case SPA_PARAM_EnumFormat:
		spa_pod_builder_push_object(&b, &frame, SPA_TYPE_OBJECT_Format, id);
		if (p->kind == PORT_AUDIO)
			spa_pod_builder_add(&b, SPA_FORMAT_mediaType, SPA_POD_Id(SPA_MEDIA_TYPE_audio),
					    SPA_FORMAT_mediaSubtype, SPA_POD_Id(SPA_MEDIA_SUBTYPE_dsp),
					    SPA_FORMAT_AUDIO_format, SPA_POD_Id(SPA_AUDIO_FORMAT_DSP_F32), 0);
		else
			spa_pod_builder_add(&b, SPA_FORMAT_mediaType, SPA_POD_Id(SPA_MEDIA_TYPE_application),
					    SPA_FORMAT_mediaSubtype, SPA_POD_Id(SPA_MEDIA_SUBTYPE_control), 0);
		if (p->kind == PORT_UMP)
			spa_pod_builder_add(&b, CONTROL_TYPES, SPA_POD_CHOICE_FLAGS_Int(1 << 4), 0);
		else if (p->kind == PORT_MIDI)
			spa_pod_builder_add(&b, CONTROL_TYPES, SPA_POD_CHOICE_FLAGS_Int(1 << SPA_CONTROL_Midi), 0);
		param = spa_pod_builder_pop(&b, &frame);
		break;
	case SPA_PARAM_Buffers:
		param = spa_pod_builder_add_object(&b, SPA_TYPE_OBJECT_ParamBuffers, id,
			SPA_PARAM_BUFFERS_buffers, SPA_POD_CHOICE_RANGE_Int(4, 2, MAX_BUFFERS),
			SPA_PARAM_BUFFERS_blocks, SPA_POD_Int(1),
			SPA_PARAM_BUFFERS_size, SPA_POD_CHOICE_RANGE_Int(p->buffer_bytes, p->least_bytes, INT32_MAX),
			SPA_PARAM_BUFFERS_stride, SPA_POD_Int(p->kind == PORT_AUDIO ? 4 : 1));
		break;
	case SPA_PARAM_IO:
		param = spa_pod_builder_add_object(&b, SPA_TYPE_OBJECT_ParamIO, id,
			SPA_PARAM_IO_id, SPA_POD_Id(SPA_IO_Buffers),
			SPA_PARAM_IO_size, SPA_POD_Int(sizeof(struct spa_io_buffers)));
		break;
	case SPA_PARAM_Latency: {
		/* Events: as a bridge to hardware that is one quantum late by design. Audio: as a converter with a delay. */
		struct spa_latency_info late = SPA_LATENCY_INFO(SPA_DIRECTION_OUTPUT, .min_quantum = 1, .max_quantum = 1);
		if (p->kind == PORT_AUDIO)
			late = SPA_LATENCY_INFO(SPA_DIRECTION_OUTPUT, .min_rate = p->delay, .max_rate = p->delay);
		param = spa_latency_build(&b, id, &late);
		break;
	}
	default:
		return -ENOENT;
	}
	return device_result(d, seq, id, start, &b, param, filter);
}

static inline int device_port_set_param(void *object, enum spa_direction direction, uint32_t port, uint32_t id,
					uint32_t flags, const struct spa_pod *param)
{
	struct device *d = object;
	if (id != SPA_PARAM_Format || port >= d->n_ports)
		return -ENOENT;
	if (flags & SPA_NODE_PARAM_FLAG_TEST_ONLY)
		return 0;
	d->ports[port].has_format = param != NULL;
	device_announce_port(d, &d->ports[port]);
	return 0;
}

struct buffers_change { struct port *port; struct spa_buffer **buffers; uint32_t n; };

static inline int device_do_buffers(struct spa_loop *loop, bool async, uint32_t seq, const void *data, size_t size,
				    void *user)
{
	const struct buffers_change *change = data;
	struct port *p = change->port;
	for (uint32_t i = 0; i < p->n_buffers; i++)
		if (p->buffers[i].mapped)
			munmap(p->buffers[i].data, p->buffers[i].mapped);
	p->n_buffers = p->last = 0;
	for (uint32_t i = 0; i < change->n; i++) {
		struct spa_data *from = &change->buffers[i]->datas[0];
		struct buffer *to = &p->buffers[i];
		*to = (struct buffer){ .buffer = change->buffers[i], .data = from->data };
		if (to->data == NULL) {
			/* Not the whole page, where it doesn't begin with one: PipeWire aligns what it shares. */
			to->mapped = from->maxsize;
			to->data = mmap(NULL, to->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, from->fd, from->mapoffset);
			if (to->data == MAP_FAILED)
				return -errno;
		}
		p->n_buffers++;
	}
	return 0;
}

static inline int device_port_use_buffers(void *object, enum spa_direction direction, uint32_t port, uint32_t flags,
					  struct spa_buffer **buffers, uint32_t n_buffers)
{
	struct device *d = object;
	struct buffers_change change = { &d->ports[port], buffers, n_buffers };
	if (port >= d->n_ports || n_buffers > MAX_BUFFERS)
		return -ENOSPC;
	return pw_data_loop_invoke(d->client.data_loop, device_do_buffers, 1, &change, sizeof change, true, d);
}

static inline int device_port_reuse_buffer(void *object, uint32_t port, uint32_t buffer)
{
	return 0;
}

static const struct spa_node_methods device_methods = {
	SPA_VERSION_NODE_METHODS,
	.add_listener = device_add_listener,
	.set_callbacks = device_set_callbacks,
	.enum_params = device_enum_params,
	.set_param = device_set_param,
	.set_io = device_set_io,
	.send_command = device_send_command,
	.port_enum_params = device_port_enum_params,
	.port_set_param = device_port_set_param,
	.port_use_buffers = device_port_use_buffers,
	.port_set_io = device_port_set_io,
	.port_reuse_buffer = device_port_reuse_buffer,
	.process = device_process,
};

static inline struct port *device_add_port(struct device *d, enum port_kind kind, uint32_t least_bytes,
					   uint32_t buffer_bytes)
{
	struct port *p = &d->ports[d->n_ports];
	uint32_t n_items = 0;
	*p = (struct port){ .kind = kind, .id = d->n_ports++, .least_bytes = least_bytes, .buffer_bytes = buffer_bytes,
			    .is_there = kind != PORT_AUDIO };
	p->params[0] = SPA_PARAM_INFO(SPA_PARAM_EnumFormat, SPA_PARAM_INFO_READ);
	p->params[1] = SPA_PARAM_INFO(SPA_PARAM_Format, SPA_PARAM_INFO_WRITE);
	p->params[2] = SPA_PARAM_INFO(SPA_PARAM_Buffers, 0);
	p->params[3] = SPA_PARAM_INFO(SPA_PARAM_IO, SPA_PARAM_INFO_READ);
	p->params[4] = SPA_PARAM_INFO(SPA_PARAM_Latency, SPA_PARAM_INFO_READ);
	p->items[n_items++] = SPA_DICT_ITEM_INIT(PW_KEY_FORMAT_DSP, port_formats[kind]);
	if (kind == PORT_AUDIO) {
		struct spa_audio_info_raw info = { 0 };
		client_set_channels(&info, d->channels);
		p->channel = p->id;
		const char *type = spa_debug_type_find_short_name(spa_type_audio_channel, info.position[p->channel]);
		snprintf(p->name, sizeof p->name, "capture_%s", type);
		p->items[n_items++] = SPA_DICT_ITEM_INIT(PW_KEY_AUDIO_CHANNEL, type);
		p->items[n_items++] = SPA_DICT_ITEM_INIT(PW_KEY_PORT_NAME, p->name);
	}
	p->props = SPA_DICT_INIT(p->items, n_items);
	p->info = SPA_PORT_INFO_INIT();
	p->info.flags = SPA_PORT_FLAG_LIVE | SPA_PORT_FLAG_PHYSICAL | SPA_PORT_FLAG_TERMINAL;
	p->info.props = &p->props;
	p->info.params = p->params;
	p->info.n_params = SPA_N_ELEMENTS(p->params);
	return p;
}

static inline void device_on_global(void *data, uint32_t id, uint32_t permissions, const char *type, uint32_t version,
				    const struct spa_dict *props)
{
	struct device *d = data;
	const char *owner = props ? spa_dict_lookup(props, PW_KEY_NODE_ID) : NULL;
	if (spa_streq(type, PW_TYPE_INTERFACE_Port) && owner && strtoul(owner, NULL, 10) == d->node_id &&
	    ++d->n_seen == d->n_ports)
		printf("{\"event\": \"ready\", \"node_id\": %u, \"ports\": %u}\n", d->node_id, d->n_ports);
}

static const struct pw_registry_events device_registry_events = {
	PW_VERSION_REGISTRY_EVENTS,
	.global = device_on_global,
};

static inline void device_on_bound(void *data, uint32_t global_id)
{
	struct device *d = data;
	d->node_id = global_id;
	printf("{\"event\": \"node\", \"node_id\": %u}\n", global_id);
	d->registry = pw_core_get_registry(d->client.core, PW_VERSION_REGISTRY, 0);
	pw_registry_add_listener(d->registry, &d->registry_hook, &device_registry_events, d);
}

static inline void device_on_proxy_error(void *data, int seq, int res, const char *message)
{
	device_fail(data, message);
}

static const struct pw_proxy_events device_proxy_events = {
	PW_VERSION_PROXY_EVENTS,
	.bound = device_on_bound,
	.error = device_on_proxy_error,
};

static inline void device_on_core_error(void *data, uint32_t id, int seq, int res, const char *message)
{
	if (id == PW_ID_CORE && res == -EPIPE)
		device_fail(data, "PipeWire is gone");
}

static const struct pw_core_events device_core_events = {
	PW_VERSION_CORE_EVENTS,
	.error = device_on_core_error,
};

/* "delay CHANNEL FRAMES": from now on that port says that it is so late. False of any other command. */
static inline bool device_delay(struct device *d, const char *command)
{
	uint32_t channel;
	int32_t frames;
	if (sscanf(command, "delay %" SCNu32 " %" SCNd32, &channel, &frames) != 2 || channel >= d->n_ports)
		return false;
	d->ports[channel].delay = frames;
	/* libpipewire 0.3.65 tells what it had read before, and reads anew afterwards. */
	for (int i = 0; i < 2 && d->ports[channel].is_there; i++)
		device_announce_port(d, &d->ports[channel]);
	printf("{\"event\": \"delayed\"}\n");
	return true;
}

static inline void device_on_stdin(void *data, int fd, uint32_t mask)
{
	struct device *d = data;
	struct command command = { 0 };
	ssize_t n = read(fd, d->line + d->line_length, sizeof d->line - 1 - d->line_length);
	if (n <= 0) {
		pw_loop_update_io(d->client.loop, d->input, 0);
		return;
	}
	d->line_length += n;
	d->line[d->line_length] = '\0';
	for (char *end; (end = strchr(d->line, '\n')) != NULL;) {
		size_t length = end - d->line;
		snprintf(command.text, sizeof command.text, "%.*s", (int)length, d->line);
		if (!device_delay(d, command.text))
			device_hand_over(d, device_do_command, &command, sizeof command);
		d->line_length -= length + 1;
		memmove(d->line, end + 1, d->line_length + 1);
	}
	if (d->line_length == sizeof d->line - 1)
		d->line_length = 0;
}

static inline struct pw_properties *device_properties(const char *media_class, const char *media_type, const char *name)
{
	return pw_properties_new(PW_KEY_MEDIA_CLASS, media_class, PW_KEY_MEDIA_TYPE, media_type, PW_KEY_MEDIA_CATEGORY,
				 "Capture", PW_KEY_NODE_NAME, name, PW_KEY_NODE_DESCRIPTION, name, PW_KEY_NODE_DRIVER, "true",
				 PW_KEY_PRIORITY_DRIVER, "40000", NULL);
}

static inline void device_name(struct pw_properties *props, const char *name)
{
	pw_properties_set(props, PW_KEY_NODE_NAME, name);
	pw_properties_set(props, PW_KEY_NODE_DESCRIPTION, name);
}

/* KEY=VALUE; false where it isn't that. */
static inline bool device_property(struct pw_properties *props, char *text)
{
	char *equals = strchr(text, '=');
	if (equals == NULL)
		return false;
	*equals = '\0';
	pw_properties_set(props, text, equals + 1);
	return true;
}

#define DEVICE_OPTIONS \
	{ "name", required_argument, NULL, 'n' }, { "channels", required_argument, NULL, 'c' }, \
	{ "rate", required_argument, NULL, 'r' }, { "start", required_argument, NULL, 'S' }, \
	{ "speed", required_argument, NULL, 's' }, { "patience-ms", required_argument, NULL, 'P' }, \
	{ "property", required_argument, NULL, 'p' }, { "hold", no_argument, NULL, 'H' }, \
	{ "help", no_argument, NULL, 'h' }

/* Takes one of DEVICE_OPTIONS; false for any other, and for a property without "=". */
static inline bool device_option(struct device *d, struct pw_properties *props, int option, char *value)
{
	switch (option) {
	case 'n': device_name(props, value); return true;
	case 'c': d->channels = strtoul(value, NULL, 10); return true;
	case 'r': d->rate = strtoul(value, NULL, 10); return true;
	case 'S': d->position = strtoull(value, NULL, 10); return true;
	case 's': d->speed = strtod(value, NULL); return true;
	case 'P': d->patience_ns = strtoll(value, NULL, 10) * SPA_NSEC_PER_MSEC; return true;
	case 'p': return device_property(props, value);
	case 'H': d->held = true; return true;
	default: return false;
	}
}

struct timer_wish { spa_source_timer_func_t on_timer; struct spa_source *timer; };

static inline int device_do_add_timer(struct spa_loop *loop, bool async, uint32_t seq, const void *data, size_t size,
				      void *user)
{
	struct timer_wish *wish = *(struct timer_wish *const *)data;
	wish->timer = pw_loop_add_timer(pw_data_loop_get_loop(((struct device *)user)->client.data_loop), wish->on_timer, user);
	return 0;
}

/* A timer of the data thread. */
static inline struct spa_source *device_add_timer(struct device *d, spa_source_timer_func_t on_timer)
{
	struct timer_wish wish = { on_timer, NULL }, *place = &wish;
	device_hand_over(d, device_do_add_timer, &place, sizeof place);
	return wish.timer;
}

/* Connects, and ends the program where it can't. */
static inline void device_open(struct device *d)
{
	client_open(&d->client);
	if (!client_connect(&d->client)) {
		device_fail(d, "PipeWire is not reachable");
		exit(1);
	}
	pw_core_add_listener(d->client.core, &d->core_hook, &device_core_events, d);
	d->timer = device_add_timer(d, device_on_timer);
}

/* Runs until it is told to end; its ports must be added by now. Takes the properties over. */
static inline int device_run(struct device *d, struct pw_properties *props)
{
	d->input = pw_loop_add_io(d->client.loop, STDIN_FILENO, SPA_IO_IN, false, device_on_stdin, d);
	spa_hook_list_init(&d->hooks);
	d->params[0] = SPA_PARAM_INFO(SPA_PARAM_EnumFormat, SPA_PARAM_INFO_READ);
	d->params[1] = SPA_PARAM_INFO(SPA_PARAM_PortConfig, SPA_PARAM_INFO_READWRITE);
	d->node.iface = SPA_INTERFACE_INIT(SPA_TYPE_INTERFACE_Node, SPA_VERSION_NODE, &device_methods, d);
	d->proxy = pw_core_export(d->client.core, SPA_TYPE_INTERFACE_Node, &props->dict, &d->node, 0);
	pw_properties_free(props);
	if (d->proxy == NULL)
		device_fail(d, "the node was refused");
	else {
		pw_proxy_add_listener(d->proxy, &d->proxy_hook, &device_proxy_events, d);
		pw_main_loop_run(d->client.main_loop);
	}
	bool stop = false;
	device_hand_over(d, device_do_start, &stop, sizeof stop);
	printf("{\"event\": \"stopped\", \"cycles\": %" PRIu64 ", \"first\": %" PRIu64 ", \"end\": %" PRIu64 "}\n",
	       d->n_cycles, d->first, d->position + d->stood + d->duration);
	if (d->registry != NULL)
		pw_proxy_destroy((struct pw_proxy *)d->registry);
	if (d->proxy != NULL)
		pw_proxy_destroy(d->proxy);
	client_close(&d->client);
	return d->exit_code;
}
