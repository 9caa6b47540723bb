//#Modes: root user newpid leave left
// Signals of a descriptor that go to a process outside: after a resume, where its number may be
// somebody else's, they go to nobody. What goes to the program itself goes there still.
#include "victim.h"

static char was[4096];

static int is_resumed(void)
{
	char now[4096];
	ssize_t n = MUST(readlink("/proc/self/exe", now, sizeof now - 1));
	now[n] = 0;
	return strcmp(now, was);
}

int main(void)
{
	int outside[2], group[2], own[2];
	MUST(readlink("/proc/self/exe", was, sizeof was - 1));
	pid_t parent = getppid();
	MUST(setpgid(0, 0));
	struct f_owner_ex other = { F_OWNER_PGRP, MUST(getpgid(parent)) };
	MUST(pipe(outside));
	MUST(fcntl(outside[0], F_SETOWN, parent));
	MUST(pipe(group));
	MUST(fcntl(group[0], F_SETOWN_EX, &other));
	MUST(pipe(own));
	MUST(fcntl(own[0], F_SETOWN, getpid()));
	ready();
	await_verify();

	SAME(fcntl(own[0], F_GETOWN), getpid());
	struct f_owner_ex now;
	MUST(fcntl(outside[0], F_GETOWN_EX, &now));
	SAME(now.pid, is_resumed() ? 0 : parent);
	MUST(fcntl(group[0], F_GETOWN_EX, &now));
	SAME(now.pid, is_resumed() ? 0 : other.pid);
	ok();
}
