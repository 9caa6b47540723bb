//#Modes: root user leave
// Orphans of one session that came to three processes above its leader, each above the other, while
// these became subreapers one after the other: of a leader who is there, of one who has ended and was
// not collected, and of one of whom nothing is left.
#include "victim.h"
#include <sys/wait.h>

enum { LEVELS = 3, SESSIONS = 3 };
enum { THERE, ZOMBIE, COLLECTED };

struct state {
	pid_t pid, parent, group, session;
};
static struct {
	struct state level[LEVELS], orphan[SESSIONS][LEVELS];
	volatile pid_t leader[SESSIONS];
	/* How many levels take in orphans, the root being the first; how many orphans are there. */
	volatile int reapers, orphans, ready, asked, answered, wrong;
} *board;

static void until(volatile int *what, int count)
{
	while (*what < count)
		usleep(500);
}

static struct state now(void)
{
	return (struct state){ getpid(), getppid(), getpgrp(), getsid(0) };
}

/* Compares when the test asks, and ends when it asks again. */
static void stay(struct state was, int reaper, int is_level)
{
	__sync_fetch_and_add(&board->ready, 1);
	until(&board->asked, 1);
	struct state is = now();
	int found = -1, signal = -1;
	if (is_level) {
		/* Those of the root are the resuming command's. */
		is.group = was.group;
		is.session = was.session;
	}
	prctl(PR_GET_CHILD_SUBREAPER, &found);
	prctl(PR_GET_PDEATHSIG, &signal);
	if (memcmp(&is, &was, sizeof is) || found != reaper || signal)
		board->wrong = __LINE__;
	__sync_fetch_and_add(&board->answered, 1);
	until(&board->asked, 2);
}

static void orphan(int session, int level, pid_t parent)
{
	while (getppid() == parent)
		usleep(100);
	board->orphan[session][level] = now();
	__sync_fetch_and_add(&board->orphans, 1);
	stay(board->orphan[session][level], 0, 0);
	_exit(40 + level);
}

static void leader(int session)
{
	MUST(setsid());
	board->leader[session] = getpid();
	for (int level = 0; level < LEVELS; level++) {
		/* The levels below take in nobody yet. */
		until(&board->reapers, level + 1);
		pid_t between = MUST(fork());
		if (!between) {
			pid_t own = getpid();
			if (!MUST(fork()))
				orphan(session, level, own);
			_exit(0);
		}
		MUST(waitpid(between, NULL, 0));
	}
	if (session == THERE)
		stay(now(), 0, 0);
	_exit(50);
}

static void collect(int wanted, int count)
{
	for (int i = 0; i < count; i++) {
		int status;
		MUST(wait(&status));
		if (WEXITSTATUS(status) != wanted && WEXITSTATUS(status) != 50 && WEXITSTATUS(status) != 60)
			board->wrong = __LINE__;
	}
	if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
		board->wrong = __LINE__;
}

static void level(int depth)
{
	pid_t child = MUST(fork());
	if (!child) {
		if (depth + 1 < LEVELS)
			level(depth + 1);
		for (int s = 0; s < SESSIONS; s++)
			if (!MUST(fork()))
				leader(s);
		/* It collects one leader and lets another be. */
		until(&board->orphans, SESSIONS * LEVELS);
		MUST(waitpid(board->leader[COLLECTED], NULL, 0));
		siginfo_t info;
		MUST(waitid(P_PID, board->leader[ZOMBIE], &info, WEXITED | WNOWAIT));
		stay(now(), 0, 1);
		collect(50, 2);
		_exit(60);
	}
	/* Those of the level above have come to it before this one takes in any. */
	until(&board->orphans, SESSIONS * depth);
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	board->reapers = depth + 1;
	if (!depth)
		return;
	stay(now(), 1, 1);
	collect(40 + depth, SESSIONS + 1);
	_exit(60);
}

int main(void)
{
	board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	level(0);
	/* The other levels, who starts the leaders, the one that is there, the orphans. */
	int all = LEVELS + 1 + SESSIONS * LEVELS;
	until(&board->ready, all);
	ready();
	await_verify();
	board->asked = 1;
	for (int n = 0; board->answered < all; n++) {
		CHECK(n < 20000, "only %d answers", board->answered);
		usleep(500);
	}
	for (int s = 0; s < SESSIONS; s++)
		for (int l = 0; l < LEVELS; l++)
			SAME(board->orphan[s][l].session, board->leader[s]);
	board->asked = 2;
	collect(40, SESSIONS + 1);
	CHECK(!board->wrong, "line %d", board->wrong);
	ok();
}
