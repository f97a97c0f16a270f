/* counting-source: a microphone whose every frame carries its own number.
 *
 * It shows up as an ordinary Audio/Source with N output ports. The number of a frame is the position of the
 * graph's clock (frame i of a cycle is clock.position + i), so that frames that were lost, doubled, moved or
 * taken from another source are seen exactly. How a number becomes samples stands in numbers.h and in
 * counting.py, which decodes them; the two must agree.
 *
 * With --driver it drives the graph itself, as a sound card does: the frames are there before any other node of
 * the cycle runs, so what a follower misses was lost by the follower. A new cycle begins no sooner than --speed
 * allows and when all followers have finished the last, or --patience-ms after it began; without a limit to the
 * patience no cycle can be missed. With --catch-up one that was late runs up to a second of cycles at once, as a sound
 * card's whose buffer has filled meanwhile. While links are being made PipeWire may run a cycle without some of the
 * followers; so the first one waits a little (--settle-ms), or for SIGUSR1 (--hold). SIGUSR2 holds it again.
 *
 * One JSON object per line on stdout:
 *   {"event": "node", "node_id": N}                     the node exists; without a session manager that is all
 *   {"event": "ready", "node_id": N, "ports": N}        all ports are there and can be linked
 *   {"event": "streaming"}, {"event": "paused"}         it runs or doesn't
 *   {"event": "held"}                                   after SIGUSR2: no cycle is under way, and none begins
 *   {"event": "error", "message": "..."}                the end, exit code 1
 *   {"event": "stopped", "cycles": N, "frames": N, "no_buffer": N, "first": N, "end": N}
 *                                                       counted in process callbacks; numbers of the first frame
 *                                                       and behind the last
 * SIGTERM and SIGINT end it with exit code 0.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pipewire/impl.h>
#include <pipewire/pipewire.h>
#include <spa/param/audio/format-utils.h>
#include <spa/param/buffers.h>

#include "client.h"
#include "numbers.h"

#define MAX_FRAMES 8192

struct source {
	uint32_t channels, rate, id;
	bool driver, held, tell_held, catches_up;
	double speed;
	int64_t patience_ns, settle_ns;

	struct client client;
	struct pw_stream *stream;
	struct pw_registry *registry;
	struct spa_hook core_hook, stream_hook, registry_hook;
	struct spa_source *timer;
	bool streaming, in_cycle;
	uint64_t served;
	int64_t due_ns;
	struct spa_io_rate_match *rate_match;
	uint32_t n_ports;
	int exit_code;

	/* the data thread's own; others reach it only through pw_data_loop_invoke */
	uint32_t masks[MAX_CHANNELS / 2];
	uint64_t cycle, next, first, duration;
	_Atomic uint64_t n_cycles;
	uint64_t n_no_buffer, n_frames;
};

static int64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return SPA_TIMESPEC_TO_NSEC(&ts);
}

static void fill(const struct source *s, struct spa_buffer *buffer, uint64_t first, uint32_t n)
{
	for (uint32_t c = 0; c < s->channels; c++)
		numbers_fill(buffer->datas[c].data, c, s->channels, s->masks[c / 2], first, n);
}

/* As driver the clock is ours: it moves on by the cycle that was, which may have had another length. */
static void advance_clock(struct source *s)
{
	struct spa_io_clock *clock = &s->client.position->clock;
	clock->nsec = now_ns();		/* before the position, as PipeWire's own drivers do */
	clock->next_nsec = clock->nsec + clock->duration * SPA_NSEC_PER_SEC / clock->rate.denom;
	__atomic_store_n(&clock->position, clock->position + (s->duration ? s->duration : clock->duration),
			 __ATOMIC_RELEASE);
	s->duration = clock->duration;
	clock->rate_diff = 1.0;
	clock->delay = 0;
}

static void on_process(void *data)
{
	struct source *s = data;
	struct spa_io_position *position = s->client.position;
	if (position == NULL)
		return;
	if (s->driver && pw_stream_is_driving(s->stream))
		advance_clock(s);

	struct pw_buffer *b = pw_stream_dequeue_buffer(s->stream);
	if (b == NULL) {
		s->n_no_buffer++;
		return;
	}
	const struct spa_io_clock *clock = &position->clock;
	if (clock->position != s->cycle || s->n_cycles == 0) {
		s->cycle = clock->position;
		s->next = clock->position;
		if (s->n_cycles == 0)
			s->first = clock->position;
		s->n_cycles++;
	}
	/* A device at another rate than the graph's is resampled: there the adapter says how much it takes. */
	uint64_t n = clock->rate.denom == s->rate ? s->cycle + clock->duration - s->next : b->requested;
	n = SPA_MIN(n, b->buffer->datas[0].maxsize / sizeof(float));
	fill(s, b->buffer, s->next, n);
	for (uint32_t c = 0; c < s->channels; c++)
		*b->buffer->datas[c].chunk =
			(struct spa_chunk){ .offset = 0, .size = n * sizeof(float), .stride = sizeof(float) };
	s->next += n;
	s->n_frames += n;
	pw_stream_queue_buffer(s->stream, b);
}

static void on_io_changed(void *data, uint32_t id, void *area, uint32_t size)
{
	struct source *s = data;
	if (id == SPA_IO_RateMatch)
		s->rate_match = area;
	client_io_changed(&s->client, id, area);
}

static void arm_timer(struct source *s, int64_t at_ns)
{
	struct timespec at = { at_ns / SPA_NSEC_PER_SEC, at_ns % SPA_NSEC_PER_SEC };
	pw_loop_update_timer(s->client.loop, s->timer, at_ns ? &at : NULL, NULL, true);
}

/* Between two cycles, held: nothing of ours runs until SIGUSR1. */
static bool rests(struct source *s)
{
	if (s->held && s->tell_held)
		printf("{\"event\": \"held\"}\n");
	s->tell_held = false;
	return s->held;
}

static void begin_cycle(struct source *s)
{
	const struct spa_io_position *position = s->client.position;
	if (rests(s) || !s->streaming || position == NULL || !pw_stream_is_driving(s->stream))
		return;
	int64_t now = now_ns();
	s->in_cycle = true;
	s->due_ns = s->speed > 0 ? SPA_MAX(s->due_ns, now - (s->catches_up ? (int64_t)SPA_NSEC_PER_SEC : 0)) +
		(int64_t)(1e9 * position->clock.duration / (s->rate * s->speed)) : 0;
	s->served = s->n_cycles;
	arm_timer(s, s->patience_ns < 0 ? 0 : SPA_MAX(s->due_ns, now + s->patience_ns + 1));
	/* Before its first run the adapter would ask for nothing, and the cycle go by without frames. */
	if (s->rate_match && s->rate_match->size == 0)
		s->rate_match->size = position->clock.duration;
	pw_stream_trigger_process(s->stream);
}

/* A cycle that didn't ask us for frames reports twice that it is done: let both pass, and try again. */
static void on_trigger_done(void *data)
{
	struct source *s = data;
	if (!s->in_cycle)
		return;
	s->in_cycle = false;
	if (rests(s))
		return;
	if (s->served == s->n_cycles)
		arm_timer(s, now_ns() + s->settle_ns);
	else if (s->due_ns > now_ns())
		arm_timer(s, s->due_ns);
	else
		begin_cycle(s);
}

static void on_timer(void *data, uint64_t expirations)
{
	begin_cycle(data);
}

static void on_hold(void *data, int signal_number)
{
	struct source *s = data;
	s->held = s->tell_held = true;
	if (!s->in_cycle)
		rests(s);
}

static void on_begin(void *data, int signal_number)
{
	struct source *s = data;
	bool held = s->held;
	s->held = false;
	s->due_ns = SPA_MAX(s->due_ns, now_ns());	/* it makes up for no time that it was held */
	if (held)
		begin_cycle(s);
}

static void on_registry_global(void *data, uint32_t id, uint32_t permissions, const char *type, uint32_t version,
			       const struct spa_dict *props)
{
	struct source *s = data;
	uint32_t node_id = pw_stream_get_node_id(s->stream);
	const char *owner = props ? spa_dict_lookup(props, PW_KEY_NODE_ID) : NULL;
	const char *direction = props ? spa_dict_lookup(props, PW_KEY_PORT_DIRECTION) : NULL;
	if (!spa_streq(type, PW_TYPE_INTERFACE_Port) || !owner || !spa_streq(direction, "out"))
		return;
	if (strtoul(owner, NULL, 10) != node_id || ++s->n_ports != s->channels)
		return;
	printf("{\"event\": \"ready\", \"node_id\": %u, \"ports\": %u}\n", node_id, s->n_ports);
}

static const struct pw_registry_events registry_events = {
	PW_VERSION_REGISTRY_EVENTS,
	.global = on_registry_global,
};

static void fail(struct source *s, const char *message)
{
	printf("{\"event\": \"error\", \"message\": \"%s\"}\n", message ? message : "unknown");
	s->exit_code = 1;
	pw_main_loop_quit(s->client.main_loop);
}

static void on_state_changed(void *data, enum pw_stream_state old, enum pw_stream_state state, const char *error)
{
	struct source *s = data;
	s->streaming = state == PW_STREAM_STATE_STREAMING;
	switch (state) {
	case PW_STREAM_STATE_ERROR:
		fail(s, error);
		break;
	case PW_STREAM_STATE_PAUSED:
		if (s->registry != NULL) {
			printf("{\"event\": \"paused\"}\n");
			break;
		}
		printf("{\"event\": \"node\", \"node_id\": %u}\n", pw_stream_get_node_id(s->stream));
		s->registry = pw_core_get_registry(s->client.core, PW_VERSION_REGISTRY, 0);
		pw_registry_add_listener(s->registry, &s->registry_hook, &registry_events, s);
		break;
	case PW_STREAM_STATE_STREAMING:
		printf("{\"event\": \"streaming\"}\n");
		s->due_ns = now_ns() + s->settle_ns;	/* nor that it didn't run */
		if (s->driver)
			arm_timer(s, s->due_ns);
		break;
	default:
		break;
	}
}

static const struct pw_stream_events stream_events = {
	PW_VERSION_STREAM_EVENTS,
	.state_changed = on_state_changed,
	.io_changed = on_io_changed,
	.process = on_process,
	.trigger_done = on_trigger_done,
};

static void on_core_error(void *data, uint32_t id, int seq, int res, const char *message)
{
	if (id == PW_ID_CORE && res == -EPIPE)
		fail(data, "PipeWire is gone");
}

static const struct pw_core_events core_events = {
	PW_VERSION_CORE_EVENTS,
	.error = on_core_error,
};

static int connect_stream(struct source *s)
{
	uint8_t space[2048];
	struct spa_pod_builder builder = SPA_POD_BUILDER_INIT(space, sizeof space);
	const struct spa_pod *params[2];
	struct spa_audio_info_raw info = { .format = SPA_AUDIO_FORMAT_F32P, .rate = s->rate };
	client_set_channels(&info, s->channels);
	params[0] = spa_format_audio_raw_build(&builder, SPA_PARAM_EnumFormat, &info);
	params[1] = spa_pod_builder_add_object(&builder,
		SPA_TYPE_OBJECT_ParamBuffers, SPA_PARAM_Buffers,
		SPA_PARAM_BUFFERS_buffers, SPA_POD_Int(4),
		SPA_PARAM_BUFFERS_blocks, SPA_POD_Int(s->channels),
		SPA_PARAM_BUFFERS_size, SPA_POD_Int(MAX_FRAMES * sizeof(float)),
		SPA_PARAM_BUFFERS_stride, SPA_POD_Int(sizeof(float)));
	enum pw_stream_flags flags = PW_STREAM_FLAG_MAP_BUFFERS | PW_STREAM_FLAG_RT_PROCESS;
	if (s->driver)
		flags |= PW_STREAM_FLAG_DRIVER;
	return pw_stream_connect(s->stream, PW_DIRECTION_OUTPUT, PW_ID_ANY, flags, params, 2);
}

static void usage(FILE *to)
{
	fputs("usage: counting-source [options]\n"
	      "  --name NAME            node.name (counting-source)\n"
	      "  --description TEXT     node.description (the name)\n"
	      "  --channels N           1 to 64 (2)\n"
	      "  --rate HZ              the rate it announces (48000)\n"
	      "  --id N                 what tells its frames from another source's (0)\n"
	      "  --property KEY=VALUE   any further node property; may be repeated\n"
	      "  --driver               drive the graph\n"
	      "  --speed X              --driver: at most X times real time, 0 for as fast as it goes (1)\n"
	      "  --settle-ms N          --driver: wait so long from being started to the first cycle (100)\n"
	      "  --hold                 --driver: no cycle before SIGUSR1\n"
	      "  --patience-ms N        --driver: wait for followers no longer than this (for ever)\n"
	      "  --catch-up             --driver: make up for time that it was late\n", to);
}

static int parse(struct source *s, struct pw_properties *props, int argc, char *argv[])
{
	static const struct option options[] = {
		{ "name", required_argument, NULL, 'n' },     { "description", required_argument, NULL, 'd' },
		{ "channels", required_argument, NULL, 'c' }, { "rate", required_argument, NULL, 'r' },
		{ "id", required_argument, NULL, 'i' },       { "property", required_argument, NULL, 'p' },
		{ "driver", no_argument, NULL, 'D' },         { "speed", required_argument, NULL, 's' },
		{ "patience-ms", required_argument, NULL, 'P' }, { "settle-ms", required_argument, NULL, 'S' },
		{ "hold", no_argument, NULL, 'H' },           { "catch-up", no_argument, NULL, 'C' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;
	char *equals;
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'n': pw_properties_set(props, PW_KEY_NODE_NAME, optarg); break;
		case 'd': pw_properties_set(props, PW_KEY_NODE_DESCRIPTION, optarg); break;
		case 'c': s->channels = strtoul(optarg, NULL, 10); break;
		case 'r': s->rate = strtoul(optarg, NULL, 10); break;
		case 'i': s->id = strtoul(optarg, NULL, 10); break;
		case 'p':
			if ((equals = strchr(optarg, '=')) == NULL)
				return -1;
			*equals = '\0';
			pw_properties_set(props, optarg, equals + 1);
			break;
		case 'D': s->driver = true; break;
		case 'H': s->held = true; break;
		case 'C': s->catches_up = true; break;
		case 'S': s->settle_ns = strtoll(optarg, NULL, 10) * SPA_NSEC_PER_MSEC; break;
		case 'P': s->patience_ns = strtoll(optarg, NULL, 10) * SPA_NSEC_PER_MSEC; break;
		case 's': s->speed = strtod(optarg, NULL); break;
		case 'h': usage(stdout); exit(0);
		default: return -1;
		}
	}
	if (optind != argc || s->channels < 1 || s->channels > MAX_CHANNELS || s->rate < 1 ||
	    s->speed < 0)
		return -1;
	if (pw_properties_get(props, PW_KEY_NODE_DESCRIPTION) == NULL)
		pw_properties_set(props, PW_KEY_NODE_DESCRIPTION, pw_properties_get(props, PW_KEY_NODE_NAME));
	return 0;
}

int main(int argc, char *argv[])
{
	struct source s = { .channels = 2, .rate = 48000, .speed = 1, .patience_ns = -1,
			    .settle_ns = 100 * SPA_NSEC_PER_MSEC };
	setvbuf(stdout, NULL, _IOLBF, 0);
	pw_init(&argc, &argv);

	struct pw_properties *props = pw_properties_new(
		PW_KEY_MEDIA_CLASS, "Audio/Source", PW_KEY_MEDIA_TYPE, "Audio", PW_KEY_MEDIA_CATEGORY, "Capture",
		PW_KEY_NODE_NAME, "counting-source", NULL);
	if (parse(&s, props, argc, argv) < 0) {
		usage(stderr);
		return 2;
	}
	for (uint32_t pair = 0; pair < MAX_CHANNELS / 2; pair++)
		s.masks[pair] = numbers_mask(s.id, pair);

	if (s.driver && pw_properties_get(props, PW_KEY_PRIORITY_DRIVER) == NULL)
		pw_properties_set(props, PW_KEY_PRIORITY_DRIVER, "40000");
	if (pw_properties_get(props, "zeroramp.duration") == NULL)
		pw_properties_set(props, "zeroramp.duration", "0"); /* from 1.7 on a stream fades when it pauses */

	client_open(&s.client);
	pw_loop_add_signal(s.client.loop, SIGUSR1, on_begin, &s);
	pw_loop_add_signal(s.client.loop, SIGUSR2, on_hold, &s);
	s.timer = pw_loop_add_timer(s.client.loop, on_timer, &s);
	if (!client_connect(&s.client)) {
		pw_properties_free(props);
		fail(&s, "PipeWire is not reachable");
		goto out;
	}
	pw_core_add_listener(s.client.core, &s.core_hook, &core_events, &s);
	s.stream = pw_stream_new(s.client.core, "counting source", props);
	pw_stream_add_listener(s.stream, &s.stream_hook, &stream_events, &s);
	if (connect_stream(&s) < 0)
		fail(&s, "the stream was refused");
	else
		pw_main_loop_run(s.client.main_loop);

	if (s.registry != NULL)
		pw_proxy_destroy((struct pw_proxy *)s.registry);
	pw_stream_destroy(s.stream);
	printf("{\"event\": \"stopped\", \"cycles\": %" PRIu64 ", \"frames\": %" PRIu64 ", \"no_buffer\": %" PRIu64
	       ", \"first\": %" PRIu64 ", \"end\": %" PRIu64 "}\n",
	       s.n_cycles, s.n_frames, s.n_no_buffer, s.first, s.next);
out:
	client_close(&s.client);
	pw_deinit();
	return s.exit_code;
}
