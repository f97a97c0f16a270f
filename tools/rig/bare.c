/* bare: a capture client reduced to what none can leave out, as the measure of those that do more.
 *
 *   bare CHANNELS
 *
 * A pw_filter "bare" with one DSP port per channel ("in_1" ...), which somebody else links. Its process callback takes
 * the buffers, copies their frames with memcpy into a planar ring of RING_S seconds in shared memory, as a recorder's
 * would be, and gives them back. It accounts for nothing and stores nothing.
 *
 * One JSON object per line on stdout:
 *   {"event": "ready"}                                       its ports are there
 *   {"event": "done", "cycles": N, "copy_ns": T, "callback_ns": U, "frames": F, "lost": L,
 *    "times": M}                   at SIGTERM or SIGINT: T in memcpy, U in the whole callback, of N cycles with data;
 *                                  by the graph's clock L of F frames from the first on were in cycles that it missed, M times
 * Exit codes: 0, 1 failed, 2 usage.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <pipewire/filter.h>

#include "client.h"

#define MAX_CHANNELS 64
#define RATE 48000
#define RING_S 16

struct bare {
	struct client client;
	struct pw_filter *filter;
	void *ports[MAX_CHANNELS];
	uint32_t channels;
	float *ring;
	bool is_ready;
	int exit_code;

	/* the data thread's */
	uint64_t at, n_cycles, copy_ns, callback_ns, due, n_frames, n_lost, n_times;
};

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SPA_NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

static void on_process(void *data, struct spa_io_position *position)
{
	struct bare *b = data;
	const uint64_t called = now_ns(), stride = RATE * RING_S, n = position->clock.duration;
	struct pw_buffer *buffers[MAX_CHANNELS];
	const void *planes[MAX_CHANNELS];
	bool complete = true;

	for (uint32_t c = 0; c < b->channels; c++) {
		buffers[c] = pw_filter_dequeue_buffer(b->ports[c]);
		const struct spa_data *d = buffers[c] ? &buffers[c]->buffer->datas[0] : NULL;
		complete = complete && d && d->data && d->chunk->size >= n * sizeof(float);
		planes[c] = complete ? SPA_PTROFF(d->data, d->chunk->offset, void) : NULL;
	}
	if (complete) {
		if (b->at + n > stride)
			b->at = 0;
		uint64_t began = now_ns();
		for (uint32_t c = 0; c < b->channels; c++)
			memcpy(b->ring + c * stride + b->at, planes[c], n * sizeof(float));
		b->copy_ns += now_ns() - began;
		const uint64_t missed = b->n_cycles && position->clock.position > b->due ? position->clock.position - b->due : 0;
		b->n_lost += missed;
		b->n_times += missed > 0;
		b->n_frames += missed + n;
		b->due = position->clock.position + n;
		b->n_cycles++;
		b->at += n;
	}
	for (uint32_t c = 0; c < b->channels; c++)
		if (buffers[c])
			pw_filter_queue_buffer(b->ports[c], buffers[c]);
	if (complete)
		b->callback_ns += now_ns() - called;
}

static void on_state_changed(void *data, enum pw_filter_state old, enum pw_filter_state state, const char *error)
{
	struct bare *b = data;
	if (state == PW_FILTER_STATE_PAUSED && !b->is_ready) {
		b->is_ready = true;
		printf("{\"event\": \"ready\"}\n");
	}
	if (state == PW_FILTER_STATE_ERROR || state == PW_FILTER_STATE_UNCONNECTED) {
		b->exit_code = 1;
		pw_main_loop_quit(b->client.main_loop);
	}
}

static const struct pw_filter_events filter_events = {
	PW_VERSION_FILTER_EVENTS,
	.state_changed = on_state_changed,
	.process = on_process,
};

static float *reserve(size_t size)
{
	int fd = memfd_create("bare", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, size) != 0)
		return NULL;
	void *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	close(fd);
	return area == MAP_FAILED ? NULL : area;
}

int main(int argc, char *argv[])
{
	struct bare b = { .channels = argc == 2 ? strtoul(argv[1], NULL, 10) : 0 };
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (b.channels < 1 || b.channels > MAX_CHANNELS) {
		fputs("usage: bare CHANNELS\n", stderr);
		return 2;
	}
	b.ring = reserve((size_t)b.channels * RATE * RING_S * sizeof(float));
	if (b.ring == NULL) {
		perror("bare: no room for the frames");
		return 1;
	}
	pw_init(NULL, NULL);
	client_open(&b.client);
	if (!client_connect(&b.client)) {
		fputs("bare: PipeWire is not reachable\n", stderr);
		client_close(&b.client);
		return 1;
	}
	b.filter = pw_filter_new(b.client.core, "bare", pw_properties_new(
		PW_KEY_MEDIA_TYPE, "Audio", PW_KEY_MEDIA_CATEGORY, "Capture", PW_KEY_MEDIA_ROLE, "DSP",
		PW_KEY_NODE_NAME, "bare", NULL));
	struct spa_hook filter_hook = { 0 };
	pw_filter_add_listener(b.filter, &filter_hook, &filter_events, &b);
	for (uint32_t c = 0; c < b.channels; c++) {
		char name[16];
		snprintf(name, sizeof name, "in_%u", c + 1);
		b.ports[c] = pw_filter_add_port(b.filter, PW_DIRECTION_INPUT, PW_FILTER_PORT_FLAG_MAP_BUFFERS, 0,
			pw_properties_new(PW_KEY_FORMAT_DSP, "32 bit float mono audio", PW_KEY_PORT_NAME, name, NULL),
			NULL, 0);
	}
	if (pw_filter_connect(b.filter, PW_FILTER_FLAG_RT_PROCESS, NULL, 0) < 0)
		b.exit_code = 1;
	else
		pw_main_loop_run(b.client.main_loop);
	spa_hook_remove(&filter_hook);
	pw_filter_destroy(b.filter);
	printf("{\"event\": \"done\", \"cycles\": %" PRIu64 ", \"copy_ns\": %" PRIu64 ", \"callback_ns\": %" PRIu64
	       ", \"frames\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"times\": %" PRIu64 "}\n",
	       b.n_cycles, b.copy_ns, b.callback_ns, b.n_frames, b.n_lost, b.n_times);
	client_close(&b.client);
	pw_deinit();
	return b.exit_code;
}
