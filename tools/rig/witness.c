/* witness: writes down all that the graph shows to a client's ports, cycle by cycle, and believes nothing of it.
 *
 *   witness [--linger-ms N] NAME FILE KIND...
 *
 * A pw_filter of that node.name with an input port for each KIND: audio, or what format.dsp says for events: midi, control, ump.
 * Somebody else links them. It begins with the first cycle in which each port has something: audio that is not flagged
 * empty, at least one event; before that PipeWire is still making links. Each cycle from there on is written to FILE as
 * it was found, in 64 bits and little endian:
 *   position, duration, nsec, clock.xrun, (clock.flags << 32 | clock.id), bytes of this record
 *   and for each port: (chunk.offset << 32 | chunk.size), (maxsize << 32 | chunk.flags), bytes kept, the bytes (filled up
 *   to a multiple of 8). Where the port had no buffer, maxsize is 0.
 * Of a chunk that lies outside its buffer the part inside is kept. With --linger-ms the callback waits so long before it
 * looks at the buffers.
 *
 * One JSON object per line on stdout:
 *   {"event": "ready"}                                the ports are there
 *   {"event": "seeing"}                               it has begun
 *   {"event": "done", "cycles": N, "bytes": N, "full": false}   at SIGTERM or SIGINT; full: FILE_BYTES did not suffice
 * Exit codes: 0, 1 failed, 2 usage.
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <pipewire/filter.h>
#include <spa/param/param.h>
#include <spa/pod/builder.h>
#include <spa/pod/pod.h>

#include "client.h"

#define FILE_BYTES (256ull << 20)
#define MAX_PORTS 65
#define CYCLE_WORDS 6
#define PORT_WORDS 3
#define EVENT_BYTES 65536

struct witness {
	struct client client;
	struct pw_filter *filter;
	void *ports[MAX_PORTS];
	bool is_audio[MAX_PORTS];
	uint32_t n_ports;
	int64_t linger_ns;
	uint64_t *file;
	bool is_ready;
	struct spa_source *first;
	int exit_code;

	/* the data thread's */
	uint64_t n_cycles, n_bytes;
	bool full, sees;
};

static uint64_t xrun_of(const struct spa_io_clock *clock)
{
	uint64_t xrun;
	/* It came after 0.3.65, into what was padding there. */
	memcpy(&xrun, SPA_PTROFF(&clock->next_nsec, 32, void), sizeof xrun);
	return xrun;
}

static void on_process(void *data, struct spa_io_position *position)
{
	struct witness *w = data;
	const struct spa_io_clock *clock = &position->clock;
	uint64_t *record = w->file + w->n_bytes / 8, *at = record;
	bool whole = true;
	*at++ = clock->position;
	*at++ = clock->duration;
	*at++ = clock->nsec;
	*at++ = xrun_of(clock);
	*at++ = (uint64_t)clock->flags << 32 | clock->id;
	at++;
	if (w->linger_ns)
		nanosleep(&(struct timespec){ w->linger_ns / SPA_NSEC_PER_SEC, w->linger_ns % SPA_NSEC_PER_SEC }, NULL);
	for (uint32_t i = 0; i < w->n_ports; i++) {
		struct pw_buffer *b = pw_filter_dequeue_buffer(w->ports[i]);
		struct spa_data d = b ? b->buffer->datas[0] : (struct spa_data){ 0 };
		struct spa_chunk chunk = d.chunk ? *d.chunk : (struct spa_chunk){ 0 };
		uint32_t room = d.data ? d.maxsize : 0;
		uint32_t offset = SPA_MIN(chunk.offset, room), kept = SPA_MIN(chunk.size, room - offset);
		whole &= w->is_audio[i] ? room > 0 && !(chunk.flags & SPA_CHUNK_FLAG_EMPTY)
					: kept > sizeof(struct spa_pod_sequence);
		w->full |= (uint64_t)(at - w->file + PORT_WORDS + 1 + CYCLE_WORDS) * 8 + kept > FILE_BYTES;
		if (!w->full) {
			*at++ = (uint64_t)chunk.offset << 32 | chunk.size;
			*at++ = (uint64_t)room << 32 | (uint32_t)chunk.flags;
			*at++ = kept;
			memcpy(at, SPA_PTROFF(d.data, offset, void), kept);
			at += (kept + 7) / 8;
		}
		if (b)
			pw_filter_queue_buffer(w->ports[i], b);
	}
	if (w->full || !(w->sees || whole))
		return;
	if (!w->sees)
		pw_loop_signal_event(w->client.loop, w->first);
	w->sees = true;
	record[CYCLE_WORDS - 1] = (at - record) * 8;
	w->n_bytes += (at - record) * 8;
	w->n_cycles++;
}

static void on_state_changed(void *data, enum pw_filter_state old, enum pw_filter_state state, const char *error)
{
	struct witness *w = data;
	if (state == PW_FILTER_STATE_PAUSED && !w->is_ready) {
		w->is_ready = true;
		printf("{\"event\": \"ready\"}\n");
	}
	if (state == PW_FILTER_STATE_ERROR || (state == PW_FILTER_STATE_UNCONNECTED && w->is_ready)) {
		w->exit_code = 1;
		pw_main_loop_quit(w->client.main_loop);
	}
}

static void on_seeing(void *data, uint64_t count)
{
	printf("{\"event\": \"seeing\"}\n");
}

static const struct pw_filter_events filter_events = {
	PW_VERSION_FILTER_EVENTS,
	.state_changed = on_state_changed,
	.process = on_process,
};

static bool add_port(struct witness *w, const char *kind)
{
	static const char *const formats[][2] = {
		{ "audio", "32 bit float mono audio" }, { "midi", "8 bit raw midi" }, { "control", "8 bit raw control" },
		{ "ump", "32 bit raw UMP" },
	};
	const char *format = NULL;
	char name[16];
	uint8_t space[256];
	struct spa_pod_builder b = SPA_POD_BUILDER_INIT(space, sizeof space);
	for (size_t i = 0; i < SPA_N_ELEMENTS(formats); i++)
		if (spa_streq(kind, formats[i][0]))
			format = formats[i][1];
	if (format == NULL || w->n_ports == MAX_PORTS)
		return false;
	snprintf(name, sizeof name, "in_%u", w->n_ports + 1);
	void *port = pw_filter_add_port(w->filter, PW_DIRECTION_INPUT, PW_FILTER_PORT_FLAG_MAP_BUFFERS, 1,
		pw_properties_new(PW_KEY_FORMAT_DSP, format, PW_KEY_PORT_NAME, name, NULL), NULL, 0);
	const struct spa_pod *params[] = { spa_pod_builder_add_object(&b,
		SPA_TYPE_OBJECT_ParamBuffers, SPA_PARAM_Buffers,
		SPA_PARAM_BUFFERS_size, SPA_POD_CHOICE_RANGE_Int(EVENT_BYTES, EVENT_BYTES, INT32_MAX)) };
	w->is_audio[w->n_ports] = spa_streq(kind, "audio");
	w->ports[w->n_ports++] = port;
	return port != NULL && (spa_streq(kind, "audio") || pw_filter_update_params(w->filter, port, params, 1) >= 0);
}

static bool reserve(struct witness *w, const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, FILE_BYTES) < 0)
		return false;
	w->file = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return w->file != MAP_FAILED;
}

int main(int argc, char *argv[])
{
	static const struct option options[] = { { "linger-ms", required_argument, NULL, 'l' }, { 0 } };
	struct witness w = { 0 };
	int c;
	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (c == 'l')
			w.linger_ns = strtoll(optarg, NULL, 10) * SPA_NSEC_PER_MSEC;
		else
			goto usage;
	if (argc - optind < 3)
		goto usage;
	if (!reserve(&w, argv[optind + 1])) {
		perror("witness: no room for what it sees");
		return 1;
	}
	pw_init(NULL, NULL);
	client_open(&w.client);
	w.first = pw_loop_add_event(w.client.loop, on_seeing, &w);
	if (!client_connect(&w.client)) {
		fputs("witness: PipeWire is not reachable\n", stderr);
		client_close(&w.client);
		return 1;
	}
	struct spa_hook hook = { 0 };
	/* PipeWire's own fades, where it has them, would be heard as the device's. */
	w.filter = pw_filter_new(w.client.core, "witness", pw_properties_new(
		PW_KEY_NODE_NAME, argv[optind], PW_KEY_NODE_AUTOCONNECT, "false", "zeroramp.duration", "0", NULL));
	pw_filter_add_listener(w.filter, &hook, &filter_events, &w);
	if (pw_filter_connect(w.filter, PW_FILTER_FLAG_RT_PROCESS, NULL, 0) < 0)
		w.exit_code = 1;
	for (int i = optind + 2; i < argc; i++)
		if (!add_port(&w, argv[i]))
			w.exit_code = 1;
	if (w.exit_code == 0)
		pw_main_loop_run(w.client.main_loop);
	spa_hook_remove(&hook);
	pw_filter_destroy(w.filter);
	printf("{\"event\": \"done\", \"cycles\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"full\": %s}\n", w.n_cycles,
	       w.n_bytes, w.full ? "true" : "false");
	client_close(&w.client);
	pw_deinit();
	return w.exit_code;
usage:
	fputs("usage: witness [--linger-ms N] NAME FILE audio|midi|control|ump...\n", stderr);
	return 2;
}
