/* midi-source: a device that plays a script of events to the frame, and clicks beside them.
 *
 *   midi-source [options] SCRIPT
 *
 * It drives the graph (device.h). Its first ports are --channels of audio, silent but for clicks; then come the ports of
 * events, one for each --port KIND: midi ("8 bit raw midi"), control ("8 bit raw control") or ump ("32 bit raw UMP").
 * SCRIPT is a file of records, in the order of their frames, each little endian and filled up to a multiple of 8 bytes:
 *   uint64 frame, uint32 port, uint32 kind, uint32 size, the bytes
 * `kind` is SPA_CONTROL_Midi (2), SPA_CONTROL_UMP (4: 32-bit words in this machine's order), any other that a sequence may
 * hold, or 0 for a click: that sample of an audio port is 1. Bytes are played as they are, right or wrong.
 *
 * Until it is told to play, each port of events brings one active sensing a cycle, so that a client sees when it is
 * linked. Commands: "play" (frame 0 is the first of the cycle in which it takes effect), "begin", "hold".
 * Events that don't fit into a cycle's buffer (--buffer-bytes) are lost, and the whole cycle's with them: chunk->size is
 * then what they would have needed, or 0 with --overflow zero, as older and newer PipeWires have it.
 *
 * What it tells beside what stands in device.h: {"event": "played", "position": P, "events": N, "overflowed": N} when
 * the script is at its end, P behind the cycle that had the last of it, `overflowed` how many events were lost.
 * SIGTERM and SIGINT end it. Exit codes: 0, 1 failed, 2 usage.
 */

#include "device.h"

#define EVENT_BYTES 65536

struct event {
	uint64_t frame;
	uint32_t port, kind, size;
	uint8_t bytes[];
};

struct source {
	struct device device;
	uint8_t *script;
	size_t script_bytes;
	bool overflow_is_zero;

	/* the data thread's */
	bool plays, has_played;
	uint64_t from, n_events, n_overflowed;
	size_t at;
	struct spa_pod_builder builders[MAX_PORTS];
	struct spa_pod_frame sequences[MAX_PORTS];
	struct buffer *buffers[MAX_PORTS];
	uint32_t n_in_cycle[MAX_PORTS];
};

static size_t record_bytes(const struct event *event)
{
	return SPA_ROUND_UP_N(offsetof(struct event, bytes) + event->size, 8);
}

static const struct event *next_event(const struct source *s)
{
	return s->at < s->script_bytes ? (const struct event *)(s->script + s->at) : NULL;
}

static void begin_port(struct source *s, struct port *p, uint32_t n_frames)
{
	struct buffer *b = device_buffer(p, true);
	s->buffers[p->id] = b;
	s->n_in_cycle[p->id] = 0;
	if (b == NULL)
		return;
	if (p->kind == PORT_AUDIO) {
		memset(b->data, 0, n_frames * sizeof(float));
		return;
	}
	s->builders[p->id] = SPA_POD_BUILDER_INIT(b->data, b->buffer->datas[0].maxsize);
	spa_pod_builder_push_sequence(&s->builders[p->id], &s->sequences[p->id], 0);
}

static void put(struct source *s, struct port *p, uint32_t offset, uint32_t kind, const void *bytes, uint32_t size)
{
	struct buffer *b = s->buffers[p->id];
	if (b == NULL)
		return;
	if (p->kind == PORT_AUDIO) {
		if (kind == 0)
			((float *)b->data)[offset] = 1.0f;
		return;
	}
	spa_pod_builder_control(&s->builders[p->id], offset, kind);
	spa_pod_builder_bytes(&s->builders[p->id], bytes, size);
	s->n_in_cycle[p->id]++;
}

static void end_port(struct source *s, struct port *p, uint32_t n_frames)
{
	struct buffer *b = s->buffers[p->id];
	if (b == NULL)
		return;
	uint32_t size = n_frames * sizeof(float), room = b->buffer->datas[0].maxsize;
	if (p->kind != PORT_AUDIO) {
		spa_pod_builder_pop(&s->builders[p->id], &s->sequences[p->id]);
		size = s->builders[p->id].state.offset;
		if (size > room) {
			s->n_overflowed += s->n_in_cycle[p->id];
			size = s->overflow_is_zero ? 0 : size;
		}
	}
	*b->buffer->datas[0].chunk = (struct spa_chunk){ .size = size, .stride = p->kind == PORT_AUDIO ? 4 : 1 };
}

static void fill(struct device *d, uint64_t position, uint32_t n_frames)
{
	struct source *s = SPA_CONTAINER_OF(d, struct source, device);
	for (uint32_t i = 0; i < d->n_ports; i++)
		begin_port(s, &d->ports[i], n_frames);
	if (!s->plays) {
		const uint8_t sensing = 0xFE;
		const uint32_t sensing_ump = 0x10FE0000;
		for (uint32_t i = d->channels; i < d->n_ports; i++)
			if (d->ports[i].kind == PORT_UMP)
				put(s, &d->ports[i], 0, 4, &sensing_ump, sizeof sensing_ump);
			else
				put(s, &d->ports[i], 0, SPA_CONTROL_Midi, &sensing, 1);
	} else {
		for (const struct event *e; (e = next_event(s)) && s->from + e->frame < position + n_frames;
		     s->at += record_bytes(e), s->n_events++)
			if (s->from + e->frame >= position)
				put(s, &d->ports[e->port], s->from + e->frame - position, e->kind, e->bytes, e->size);
	}
	for (uint32_t i = 0; i < d->n_ports; i++)
		end_port(s, &d->ports[i], n_frames);
	if (s->plays && !s->has_played && next_event(s) == NULL) {
		s->has_played = true;
		device_tell(d, "{\"event\": \"played\", \"position\": %" PRIu64 ", \"events\": %" PRIu64
			    ", \"overflowed\": %" PRIu64 "}\n", position + n_frames, s->n_events, s->n_overflowed);
	}
}

static bool obey(struct device *d, const char *command)
{
	struct source *s = SPA_CONTAINER_OF(d, struct source, device);
	if (!spa_streq(command, "play"))
		return false;
	s->plays = true;
	s->has_played = false;
	s->from = d->position;
	s->at = s->n_events = s->n_overflowed = 0;
	return true;
}

/* False unless it is a script that these ports can play. */
static bool load(struct source *s, const char *path)
{
	FILE *file = fopen(path, "rb");
	if (file == NULL)
		return false;
	fseek(file, 0, SEEK_END);
	s->script_bytes = ftell(file);
	rewind(file);
	s->script = malloc(s->script_bytes + sizeof(struct event));
	bool whole = fread(s->script, 1, s->script_bytes, file) == s->script_bytes;
	fclose(file);
	uint64_t last = 0;
	for (const struct event *e; whole && (e = next_event(s)); s->at += record_bytes(e)) {
		whole = s->at + offsetof(struct event, bytes) <= s->script_bytes &&
			e->size <= s->script_bytes - s->at - offsetof(struct event, bytes) && e->frame >= last &&
			e->port < s->device.n_ports;
		last = e->frame;
	}
	s->at = 0;
	return whole;
}

static void usage(FILE *to)
{
	fputs("usage: midi-source [options] SCRIPT\n"
	      "  --name NAME            node.name (midi-source)\n"
	      "  --port KIND            a port of events: midi, control or ump; may be repeated (midi)\n"
	      "  --channels N           audio ports before those, for clicks (0)\n"
	      "  --rate HZ              of the audio (48000)\n"
	      "  --start N              the first position (480000)\n"
	      "  --speed X              at most X times real time, 0 for as fast as it goes (1)\n"
	      "  --patience-ms N        wait for followers no longer than this (1000)\n"
	      "  --buffer-bytes N       of a port of events (65536)\n"
	      "  --overflow zero        chunk->size of a cycle whose events don't fit (what they need)\n"
	      "  --property KEY=VALUE   any further node property; may be repeated\n"
	      "  --hold                 no cycle before \"begin\"\n", to);
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {
		DEVICE_OPTIONS,
		{ "port", required_argument, NULL, 'o' },
		{ "buffer-bytes", required_argument, NULL, 'b' },
		{ "overflow", required_argument, NULL, 'v' },
		{ 0 },
	};
	static const char *const kinds[] = { [PORT_MIDI] = "midi", [PORT_CONTROL] = "control", [PORT_UMP] = "ump" };
	static struct source s;
	struct device *d = &s.device;
	enum port_kind ports[MAX_PORTS];
	uint32_t n_ports = 0, buffer_bytes = EVENT_BYTES;
	*d = (struct device){ .rate = 48000, .speed = 1, .patience_ns = SPA_NSEC_PER_SEC, .position = 480000, .obey = obey,
			      .fill = fill };
	setvbuf(stdout, NULL, _IOLBF, 0);
	pw_init(&argc, &argv);
	struct pw_properties *props = device_properties("Midi/Source", "Midi", "midi-source");
	int c;
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1)
		switch (c) {
		case 'b': buffer_bytes = strtoul(optarg, NULL, 10); break;
		case 'v': s.overflow_is_zero = spa_streq(optarg, "zero"); break;
		case 'o':
			ports[n_ports] = PORT_AUDIO;
			for (enum port_kind kind = PORT_MIDI; kind <= PORT_UMP; kind++)
				if (spa_streq(optarg, kinds[kind]))
					ports[n_ports] = kind;
			if (ports[n_ports] != PORT_AUDIO && ++n_ports < MAX_PORTS - 64)
				break;
			usage(stderr);
			return 2;
		default:
			if (device_option(d, props, c, optarg))
				break;
			usage(c == 'h' ? stdout : stderr);
			return c == 'h' ? 0 : 2;
		}
	if (optind + 1 != argc || d->channels > 64 || d->rate < 1 || d->speed < 0 || buffer_bytes < 64) {
		usage(stderr);
		return 2;
	}
	if (n_ports == 0)
		ports[n_ports++] = PORT_MIDI;
	if (d->channels > 0)
		pw_properties_set(props, PW_KEY_MEDIA_CLASS, "Audio/Source");
	/* A node that has ports of events already is not given audio ports by every session manager. */
	for (uint32_t channel = 0; channel < d->channels; channel++)
		device_add_port(d, PORT_AUDIO, 4, AUDIO_BYTES)->is_there = true;
	for (uint32_t i = 0; i < n_ports; i++)
		device_add_port(d, ports[i], buffer_bytes, buffer_bytes);
	if (!load(&s, argv[optind])) {
		fprintf(stderr, "midi-source: %s can't be played on these ports\n", argv[optind]);
		return 2;
	}
	device_open(d);
	int code = device_run(d, props);
	pw_deinit();
	return code;
}
