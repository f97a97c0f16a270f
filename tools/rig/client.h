/* client: what the rig's programs in the graph share. A main loop that SIGTERM and SIGINT end, a connection whose
 * data thread is real-time where that is permitted, and the graph's clock where that thread reads it.
 */
#include <signal.h>

#include <pipewire/pipewire.h>
#include <spa/param/audio/raw.h>

struct client {
	struct pw_main_loop *main_loop;
	struct pw_loop *loop;
	struct pw_context *context;
	struct pw_data_loop *data_loop;
	struct pw_core *core;
	/* the data thread's own */
	struct spa_io_position *position;
};

static inline void client_on_signal(void *data, int signal_number)
{
	pw_main_loop_quit(((struct client *)data)->main_loop);
}

/* Further signals are to be added before client_connect: its threads inherit that they are blocked. */
static inline void client_open(struct client *c)
{
	c->main_loop = pw_main_loop_new(NULL);
	c->loop = pw_main_loop_get_loop(c->main_loop);
	pw_loop_add_signal(c->loop, SIGTERM, client_on_signal, c);
	pw_loop_add_signal(c->loop, SIGINT, client_on_signal, c);
}

/* False where PipeWire is not reachable. */
static inline bool client_connect(struct client *c)
{
	c->context = pw_context_new(c->loop, pw_properties_new(PW_KEY_CONFIG_NAME, "client-rt.conf", NULL), 0);
	c->data_loop = pw_context_get_data_loop(c->context);
	c->core = pw_context_connect(c->context, NULL, 0);
	return c->core != NULL;
}

static inline void client_close(struct client *c)
{
	if (c->core != NULL)
		pw_core_disconnect(c->core);
	pw_context_destroy(c->context);
	pw_main_loop_destroy(c->main_loop);
}

static inline int client_take_position(struct spa_loop *loop, bool async, uint32_t seq, const void *data, size_t size,
				       void *user)
{
	((struct client *)user)->position = *(struct spa_io_position *const *)data;
	return 0;
}

/* For a stream's io_changed: the data thread takes over the new place itself, and so reads none that is going away. */
static inline void client_io_changed(struct client *c, uint32_t id, void *area)
{
	if (id == SPA_IO_Position)
		pw_data_loop_invoke(c->data_loop, client_take_position, 1, &area, sizeof area, true, c);
}

static inline void client_set_channels(struct spa_audio_info_raw *info, uint32_t channels)
{
	static const uint32_t surround[] = {
		SPA_AUDIO_CHANNEL_FL, SPA_AUDIO_CHANNEL_FR, SPA_AUDIO_CHANNEL_FC, SPA_AUDIO_CHANNEL_LFE,
		SPA_AUDIO_CHANNEL_RL, SPA_AUDIO_CHANNEL_RR, SPA_AUDIO_CHANNEL_SL, SPA_AUDIO_CHANNEL_SR,
	};
	info->channels = channels;
	for (uint32_t c = 0; c < channels; c++)
		info->position[c] = channels == 1 ? SPA_AUDIO_CHANNEL_MONO
			: channels == 2 || channels == 8 ? surround[c] : SPA_AUDIO_CHANNEL_AUX0 + c;
}
