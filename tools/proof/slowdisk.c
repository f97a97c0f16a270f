/* slowdisk: a disk that takes its time. Preloaded, it makes each fsync and fdatasync last at least as many
 * milliseconds as the file that $SLOWDISK names says (a decimal number, read anew for each). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void dawdle(void)
{
	char text[16] = { 0 };
	const char *path = getenv("SLOWDISK");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	long ms = n > 0 ? atol(text) : 0;
	struct timespec left = { ms / 1000, ms % 1000 * 1000000 };
	while (ms > 0 && nanosleep(&left, &left) != 0)
		;
}

int fsync(int fd)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
	dawdle();
	return real(fd);
}

int fdatasync(int fd)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
	dawdle();
	return real(fd);
}
