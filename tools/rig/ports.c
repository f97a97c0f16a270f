/* ports: a source whose ports come and go when it is told so.
 *
 *   ports NAME
 *
 * An Audio/Source of that name, made as a pw_filter, which at first has no port. A line on stdin changes that, and is
 * answered with "done" on stdout once PipeWire knows of it:
 *   add CHANNEL        a port more, for FL, FR, LFE, ...
 *   remove CHANNEL     that port goes
 * Each port sends one level all the time: FL 0.25, FR 0.5, any other 0.125. SIGTERM and SIGINT end it with exit code 0.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pipewire/filter.h>

#include "client.h"

#define MAX_PORTS 32

struct port {
	float level;
	char channel[16];
};

struct ports {
	struct client client;
	struct pw_filter *filter;
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

static void add(struct ports *p, const char *channel)
{
	char name[32];
	snprintf(name, sizeof name, "capture_%s", channel);
	struct port *port = pw_filter_add_port(p->filter, PW_DIRECTION_OUTPUT, PW_FILTER_PORT_FLAG_MAP_BUFFERS,
		sizeof *port, pw_properties_new(PW_KEY_FORMAT_DSP, "32 bit float mono audio", PW_KEY_PORT_NAME, name,
						PW_KEY_AUDIO_CHANNEL, channel, NULL), NULL, 0);
	port->level = strcmp(channel, "FL") == 0 ? 0.25f : strcmp(channel, "FR") == 0 ? 0.5f : 0.125f;
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
	if (argc != 2) {
		fputs("usage: ports NAME\n", stderr);
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
		PW_KEY_MEDIA_CLASS, "Audio/Source", PW_KEY_MEDIA_TYPE, "Audio", PW_KEY_NODE_NAME, argv[1],
		PW_KEY_NODE_DESCRIPTION, argv[1], NULL));
	pw_filter_add_listener(p.filter, &filter_hook, &filter_events, &p);
	pw_loop_add_io(p.client.loop, STDIN_FILENO, SPA_IO_IN | SPA_IO_HUP, false, on_input, &p);
	if (pw_filter_connect(p.filter, PW_FILTER_FLAG_RT_PROCESS, NULL, 0) < 0)
		exit_code = 1;
	else
		pw_main_loop_run(p.client.main_loop);
	spa_hook_remove(&filter_hook);
	pw_filter_destroy(p.filter);
	client_close(&p.client);
	pw_deinit();
	return exit_code;
}
