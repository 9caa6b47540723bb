//#Modes: root user leave
// Each process of a tree looks at itself in /proc.
#include "victim.h"
#include <sys/wait.h>

#define CHILDREN 3

static void pid_of(int fd, char *text, size_t size)
{
	char all[4096];
	ssize_t n = MUST(pread(fd, all, sizeof all - 1, 0));
	all[n] = 0;
	char *pid = strstr(all, "\nPid:");
	CHECK(pid, "no pid in '%s'", all);
	*strchr(pid + 1, '\n') = 0;
	snprintf(text, size, "%s", pid + 1);
}

static void look(int held)
{
	char then[64], now[64];
	int fresh = MUST(open("/proc/self/status", O_RDONLY));
	pid_of(fresh, now, sizeof now);
	pid_of(held, then, sizeof then);
	CHECK(!strcmp(then, now), "'%s' is not '%s'", then, now);
	close(fresh);
}

int main(void)
{
	int go[2], made[2];
	MUST(pipe(go));
	MUST(pipe(made));
	int own = MUST(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
	for (int i = 0; i < CHILDREN; i++) {
		if (MUST(fork()))
			continue;
		close(own);
		close(go[1]);
		char c;
		int held = MUST(open("/proc/self/status", O_RDONLY));
		MUST(write(made[1], "x", 1));
		SAME(read(go[0], &c, 1), 0);
		look(held);
		_exit(7);
	}
	char c;
	for (int i = 0; i < CHILDREN; i++)
		SAME(read(made[0], &c, 1), 1);
	ready();
	await_verify();
	look(own);
	close(go[1]);
	for (int i = 0; i < CHILDREN; i++) {
		int status;
		MUST(wait(&status));
		SAME(status, W_EXITCODE(7, 0));
	}
	ok();
}
