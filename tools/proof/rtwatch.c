/* rtwatch: preloaded into a PipeWire client, it watches what its process callback does.
 *
 * pw_filter_add_listener and pw_stream_add_listener are interposed, so that each process callback runs between
 * watch_on and watch_off. Between both it counts, per thread: allocations, frees and mutex locks (interposed), system
 * calls by their number (Syscall User Dispatch; each is carried out and goes on), page faults (getrusage, taken
 * outside), and whether the thread was moved to another processor. The counters are in the file that $RTWATCH names;
 * beside it, in $RTWATCH.faults, stands where each page fault was, where the kernel tells (perf_event_open).
 *
 * Before a thread's first callback the same detectors are shown one of each offence; what they saw of it stands in a
 * second set of counters.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <pipewire/filter.h>
#include <pipewire/stream.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_ON 1
#endif
#define MAX_LISTENERS 128
#define N_SYSCALLS 512
#define LIBRARY "libpipewire-0.3.so.0"

/* As rtcheck.py reads it: all uint64. */
struct counters {
	uint64_t callbacks, allocations, frees, locks, signals, minor_faults, major_faults, migrations;
	uint64_t syscalls[N_SYSCALLS];
};

struct report {
	struct counters seen, control;
	uint64_t dispatch_errno;
};

/* Counted here, and copied to the file when nothing is watched: to write to a file's page may itself fault. */
static struct report kept, *file;
static __thread struct counters *watched __attribute__((tls_model("initial-exec")));
static __thread volatile char selector __attribute__((tls_model("initial-exec")));
static __thread bool prepared __attribute__((tls_model("initial-exec")));
static int (*real_lock)(pthread_mutex_t *);
static int (*real_trylock)(pthread_mutex_t *);

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

#define COUNT(what) do { if (watched) watched->what++; } while (0)

void *malloc(size_t n) { COUNT(allocations); return __libc_malloc(n); }
void *calloc(size_t n, size_t size) { COUNT(allocations); return __libc_calloc(n, size); }
void *realloc(void *old, size_t n) { COUNT(allocations); return __libc_realloc(old, n); }
void *memalign(size_t to, size_t n) { COUNT(allocations); return __libc_memalign(to, n); }
void *aligned_alloc(size_t to, size_t n) { COUNT(allocations); return __libc_memalign(to, n); }
int posix_memalign(void **at, size_t to, size_t n)
{
	COUNT(allocations);
	*at = __libc_memalign(to, n);
	return *at ? 0 : ENOMEM;
}
void free(void *old) { COUNT(frees); __libc_free(old); }

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
	COUNT(locks);
	if (!real_lock)
		real_lock = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_lock");
	return real_lock(mutex);
}

int pthread_mutex_trylock(pthread_mutex_t *mutex)
{
	COUNT(locks);
	if (!real_trylock)
		real_trylock = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_trylock");
	return real_trylock(mutex);
}

/* System calls made from between these two labels are never dispatched: the handler's own, and its return. */
__asm__(
	".text\n"
	".globl rtwatch_free_begin, rtwatch_free_end, rtwatch_call, rtwatch_restore\n"
	".hidden rtwatch_free_begin, rtwatch_free_end, rtwatch_call, rtwatch_restore\n"
	"rtwatch_free_begin:\n"
	"rtwatch_call:\n"	/* long rtwatch_call(const long args[7]): args[0] is the number */
	"	mov %rdi, %r11\n"
	"	mov 0(%r11), %rax\n"
	"	mov 8(%r11), %rdi\n"
	"	mov 16(%r11), %rsi\n"
	"	mov 24(%r11), %rdx\n"
	"	mov 32(%r11), %r10\n"
	"	mov 40(%r11), %r8\n"
	"	mov 48(%r11), %r9\n"
	"	syscall\n"
	"	ret\n"
	"rtwatch_restore:\n"
	"	mov $15, %eax\n"
	"	syscall\n"
	"	hlt\n"
	"rtwatch_free_end:\n");
extern char rtwatch_free_begin[], rtwatch_free_end[];
extern long rtwatch_call(const long *args);
extern void rtwatch_restore(void);

static void on_syscall(int number, siginfo_t *info, void *context)
{
	greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
	const long args[7] = { info->si_syscall, r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8], r[REG_R9] };
	if (watched && args[0] == SYS_write && args[3] == 8)
		watched->signals++;
	else if (watched)
		watched->syscalls[args[0] & (N_SYSCALLS - 1)]++;
	r[REG_RAX] = rtwatch_call(args);
}

/* ---- where a page fault was ---- */

#define RING_BYTES (8 * 4096)
static __thread struct perf_event_mmap_page *ring __attribute__((tls_model("initial-exec")));
static char places[4096];

/* Has the kernel write down each page fault of this thread. */
static void locate_faults(void)
{
	struct perf_event_attr wanted = {
		.type = PERF_TYPE_SOFTWARE, .size = sizeof wanted, .config = PERF_COUNT_SW_PAGE_FAULTS,
		.sample_period = 1, .sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_ADDR,
	};
	int fd = syscall(SYS_perf_event_open, &wanted, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, 4096 + RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ring = at == MAP_FAILED ? NULL : at;
}

static void drop_places(void)
{
	if (ring)
		ring->data_tail = __atomic_load_n(&ring->data_head, __ATOMIC_ACQUIRE);
}

static void tell_mapping(FILE *to, uint64_t at)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	uint64_t begin, end;
	while (maps && fgets(line, sizeof line, maps))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64, &begin, &end) == 2 && begin <= at && at < end)
			fprintf(to, " +%#" PRIx64 " of %s", at - begin, line);
	if (maps)
		fclose(maps);
}

/* Outside of the callback: what was written down since. */
static void tell_places(void)
{
	FILE *to = ring && places[0] ? fopen(places, "ae") : NULL;
	const char *data = (const char *)ring + 4096;
	for (uint64_t at = ring ? ring->data_tail : 0, head = to ? ring->data_head : at; at < head;) {
		uint64_t words[3];
		for (size_t k = 0; k < sizeof words; k++)
			((char *)words)[k] = data[(at + k) % RING_BYTES];
		const struct perf_event_header *header = (const void *)words;
		Dl_info code = { 0 };
		if (header->type == PERF_RECORD_SAMPLE) {
			dladdr((void *)words[1], &code);
			fprintf(to, "%s in %s at", code.dli_sname ? code.dli_sname : "?",
				code.dli_fname ? code.dli_fname : "?");
			tell_mapping(to, words[2]);
		}
		at += header->size;
	}
	if (to)
		fclose(to);
	drop_places();
}

struct kernel_sigaction {
	void (*handler)(int, siginfo_t *, void *);
	unsigned long flags;
	void (*restorer)(void);
	unsigned long mask;
};

static void watch_on(struct counters *to, struct rusage *before, int *processor)
{
	drop_places();
	getrusage(RUSAGE_THREAD, before);
	*processor = sched_getcpu();
	watched = to;
	selector = 1;
}

static void watch_off(struct rusage *before, int processor)
{
	struct counters *to = watched;
	struct rusage after;
	selector = 0;
	watched = NULL;
	to->migrations += sched_getcpu() != processor;
	getrusage(RUSAGE_THREAD, &after);
	to->minor_faults += after.ru_minflt - before->ru_minflt;
	to->major_faults += after.ru_majflt - before->ru_majflt;
	to->callbacks++;
	if (to == &kept.seen && after.ru_minflt + after.ru_majflt != before->ru_minflt + before->ru_majflt)
		tell_places();
	if (file)
		*file = kept;
}

static void move_to_another_processor(void)
{
	cpu_set_t all, one;
	int here = sched_getcpu();
	if (sched_getaffinity(0, sizeof all, &all) != 0)
		return;
	for (int k = 0; k < CPU_SETSIZE; k++) {
		if (k == here || !CPU_ISSET(k, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(k, &one);
		sched_setaffinity(0, sizeof one, &one);
		sched_setaffinity(0, sizeof all, &all);
		return;
	}
}

/* One of each offence, which the detectors must see. */
static void offend(void)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	struct rusage before;
	int processor;
	volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	watch_on(&kept.control, &before, &processor);
	void *volatile some = malloc(64);
	free(some);
	pthread_mutex_lock(&mutex);
	pthread_mutex_unlock(&mutex);
	syscall(SYS_getppid);
	page[0] = 1;
	move_to_another_processor();
	watch_off(&before, processor);
	munmap((void *)page, 4096);
}

static void prepare_thread(void)
{
	const struct kernel_sigaction action = { on_syscall, SA_SIGINFO | SA_NODEFER | 0x04000000, rtwatch_restore, 0 };
	prepared = true;
	syscall(SYS_rt_sigaction, SIGSYS, &action, NULL, 8);
	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, rtwatch_free_begin,
		  rtwatch_free_end - rtwatch_free_begin, &selector) != 0)
		kept.dispatch_errno = errno;
	locate_faults();
	offend();
}

/* ---- the callbacks between ---- */

static struct {
	void *data;
	void (*filter)(void *, struct spa_io_position *);
	void (*stream)(void *);
} listeners[MAX_LISTENERS];
static _Atomic unsigned int n_listeners;

static unsigned int place_of(const void *data)
{
	unsigned int k = n_listeners;
	while (k-- > 0)
		if (listeners[k % MAX_LISTENERS].data == data)
			return k % MAX_LISTENERS;
	abort();
}

static void watch_filter(void *data, struct spa_io_position *position)
{
	unsigned int k = place_of(data);
	struct rusage before;
	int processor;
	if (!prepared)
		prepare_thread();
	watch_on(&kept.seen, &before, &processor);
	listeners[k].filter(data, position);
	watch_off(&before, processor);
}

static void watch_stream(void *data)
{
	unsigned int k = place_of(data);
	struct rusage before;
	int processor;
	if (!prepared)
		prepare_thread();
	watch_on(&kept.seen, &before, &processor);
	listeners[k].stream(data);
	watch_off(&before, processor);
}

static void *libpipewire(const char *symbol)
{
	return dlsym(dlopen(LIBRARY, RTLD_NOW), symbol);
}

void pw_filter_add_listener(struct pw_filter *filter, struct spa_hook *hook, const struct pw_filter_events *events,
			    void *data)
{
	void (*real)(struct pw_filter *, struct spa_hook *, const struct pw_filter_events *, void *) =
		libpipewire("pw_filter_add_listener");
	struct pw_filter_events *ours = __libc_malloc(sizeof *ours);
	unsigned int k = n_listeners % MAX_LISTENERS;
	*ours = *events;
	listeners[k].data = data;
	listeners[k].filter = events->process;
	n_listeners++;
	ours->process = watch_filter;
	real(filter, hook, ours, data);
}

void pw_stream_add_listener(struct pw_stream *stream, struct spa_hook *hook, const struct pw_stream_events *events,
			    void *data)
{
	void (*real)(struct pw_stream *, struct spa_hook *, const struct pw_stream_events *, void *) =
		libpipewire("pw_stream_add_listener");
	struct pw_stream_events *ours = __libc_malloc(sizeof *ours);
	unsigned int k = n_listeners % MAX_LISTENERS;
	*ours = *events;
	listeners[k].data = data;
	listeners[k].stream = events->process;
	n_listeners++;
	ours->process = watch_stream;
	real(stream, hook, ours, data);
}

__attribute__((constructor)) static void open_report(void)
{
	const char *path = getenv("RTWATCH");
	int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
	memset(&kept, 0, sizeof kept);
	if (path)
		snprintf(places, sizeof places, "%s.faults", path);
	if (fd < 0 || ftruncate(fd, sizeof kept) != 0)
		return;
	void *at = mmap(NULL, sizeof kept, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at != MAP_FAILED)
		file = at;
	close(fd);
}
