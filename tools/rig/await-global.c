/* await-global: waits until PipeWire's registry shows an object, and prints it.
 *
 *   await-global TIMEOUT_S TYPE [KEY=VALUE ...]      TYPE is the interface's last part: Node, Port, Client, Metadata
 *
 * Prints one JSON object, {"id": N, "KEY": "VALUE", ...} with the object's registry properties, of the first
 * object of that type that has all the given ones. Exit codes: 0 found, 1 not in time, 2 usage, 3 no PipeWire.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pipewire/pipewire.h>

struct wait {
	struct pw_main_loop *loop;
	const char *type;
	char **wanted;
	int n_wanted;
	int exit_code;
};

static bool matches(const struct wait *w, const char *type, const struct spa_dict *props)
{
	const char *last = strrchr(type, ':');
	if (last == NULL || !spa_streq(last + 1, w->type))
		return false;
	for (int i = 0; i < w->n_wanted; i++) {
		const char *equals = strchr(w->wanted[i], '=');
		char *key = strndup(w->wanted[i], equals - w->wanted[i]);
		const char *value = props ? spa_dict_lookup(props, key) : NULL;
		free(key);
		if (!spa_streq(value, equals + 1))
			return false;
	}
	return true;
}

static void print_string(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			putchar('\\');
		if ((unsigned char)*s >= 0x20)
			putchar(*s);
	}
	putchar('"');
}

static void on_global(void *data, uint32_t id, uint32_t permissions, const char *type, uint32_t version,
		      const struct spa_dict *props)
{
	struct wait *w = data;
	const struct spa_dict_item *item;
	if (w->exit_code == 0 || !matches(w, type, props))
		return;
	printf("{\"id\": %u", id);
	if (props != NULL) {
		spa_dict_for_each(item, props) {
			printf(", ");
			print_string(item->key);
			printf(": ");
			print_string(item->value);
		}
	}
	printf("}\n");
	w->exit_code = 0;
	pw_main_loop_quit(w->loop);
}

static const struct pw_registry_events registry_events = {
	PW_VERSION_REGISTRY_EVENTS,
	.global = on_global,
};

static void on_core_error(void *data, uint32_t id, int seq, int res, const char *message)
{
	struct wait *w = data;
	if (id == PW_ID_CORE && res == -EPIPE) {
		w->exit_code = 3;
		pw_main_loop_quit(w->loop);
	}
}

static const struct pw_core_events core_events = {
	PW_VERSION_CORE_EVENTS,
	.error = on_core_error,
};

static void on_timeout(void *data, uint64_t expirations)
{
	pw_main_loop_quit(((struct wait *)data)->loop);
}

int main(int argc, char *argv[])
{
	double timeout_s = argc > 2 ? strtod(argv[1], NULL) : 0;
	struct wait w = { .type = argv[2], .wanted = argv + 3, .n_wanted = argc - 3, .exit_code = 1 };
	bool bad = timeout_s <= 0;
	for (int i = 0; !bad && i < w.n_wanted; i++)
		bad = strchr(w.wanted[i], '=') == NULL;
	if (bad) {
		fputs("usage: await-global TIMEOUT_S TYPE [KEY=VALUE ...]\n", stderr);
		return 2;
	}
	pw_init(NULL, NULL);
	w.loop = pw_main_loop_new(NULL);
	struct pw_loop *loop = pw_main_loop_get_loop(w.loop);
	struct pw_context *context = pw_context_new(loop, NULL, 0);
	struct pw_core *core = pw_context_connect(context, NULL, 0);
	if (core == NULL)
		return 3;
	struct spa_hook core_hook = { 0 }, registry_hook = { 0 };
	pw_core_add_listener(core, &core_hook, &core_events, &w);
	struct pw_registry *registry = pw_core_get_registry(core, PW_VERSION_REGISTRY, 0);
	pw_registry_add_listener(registry, &registry_hook, &registry_events, &w);
	struct timespec timeout = { (time_t)timeout_s, (long)((timeout_s - (time_t)timeout_s) * 1e9) };
	pw_loop_update_timer(loop, pw_loop_add_timer(loop, on_timeout, &w), &timeout, NULL, false);
	pw_main_loop_run(w.loop);

	pw_proxy_destroy((struct pw_proxy *)registry);
	pw_core_disconnect(core);
	pw_context_destroy(context);
	pw_main_loop_destroy(w.loop);
	pw_deinit();
	return w.exit_code;
}
