//#Modes: root user leave
// Daemons: sessions whose leaders have ended and were collected. Several in one session, with children,
// groups of their own and one without its leader; below a second subreaper; one that has ended; one whose
// parent has left the session and is no subreaper.
#include "victim.h"
#include <sys/wait.h>

enum { FIRST, SECOND, WORKER, HELPER, MEMBER, KEEPER, INNER, LEFT, LEAVER, ENDED, KINDS };

struct state {
	pid_t pid, parent, group, session;
};
static struct {
	struct state was[KINDS];
	volatile int ready, asked, answered, wrong[KINDS];
} *board;

static struct state now(void)
{
	return (struct state){ getpid(), getppid(), getpgrp(), getsid(0) };
}

/* Notes what it is, and compares when the test asks. */
static void stay(int kind, int code)
{
	int reaper = 0, signal = 0;
	board->was[kind] = now();
	__sync_fetch_and_add(&board->ready, 1);
	while (!board->asked)
		usleep(1000);
	struct state is = now();
	prctl(PR_GET_CHILD_SUBREAPER, &reaper);
	prctl(PR_GET_PDEATHSIG, &signal);
	if (memcmp(&is, &board->was[kind], sizeof is) || reaper != (kind == KEEPER) || signal)
		board->wrong[kind] = __LINE__;
	__sync_fetch_and_add(&board->answered, 1);
	while (board->asked < 2)
		usleep(1000);
	for (;;) {
		int status;
		if (wait(&status) < 0 && errno == ECHILD)
			break;
		if (WEXITSTATUS(status) != 30)
			board->wrong[kind] = __LINE__;
	}
	_exit(code);
}

static void lose_parent(pid_t leader)
{
	while (getppid() == leader)
		usleep(100);
}

/* The group is there before anyone else counts on it. */
static void own_group(void)
{
	MUST(setpgid(0, 0));
}

static void first(void)
{
	if (!MUST(fork())) {
		own_group();
		if (!MUST(fork()))
			stay(HELPER, 30);
		stay(WORKER, 30);
	}
	pid_t lost = MUST(fork());
	if (!lost) {
		own_group();
		pause();
	}
	while (getpgid(lost) != lost)
		usleep(100);
	pid_t member = MUST(fork());
	if (!member) {
		MUST(setpgid(0, lost));
		stay(MEMBER, 30);
	}
	while (getpgid(member) != lost)
		usleep(100);
	kill(lost, SIGKILL);
	MUST(waitpid(lost, NULL, 0));
	stay(FIRST, 20);
}

/* A leader of a session starts `count` processes, and ends. */
static void daemons(void (*const what[])(void), int count)
{
	pid_t leader = MUST(fork());
	if (!leader) {
		pid_t own = MUST(setsid());
		for (int i = 0; i < count; i++)
			if (!MUST(fork())) {
				lose_parent(own);
				what[i]();
			}
		_exit(0);
	}
	SAME(waitpid(leader, NULL, 0), leader);
}

static void second(void) { stay(SECOND, 20); }
static void inner(void) { stay(INNER, 30); }
static void ended(void)
{
	board->was[ENDED] = now();
	__sync_fetch_and_add(&board->ready, 1);
	_exit(20);
}

static void leaver(void)
{
	if (!MUST(fork()))
		stay(LEFT, 30);
	while (!board->was[LEFT].pid)
		usleep(100);
	MUST(setsid());
	stay(LEAVER, 20);
}

static void keeper(void)
{
	MUST(setsid());
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	daemons((void (*const[])(void)){ inner }, 1);
	stay(KEEPER, 20);
}

int main(void)
{
	int reaper = 0;
	board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	daemons((void (*const[])(void)){ first, second }, 2);
	daemons((void (*const[])(void)){ leaver }, 1);
	daemons((void (*const[])(void)){ ended }, 1);
	if (!MUST(fork()))
		keeper();
	while (board->ready < KINDS)
		usleep(1000);
	/* Ended, not only about to. */
	siginfo_t info;
	MUST(waitid(P_PID, board->was[ENDED].pid, &info, WEXITED | WNOWAIT));
	for (int i = 0; i < KINDS; i++)
		if (i != KEEPER && i != LEAVER)
			CHECK(kill(board->was[i].session, 0) < 0 && errno == ESRCH, "leader of %d lives", i);
	SAME(board->was[HELPER].group, board->was[WORKER].pid);
	ready();
	await_verify();
	MUST(prctl(PR_GET_CHILD_SUBREAPER, &reaper));
	SAME(reaper, 1);
	board->asked = 1;
	for (int n = 0; board->answered < KINDS - 1; n++) {
		CHECK(n < 10000, "only %d answers", board->answered);
		usleep(1000);
	}
	for (int i = 0; i < KINDS; i++)
		CHECK(!board->wrong[i], "%d differs", i);
	board->asked = 2;
	int children = 0, status;
	pid_t pid;
	while ((pid = wait(&status)) > 0) {
		children++;
		SAME(WEXITSTATUS(status), 20);
		if (pid == board->was[ENDED].pid)
			board->was[ENDED].pid = 0;
	}
	SAME(children, 5);
	SAME(board->was[ENDED].pid, 0);
	for (int i = 0; i < KINDS; i++)
		CHECK(!board->wrong[i], "child of %d differs", i);
	ok();
}
