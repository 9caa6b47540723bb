//#Modes: root user leave
// Sessions whose leaders are there, with orphans in them: that came to the leader's parent and past it;
// with children, a group of their own, one without its leader; ended ones; and of a leader who has ended
// and was not collected.
#include "victim.h"
#include <sys/wait.h>

enum { MIDDLE, LEADER, ORPHAN, CHILD, GROUP, MEMBER, ENDED, FAR, ZOMBIE, HEIR, HEIR_ENDED, STOPPED, KINDS };

struct state {
	pid_t pid, parent, group, session;
};
static struct {
	struct state was[KINDS];
	volatile int ready, asked, answered, wrong[KINDS];
} *board;

static void note(int kind)
{
	board->was[kind] = (struct state){ getpid(), getppid(), getpgrp(), getsid(0) };
	__sync_fetch_and_add(&board->ready, 1);
}

/* Notes what it is, and compares when the test asks. */
static void stay(int kind, int code)
{
	int reaper = 0, signal = 0, status;
	note(kind);
	while (!board->asked)
		usleep(1000);
	struct state is = { getpid(), getppid(), getpgrp(), getsid(0) };
	if (kind == MIDDLE || kind == FAR) {
		/* Those of the root are the resuming command's. */
		is.group = board->was[kind].group;
		is.session = board->was[kind].session;
	}
	prctl(PR_GET_CHILD_SUBREAPER, &reaper);
	prctl(PR_GET_PDEATHSIG, &signal);
	if (memcmp(&is, &board->was[kind], sizeof is) || reaper || signal)
		board->wrong[kind] = __LINE__;
	__sync_fetch_and_add(&board->answered, 1);
	while (board->asked < 2)
		usleep(1000);
	while (wait(&status) > 0)
		if (WEXITSTATUS(status) != 30)
			board->wrong[kind] = __LINE__;
	_exit(code);
}

/* A process that loses its parent; waits until it has. */
static int lost(void)
{
	pid_t between = MUST(fork());
	if (between) {
		MUST(waitpid(between, NULL, 0));
		return 0;
	}
	pid_t own = getpid();
	if (MUST(fork()))
		_exit(0);
	while (getppid() == own)
		usleep(100);
	return 1;
}

static void with_child(void)
{
	if (!MUST(fork()))
		stay(CHILD, 30);
	stay(ORPHAN, 20);
}

static void in_groups(void)
{
	MUST(setpgid(0, 0));
	pid_t gone = MUST(fork());
	if (!gone) {
		MUST(setpgid(0, 0));
		pause();
	}
	while (getpgid(gone) != gone)
		usleep(100);
	pid_t member = MUST(fork());
	if (!member) {
		MUST(setpgid(0, gone));
		stay(MEMBER, 30);
	}
	while (getpgid(member) != gone)
		usleep(100);
	kill(gone, SIGKILL);
	MUST(waitpid(gone, NULL, 0));
	stay(GROUP, 20);
}

static void leader(void)
{
	MUST(setsid());
	if (lost())
		with_child();
	if (lost())
		in_groups();
	if (lost()) {
		note(ENDED);
		_exit(20);
	}
	stay(LEADER, 30);
}

/* A leader in a session of its own that is no child of the one who takes in orphans. */
static void middle(void)
{
	if (!MUST(fork()))
		leader();
	stay(MIDDLE, 20);
}

static void ends(void)
{
	MUST(setsid());
	note(ZOMBIE);
	if (lost())
		stay(HEIR, 20);
	if (lost()) {
		note(HEIR_ENDED);
		_exit(20);
	}
	if (lost()) {
		note(STOPPED);
		raise(SIGSTOP);
		struct state is = { getpid(), getppid(), getpgrp(), getsid(0) };
		_exit(memcmp(&is, &board->was[STOPPED], sizeof is) ? 21 : 20);
	}
	_exit(20);
}

static void far(void)
{
	stay(FAR, 20);
}

int main(void)
{
	int reaper = 0, children = 0, status;
	siginfo_t info;
	board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	if (!MUST(fork()))
		middle();
	if (!MUST(fork()))
		ends();
	if (!MUST(fork()))
		far();
	while (board->ready < KINDS)
		usleep(1000);
	/* Ended, not only about to. */
	int ended[] = { ENDED, ZOMBIE, HEIR_ENDED };
	for (int i = 0; i < 3; i++)
		MUST(waitid(P_PID, board->was[ended[i]].pid, &info, WEXITED | WNOWAIT));
	MUST(waitid(P_PID, board->was[STOPPED].pid, &info, WSTOPPED | WNOWAIT));
	SAME(board->was[ORPHAN].session, board->was[LEADER].pid);
	SAME(board->was[ORPHAN].parent, getpid());
	SAME(board->was[HEIR].session, board->was[ZOMBIE].pid);
	ready();
	await_verify();
	MUST(prctl(PR_GET_CHILD_SUBREAPER, &reaper));
	SAME(reaper, 1);
	board->asked = 1;
	for (int n = 0; board->answered < KINDS - 4; n++) {
		CHECK(n < 10000, "only %d answers", board->answered);
		usleep(1000);
	}
	for (int i = 0; i < KINDS; i++)
		CHECK(!board->wrong[i], "%d differs", i);
	board->asked = 2;
	MUST(kill(board->was[STOPPED].pid, SIGCONT));
	for (int i = 0; i < 3; i++) {
		SAME(getsid(board->was[ended[i]].pid), board->was[ended[i]].session);
		SAME(waitpid(board->was[ended[i]].pid, &status, 0), board->was[ended[i]].pid);
		SAME(WEXITSTATUS(status), 20);
	}
	while (wait(&status) > 0) {
		children++;
		SAME(WEXITSTATUS(status), 20);
	}
	SAME(children, 6);
	for (int i = 0; i < KINDS; i++)
		CHECK(!board->wrong[i], "child of %d differs", i);
	ok();
}
