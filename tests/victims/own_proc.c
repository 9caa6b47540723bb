//#Modes: root user newpid leave left
// Files of /proc in which a program looks at itself, as browsers and monitors keep them open.
#include "victim.h"
#include <dirent.h>

static void status(int fd, char *text, size_t size)
{
	ssize_t n = MUST(pread(fd, text, size - 1, 0));
	text[n] = 0;
	char *pid = strstr(text, "\nPid:");
	CHECK(pid, "no pid in '%s'", text);
	memmove(text, pid, 24);
	*strchr(text + 1, '\n') = 0;
}

int main(void)
{
	char path[64], then[4096], now[4096];
	snprintf(path, sizeof path, "/proc/%d/statm", getpid());
	int statm = MUST(open(path, O_RDONLY | O_CLOEXEC));
	int held = MUST(open("/proc/self/status", O_RDONLY));
	int memory = MUST(open("/proc/self/mem", O_RDWR));
	int directory = MUST(open("/proc/self/fd", O_RDONLY | O_DIRECTORY));
	int own = MUST(open("/proc/self", O_PATH | O_DIRECTORY));
	static volatile int number = 5;
	ready();
	await_verify();
	CHECK(pread(statm, now, sizeof now, 0) > 10, "nothing in statm");
	SAME(fcntl(statm, F_GETFD), FD_CLOEXEC);
	// It is about this process, whatever its pid is by now.
	int fresh = MUST(open("/proc/self/status", O_RDONLY));
	status(fresh, now, sizeof now);
	status(held, then, sizeof then);
	CHECK(!strcmp(then, now), "'%s' is not '%s'", then, now);
	int new = 7;
	MUST(pwrite(memory, &new, sizeof new, (off_t)(uintptr_t)&number));
	SAME(number, 7);
	char name[16];
	snprintf(name, sizeof name, "%d", fresh);
	struct stat a, b;
	MUST(fstatat(directory, name, &a, 0));
	MUST(fstat(fresh, &b));
	SAME(a.st_ino, b.st_ino);
	MUST(fstatat(own, "status", &a, 0));
	SAME(a.st_ino, b.st_ino);
	ok();
}
