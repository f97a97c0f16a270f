/* tap: the least that can capture a device: its process callback copies, and nothing else happens.
 *
 *   tap TARGET CHANNELS FRAMES [FILE]
 *
 * TARGET is a node.name; the session manager makes the links. Every frame goes to the place that the graph's
 * clock gives it: after an xrun a cycle may run twice, and then its second buffer counts. After FRAMES frames it
 * stops. FILE then holds float32 of shape (CHANNELS, FRAMES), zeros where a cycle was missed; without FILE the
 * frames go round in a small buffer, for benches.
 *
 * One JSON object per line on stdout:
 *   {"event": "streaming"}
 *   {"event": "done", "frames": N, "first": P, "missed": N}     first: the first frame's clock position;
 *                                                               missed: frames of cycles that passed it by
 * SIGTERM and SIGINT end it before that, with what it has ("done" is printed all the same). Exit codes: 0 done,
 * 1 failed, 2 usage.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <pipewire/pipewire.h>
#include <spa/param/audio/format-utils.h>

#include "client.h"

#define MAX_CHANNELS 64
#define SCRATCH_FRAMES 65536

struct tap {
	struct client client;
	struct pw_stream *stream;
	struct spa_source *full;
	uint32_t channels;
	uint64_t n_wanted, room;
	float *planes;
	int exit_code;

	/* the data thread's */
	uint64_t first, next, missed;
};

static void on_process(void *data)
{
	struct tap *t = data;
	struct pw_buffer *b = pw_stream_dequeue_buffer(t->stream);
	if (b == NULL)
		return;
	struct spa_buffer *buffer = b->buffer;
	const struct spa_io_clock *clock = t->client.position ? &t->client.position->clock : NULL;
	uint64_t n = buffer->datas[0].chunk->size / sizeof(float);
	if (clock == NULL || n == 0 || t->next - t->first >= t->n_wanted)
		goto requeue;
	if (t->next == 0)
		t->first = t->next = clock->position;
	if (clock->position < t->first)
		goto requeue;
	uint64_t place = clock->position - t->first;
	n = SPA_MIN(n, clock->duration);
	n = SPA_MIN(n, place < t->n_wanted ? t->n_wanted - place : 0);
	if (clock->position > t->next)
		t->missed += clock->position - t->next;
	t->next = SPA_MAX(t->next, clock->position + clock->duration);
	for (uint64_t done = 0, step; done < n; done += step) {
		uint64_t at = (place + done) % t->room;
		step = SPA_MIN(n - done, t->room - at);
		for (uint32_t c = 0; c < t->channels; c++) {
			struct spa_data *d = &buffer->datas[c];
			memcpy(t->planes + c * t->room + at,
			       SPA_PTROFF(d->data, d->chunk->offset + done * sizeof(float), float),
			       step * sizeof(float));
		}
	}
	if (t->next - t->first >= t->n_wanted)
		pw_loop_signal_event(t->client.loop, t->full);
requeue:
	pw_stream_queue_buffer(t->stream, b);
}

static void on_io_changed(void *data, uint32_t id, void *area, uint32_t size)
{
	client_io_changed(&((struct tap *)data)->client, id, area);
}

static void on_state_changed(void *data, enum pw_stream_state old, enum pw_stream_state state, const char *error)
{
	struct tap *t = data;
	if (state == PW_STREAM_STATE_STREAMING)
		printf("{\"event\": \"streaming\"}\n");
	if (state == PW_STREAM_STATE_ERROR || state == PW_STREAM_STATE_UNCONNECTED) {
		t->exit_code = 1;
		pw_main_loop_quit(t->client.main_loop);
	}
}

static const struct pw_stream_events stream_events = {
	PW_VERSION_STREAM_EVENTS,
	.state_changed = on_state_changed,
	.io_changed = on_io_changed,
	.process = on_process,
};

static void on_full(void *data, uint64_t count)
{
	pw_main_loop_quit(((struct tap *)data)->client.main_loop);
}

static int reserve(struct tap *t, const char *path)
{
	int fd = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;

	t->room = path ? t->n_wanted : SCRATCH_FRAMES;
	size_t size = t->channels * t->room * sizeof(float);
	if (path) {
		flags = MAP_SHARED | MAP_POPULATE;
		fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (fd < 0 || posix_fallocate(fd, 0, size) != 0)
			return -1;
	}
	void *area = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (fd >= 0)
		close(fd);
	t->planes = area;
	return area == MAP_FAILED ? -1 : 0;
}

int main(int argc, char *argv[])
{
	struct tap t = { 0 };
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc >= 4) {
		t.channels = strtoul(argv[2], NULL, 10);
		t.n_wanted = strtoull(argv[3], NULL, 10);
	}
	if (argc > 5 || t.channels < 1 || t.channels > MAX_CHANNELS || t.n_wanted < 1) {
		fputs("usage: tap TARGET CHANNELS FRAMES [FILE]\n", stderr);
		return 2;
	}
	if (reserve(&t, argc == 5 ? argv[4] : NULL) < 0) {
		perror("tap: no room for the frames");
		return 1;
	}
	pw_init(NULL, NULL);
	client_open(&t.client);
	t.full = pw_loop_add_event(t.client.loop, on_full, &t);
	if (!client_connect(&t.client)) {
		fputs("tap: PipeWire is not reachable\n", stderr);
		client_close(&t.client);
		return 1;
	}
	t.stream = pw_stream_new(t.client.core, "tap", pw_properties_new(
		PW_KEY_MEDIA_TYPE, "Audio", PW_KEY_MEDIA_CATEGORY, "Capture", PW_KEY_NODE_NAME, "tap",
		PW_KEY_TARGET_OBJECT, argv[1], PW_KEY_STREAM_DONT_REMIX, "true", PW_KEY_NODE_DONT_RECONNECT, "true",
		"zeroramp.duration", "0", NULL));
	struct spa_hook stream_hook = { 0 };
	pw_stream_add_listener(t.stream, &stream_hook, &stream_events, &t);

	uint8_t space[1024];
	struct spa_pod_builder builder = SPA_POD_BUILDER_INIT(space, sizeof space);
	struct spa_audio_info_raw info = { .format = SPA_AUDIO_FORMAT_F32P };
	client_set_channels(&info, t.channels);
	const struct spa_pod *params[] = { spa_format_audio_raw_build(&builder, SPA_PARAM_EnumFormat, &info) };
	enum pw_stream_flags flags = PW_STREAM_FLAG_AUTOCONNECT | PW_STREAM_FLAG_MAP_BUFFERS | PW_STREAM_FLAG_RT_PROCESS;
	if (pw_stream_connect(t.stream, PW_DIRECTION_INPUT, PW_ID_ANY, flags, params, 1) < 0)
		t.exit_code = 1;
	else
		pw_main_loop_run(t.client.main_loop);
	spa_hook_remove(&stream_hook);
	pw_stream_destroy(t.stream);
	printf("{\"event\": \"done\", \"frames\": %" PRIu64 ", \"first\": %" PRIu64 ", \"missed\": %" PRIu64 "}\n",
	       SPA_MIN(t.next - t.first, t.n_wanted), t.first, t.missed);
	client_close(&t.client);
	pw_deinit();
	return t.exit_code;
}
