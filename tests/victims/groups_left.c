//#Modes: root user leave
// Processes that are no longer in the groups that bear their ids, while others are: two have
// changed places, others have gone to the group of one who has ended.
#include "victim.h"
#include <sys/wait.h>

#define ALL 6

static pid_t pids[ALL];
static int channel[2];

static void start(int which)
{
	pids[which] = MUST(fork());
	if (pids[which])
		return;
	char c;
	close(channel[1]);
	_exit(read(channel[0], &c, 1) ? 1 : 0);
}

static void groups(void)
{
	pid_t now[] = { pids[5], pids[0], pids[3], pids[2], pids[5] };
	for (int i = 0; i < ALL - 1; i++)
		SAME(getpgid(pids[i]), now[i]);
}

int main(void)
{
	MUST(pipe(channel));
	for (int i = 0; i < ALL; i++) {
		start(i);
		MUST(setpgid(pids[i], pids[i]));
	}
	/* 1 stays in the group of 0, who leaves it. */
	MUST(setpgid(pids[1], pids[0]));
	MUST(setpgid(pids[0], pids[5]));
	/* 2 and 3 change places, which takes a third that holds one of the groups. */
	pid_t holder = MUST(fork());
	if (!holder)
		for (;;)
			pause();
	MUST(setpgid(holder, pids[2]));
	MUST(setpgid(pids[2], pids[3]));
	MUST(setpgid(pids[3], pids[2]));
	MUST(kill(holder, SIGKILL));
	MUST(waitpid(holder, NULL, 0));
	/* 4 goes to the group of 5, who ends. */
	MUST(setpgid(pids[4], pids[5]));
	MUST(kill(pids[5], SIGKILL));
	MUST(waitpid(pids[5], NULL, 0));
	groups();
	ready();
	await_verify();
	groups();
	close(channel[1]);
	for (int i = 0; i < ALL - 1; i++) {
		int status;
		SAME(waitpid(pids[i], &status, 0), pids[i]);
		SAME(status, 0);
	}
	ok();
}
