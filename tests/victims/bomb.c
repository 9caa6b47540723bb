//#Modes: none
// More processes than a dump can have, or ones that are faster than it. They end when the test asks to
// verify, or by themselves after a while.
#include "victim.h"
#include <sys/wait.h>

#define MOST 5000

static volatile int *over;
static pid_t children[MOST];
static int count;
static uint64_t deadline;

/* Each starts the next and ends: nobody is there for long enough to be stopped. */
static void hop(void)
{
	while (!*over && now_ns(CLOCK_MONOTONIC) < deadline)
		if (fork())
			_exit(0);
	_exit(0);
}

static void wide(void)
{
	pid_t root = getpid();
	for (int i = 0; i < count; i++) {
		children[i] = MUST(fork());
		if (children[i])
			continue;
		MUST(prctl(PR_SET_PDEATHSIG, SIGKILL));
		while (getppid() == root)
			pause();
		_exit(0);
	}
}

int main(int argc, char **argv)
{
	over = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	deadline = now_ns(CLOCK_MONOTONIC) + 60 * 1000000000ull;
	/* Children are collected by the kernel. */
	signal(SIGCHLD, SIG_IGN);
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	count = argc > 1 ? atoi(argv[1]) : 0;
	CHECK(count <= MOST, "too many are wanted");
	wide();
	for (int i = 0; !count && i < 4; i++)
		if (!MUST(fork()))
			hop();
	say("READY\n");
	await_verify();
	*over = 1;
	for (int i = 0; i < count; i++)
		kill(children[i], SIGKILL);
	/* Until there is none any more. */
	SAME(waitpid(-1, NULL, 0), -1);
	ok();
}
