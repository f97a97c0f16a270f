/* faulty-driver: a microphone that drives the graph, and breaks the rules of clocks and buffers when it is told to.
 *
 * Its frames carry numbers as a counting source's do (numbers.h): frame i of a cycle is clock.position + i, and as many more
 * as it brought while that stood still. A line on stdin is a command; each takes effect in the next cycle that begins, in the order in which they came:
 *
 *   xrun N           clock.xrun grows by N frames
 *   discont          SPA_IO_CLOCK_FLAG_DISCONT for one cycle
 *   jump N           the position moves on by N frames more (or back) than it would
 *   position P       the position is P
 *   stand, go        the position stands still while cycles go on; moves on again
 *   late MS          the cycle begins so much later
 *   frames N         the buffers hold N frames, less or more than the cycle has
 *   torn MS          so long after the cycle began the device goes on to the next without beginning one: the clock
 *                    moves, and the second half of the buffers has the next cycle's frames
 *   offset N         chunk->offset is N bytes, and the frames lie there; where they can't, chunk->size is all the same
 *   wrap             chunk->offset + chunk->size is 0 in 32 bits
 *   empty [CYCLES]   the buffers hold zeros and are flagged SPA_CHUNK_FLAG_EMPTY (1 cycle)
 *   nothing [CYCLES] no buffer at all (1 cycle)
 *   delay CHANNEL N  the channel's port says that it is N frames late; at once
 *   begin, hold      goes on; finishes the cycle and begins no other
 *
 * Where another driver drives it (both in one node.group, the other's priority.driver higher) it is a follower whose
 * own clock differs from the graph's by --ppm: frame i of a cycle has the number that its own clock gives it, so that
 * some numbers come twice or never, as they would to a resampler that drops and doubles frames.
 *
 * {"event": "follows", "position": P} tells from where on. What else it tells stands in device.h; the last is {"event": "stopped", "cycles": N, "first": P, "end": P}. SIGTERM and
 * SIGINT end it. Exit codes: 0, 1 failed, 2 usage.
 */

#include "device.h"
#include "numbers.h"

#define FLAG_DISCONT (1u << 4)

struct driver {
	struct device device;
	uint32_t id;
	double ppm;
	uint32_t masks[MAX_CHANNELS / 2];
	struct spa_source *tear;

	/* the data thread's: what the next cycle is to be like */
	int64_t late_ns, torn_ns;
	bool discont, wrap, follows;
	uint32_t empty, nothing;
	int64_t n_frames;
	uint64_t offset;
	uint64_t follow_from;
};

static void put_numbers(struct driver *x, struct port *p, float *to, uint64_t first, uint32_t n)
{
	numbers_fill(to, p->channel, x->device.channels, x->masks[p->channel / 2], first, n);
}

/* A follower's frames by its own clock, run by run of numbers that follow each other. */
static void put_followed(struct driver *x, struct port *p, float *to, uint64_t position, uint32_t n)
{
	double speed = 1 + x->ppm * 1e-6;
	for (uint32_t i = 0, run; i < n; i += run) {
		uint64_t number = x->follow_from + (uint64_t)((position + i - x->follow_from) * speed);
		for (run = 1; i + run < n; run++)
			if (x->follow_from + (uint64_t)((position + i + run - x->follow_from) * speed) != number + run)
				break;
		put_numbers(x, p, to + i, number, run);
	}
}

static void fill(struct device *d, uint64_t position, uint32_t duration)
{
	struct driver *x = SPA_CONTAINER_OF(d, struct driver, device);
	bool follows = !device_drives(d);
	if (follows && !x->follows) {
		x->follow_from = position;
		device_tell(d, "{\"event\": \"follows\", \"position\": %" PRIu64 "}\n", position);
	}
	x->follows = follows;
	for (uint32_t i = 0; i < d->n_ports; i++) {
		struct port *p = &d->ports[i];
		struct buffer *b = device_buffer(p, x->nothing == 0);
		if (b == NULL || x->nothing > 0)
			continue;
		struct spa_data *data = &b->buffer->datas[0];
		uint32_t room = data->maxsize / sizeof(float);
		uint32_t n = SPA_MIN(x->n_frames >= 0 ? (uint32_t)x->n_frames : duration, room);
		bool inside = x->offset + n * sizeof(float) <= data->maxsize;
		float *to = SPA_PTROFF(b->data, inside ? x->offset / sizeof(float) * sizeof(float) : 0, float);
		if (x->empty > 0)
			memset(to, 0, n * sizeof(float));
		else if (follows)
			put_followed(x, p, to, position, n);
		else
			put_numbers(x, p, to, position, n);
		*data->chunk = (struct spa_chunk){
			.size = n * sizeof(float),
			.offset = x->wrap ? -(uint32_t)(n * sizeof(float)) : (uint32_t)x->offset,
			.stride = sizeof(float),
			.flags = x->empty > 0 ? SPA_CHUNK_FLAG_EMPTY : 0,
		};
	}
	if (!follows)
		d->clock->flags = (d->clock->flags & ~FLAG_DISCONT) | (x->discont ? FLAG_DISCONT : 0);
	x->discont = x->wrap = false;
	x->offset = 0;
	x->n_frames = -1;
	x->empty -= x->empty > 0;
	x->nothing -= x->nothing > 0;
}

/* The device goes on to the next cycle while the followers are still in this one. */
static void tear(struct device *d)
{
	struct driver *x = SPA_CONTAINER_OF(d, struct driver, device);
	d->position += d->duration;
	for (uint32_t i = 0; i < d->n_ports; i++) {
		struct port *p = &d->ports[i];
		if (p->n_buffers > 0)
			put_numbers(x, p, (float *)p->buffers[p->last].data + d->duration / 2, d->position + d->duration / 2,
				    d->duration - d->duration / 2);
	}
	d->clock->position = d->position;
	device_tell(d, "{\"event\": \"torn\", \"position\": %" PRIu64 "}\n", d->position);
}

static void on_tear(void *data, uint64_t expirations)
{
	tear(data);
}

static void began(struct device *d)
{
	struct driver *x = SPA_CONTAINER_OF(d, struct driver, device);
	if (x->torn_ns < 0)
		return;
	if (x->torn_ns == 0)
		tear(d);
	else {
		struct timespec in = { x->torn_ns / SPA_NSEC_PER_SEC, x->torn_ns % SPA_NSEC_PER_SEC };
		pw_loop_update_timer(pw_data_loop_get_loop(d->client.data_loop), x->tear, &in, NULL, false);
	}
	x->torn_ns = -1;
}

static int64_t delay_ns(struct device *d)
{
	struct driver *x = SPA_CONTAINER_OF(d, struct driver, device);
	int64_t late_ns = x->late_ns;
	for (uint32_t i = 0; i < d->n_commands; i++) {
		long long ms;
		if (sscanf(d->commands[i].text, "late %lld", &ms) == 1)
			late_ns = ms * SPA_NSEC_PER_MSEC;
	}
	if (x->late_ns == late_ns)
		return 0;
	x->late_ns = late_ns;
	return late_ns;
}

static bool obey(struct device *d, const char *command)
{
	struct driver *x = SPA_CONTAINER_OF(d, struct driver, device);
	char name[16] = "";
	long long n = 1;
	int given = sscanf(command, "%15s %lld", name, &n);
	if (given < 1)
		return false;
	bool has_n = given == 2;
	if (spa_streq(name, "late") && has_n)
		x->late_ns = 0;
	else if (spa_streq(name, "xrun") && has_n && d->clock)
		clock_rest(d->clock)->xrun += n;
	else if (spa_streq(name, "jump") && has_n)
		d->position += n;
	else if (spa_streq(name, "position") && has_n)
		d->position = n;
	else if (spa_streq(name, "frames") && has_n)
		x->n_frames = n;
	else if (spa_streq(name, "offset") && has_n)
		x->offset = n;
	else if (spa_streq(name, "torn") && has_n)
		x->torn_ns = n * SPA_NSEC_PER_MSEC;
	else if (spa_streq(name, "empty"))
		x->empty = n;
	else if (spa_streq(name, "nothing"))
		x->nothing = n;
	else if (spa_streq(name, "discont"))
		x->discont = true;
	else if (spa_streq(name, "wrap"))
		x->wrap = true;
	else if (spa_streq(name, "stand") || spa_streq(name, "go"))
		d->stands = spa_streq(name, "stand");
	else
		return false;
	return true;
}

static void usage(FILE *to)
{
	fputs("usage: faulty-driver [options]\n"
	      "  --name NAME            node.name (faulty-driver)\n"
	      "  --channels N           1 to 64 (2)\n"
	      "  --rate HZ              the rate it announces (48000)\n"
	      "  --id N                 what tells its frames from another source's (0)\n"
	      "  --start N              the first position (480000)\n"
	      "  --speed X              at most X times real time, 0 for as fast as it goes (1)\n"
	      "  --patience-ms N        wait for followers no longer than this (1000)\n"
	      "  --ppm N                how much faster its own clock is where it follows another (0)\n"
	      "  --delay N              how many frames late its ports say that they are (0)\n"
	      "  --property KEY=VALUE   any further node property; may be repeated\n"
	      "  --hold                 no cycle before \"begin\"\n", to);
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {
		DEVICE_OPTIONS,
		{ "id", required_argument, NULL, 'i' },
		{ "ppm", required_argument, NULL, 'm' },
		{ "delay", required_argument, NULL, 'd' },
		{ 0 },
	};
	struct driver x = {
		.device = { .channels = 2, .rate = 48000, .speed = 1, .patience_ns = SPA_NSEC_PER_SEC, .position = 480000,
			    .obey = obey, .delay_ns = delay_ns, .fill = fill, .began = began },
		.torn_ns = -1, .n_frames = -1,
	};
	struct device *d = &x.device;
	setvbuf(stdout, NULL, _IOLBF, 0);
	pw_init(&argc, &argv);
	struct pw_properties *props = device_properties("Audio/Source", "Audio", "faulty-driver");
	int c;
	int32_t delay = 0;
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1)
		switch (c) {
		case 'i': x.id = strtoul(optarg, NULL, 10); break;
		case 'd': delay = strtol(optarg, NULL, 10); break;
		case 'm': x.ppm = strtod(optarg, NULL); break;
		default:
			if (device_option(d, props, c, optarg))
				break;
			usage(c == 'h' ? stdout : stderr);
			return c == 'h' ? 0 : 2;
		}
	if (optind != argc || d->channels < 1 || d->channels > MAX_CHANNELS || d->rate < 1 || d->speed < 0) {
		usage(stderr);
		return 2;
	}
	for (uint32_t pair = 0; pair < MAX_CHANNELS / 2; pair++)
		x.masks[pair] = numbers_mask(x.id, pair);
	for (uint32_t channel = 0; channel < d->channels; channel++)
		device_add_port(d, PORT_AUDIO, 4, AUDIO_BYTES)->delay = delay;
	device_open(d);
	x.tear = device_add_timer(d, on_tear);
	int code = device_run(d, props);
	pw_deinit();
	return code;
}
