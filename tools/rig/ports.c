/* ports: a source whose ports come and go when it is told so.
 *
 *   ports NAME [odd|jack]
 *
 * An Audio/Source of that name, made as a pw_filter, which at first has no port. A line on stdin changes that, and is
 * answered with "done" on stdout once PipeWire knows of it:
 *   add CHANNEL        a port more, for FL, FR, LFE, ...
 *   remove CHANNEL     that port goes
 * Each port sends one level all the time: FL 0.25, FR 0.5, AUX<n> (n + 1) / 1024, any other 0.125. "odd" makes it tell
 * of itself what no device should: an EnumFormat whose sample formats are objects, and a card number of 5,000 digits.
 * "jack" makes it a program's node, with what a JACK client's says of itself: no media class, ports without a channel.
 * SIGTERM and SIGINT end it with exit code 0.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pipewire/filter.h>
#include <spa/param/format.h>
#include <spa/param/props.h>
#include <spa/pod/builder.h>

#include "client.h"

#define MAX_PORTS 256
#define ODD_DIGITS 5000

struct port {
	float level;
	char channel[16];
};

struct ports {
	struct client client;
	struct pw_filter *filter;
	bool is_jack;
	struct spa_hook core_hook;
	struct port *ports[MAX_PORTS]; /* the data thread's own: changed by invoking it */
	int pending;
	char line[64];
	size_t n_line;
};

static void on_process(void *data, struct spa_io_position *position)
{
	struct ports *p = data;
	for (int k = 0; k < MAX_PORTS; k++) {
		float *out = p->ports[k] ? pw_filter_get_dsp_buffer(p->ports[k], position->clock.duration) : NULL;
		for (uint64_t i = 0; out && i < position->clock.duration; i++)
			out[i] = p->ports[k]->level;
	}
}

static const struct pw_filter_events filter_events = { PW_VERSION_FILTER_EVENTS, .process = on_process };

struct change {
	struct port *old, *new;
};

static int replace(struct spa_loop *loop, bool async, uint32_t seq, const void *data, size_t size, void *user)
{
	struct ports *p = user;
	const struct change *c = data;
	for (int k = 0; k < MAX_PORTS; k++) {
		if (p->ports[k] == c->old) {
			p->ports[k] = c->new;
			break;
		}
	}
	return 0;
}

static void change(struct ports *p, struct port *old, struct port *new)
{
	const struct change c = { old, new };
	pw_data_loop_invoke(p->client.data_loop, replace, 1, &c, sizeof c, true, p);
}

static float level_of(const char *channel)
{
	if (strncmp(channel, "AUX", 3) == 0)
		return (float)(atoi(channel + 3) + 1) / 1024.0f;
	return strcmp(channel, "FL") == 0 ? 0.25f : strcmp(channel, "FR") == 0 ? 0.5f : 0.125f;
}

static const struct spa_pod *odd_format(struct spa_pod_builder *b)
{
	struct spa_pod_frame form, choice, inner;
	spa_pod_builder_push_object(b, &form, SPA_TYPE_OBJECT_Format, SPA_PARAM_EnumFormat);
	spa_pod_builder_add(b, SPA_FORMAT_mediaType, SPA_POD_Id(SPA_MEDIA_TYPE_audio),
			    SPA_FORMAT_mediaSubtype, SPA_POD_Id(SPA_MEDIA_SUBTYPE_raw), 0);
	spa_pod_builder_prop(b, SPA_FORMAT_AUDIO_format, 0);
	spa_pod_builder_push_choice(b, &choice, SPA_CHOICE_Enum, 0);
	spa_pod_builder_push_object(b, &inner, SPA_TYPE_OBJECT_Props, SPA_PARAM_Props);
	spa_pod_builder_add(b, SPA_PROP_mute, SPA_POD_Bool(true), 0);
	spa_pod_builder_pop(b, &inner);
	spa_pod_builder_pop(b, &choice);
	return spa_pod_builder_pop(b, &form);
}

static void add(struct ports *p, const char *channel)
{
	char name[32];
	snprintf(name, sizeof name, "capture_%s", channel);
	struct port *port = pw_filter_add_port(p->filter, PW_DIRECTION_OUTPUT, PW_FILTER_PORT_FLAG_MAP_BUFFERS,
		sizeof *port, pw_properties_new(PW_KEY_FORMAT_DSP, "32 bit float mono audio", PW_KEY_PORT_NAME, name,
						p->is_jack ? NULL : PW_KEY_AUDIO_CHANNEL, channel, NULL), NULL, 0);
	port->level = level_of(channel);
	snprintf(port->channel, sizeof port->channel, "%s", channel);
	change(p, NULL, port);
}

static void take_away(struct ports *p, const char *channel)
{
	for (int k = 0; k < MAX_PORTS; k++) {
		struct port *port = p->ports[k];
		if (port && strcmp(port->channel, channel) == 0) {
			change(p, port, NULL);
			pw_filter_remove_port(port);
			return;
		}
	}
}

static void obey(struct ports *p)
{
	if (strncmp(p->line, "add ", 4) == 0)
		add(p, p->line + 4);
	else if (strncmp(p->line, "remove ", 7) == 0)
		take_away(p, p->line + 7);
	p->pending = pw_core_sync(p->client.core, PW_ID_CORE, p->pending);
}

static void on_input(void *data, int fd, uint32_t mask)
{
	struct ports *p = data;
	char byte;
	if (read(fd, &byte, 1) != 1) {
		pw_main_loop_quit(p->client.main_loop);
		return;
	}
	if (byte != '\n') {
		if (p->n_line + 1 < sizeof p->line)
			p->line[p->n_line++] = byte;
		return;
	}
	p->line[p->n_line] = '\0';
	p->n_line = 0;
	obey(p);
}

static void on_core_done(void *data, uint32_t id, int seq)
{
	struct ports *p = data;
	if (id == PW_ID_CORE && seq == p->pending)
		printf("done\n");
}

static const struct pw_core_events core_events = { PW_VERSION_CORE_EVENTS, .done = on_core_done };

int main(int argc, char *argv[])
{
	struct ports p = { 0 };
	int exit_code = 0;
	setvbuf(stdout, NULL, _IOLBF, 0);
	bool odd = argc == 3 && strcmp(argv[2], "odd") == 0;
	p.is_jack = argc == 3 && strcmp(argv[2], "jack") == 0;
	if (argc != 2 && !odd && !p.is_jack) {
		fputs("usage: ports NAME [odd|jack]\n", stderr);
		return 2;
	}
	pw_init(NULL, NULL);
	client_open(&p.client);
	if (!client_connect(&p.client)) {
		fputs("ports: PipeWire is not reachable\n", stderr);
		client_close(&p.client);
		return 1;
	}
	pw_core_add_listener(p.client.core, &p.core_hook, &core_events, &p);
	struct spa_hook filter_hook = { 0 };
	p.filter = pw_filter_new(p.client.core, argv[1], pw_properties_new(
		PW_KEY_MEDIA_TYPE, "Audio", PW_KEY_NODE_NAME, argv[1], PW_KEY_NODE_DESCRIPTION, argv[1],
		p.is_jack ? PW_KEY_CLIENT_API : PW_KEY_MEDIA_CLASS, p.is_jack ? "jack" : "Audio/Source", NULL));
	pw_filter_add_listener(p.filter, &filter_hook, &filter_events, &p);
	uint8_t space[1024];
	struct spa_pod_builder builder = SPA_POD_BUILDER_INIT(space, sizeof space);
	const struct spa_pod *params[] = { odd_format(&builder) };
	if (odd) {
		char digits[ODD_DIGITS + 1] = { 0 };
		memset(digits, '9', ODD_DIGITS);
		pw_filter_update_properties(p.filter, NULL, &SPA_DICT_INIT_ARRAY(((struct spa_dict_item[]){
			SPA_DICT_ITEM_INIT("api.alsa.card", digits) })));
	}
	pw_loop_add_io(p.client.loop, STDIN_FILENO, SPA_IO_IN | SPA_IO_HUP, false, on_input, &p);
	if (pw_filter_connect(p.filter, PW_FILTER_FLAG_RT_PROCESS, params, odd) < 0)
		exit_code = 1;
	else
		pw_main_loop_run(p.client.main_loop);
	spa_hook_remove(&filter_hook);
	pw_filter_destroy(p.filter);
	client_close(&p.client);
	pw_deinit();
	return exit_code;
}
