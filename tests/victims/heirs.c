//#Modes: root user leave
// Two processes of a session whose leader has ended, each of whom had a child before it left the session;
// and a row of processes that left sessions one after the other, whose last child is in the first one's.
#include "victim.h"
#include <sys/wait.h>

enum { HEIRS = 2, ROW = 3 };

static struct {
	pid_t leader, own[HEIRS], session_of_child[HEIRS], row[ROW], last;
	volatile int ready, asked, answered, wrong;
} *board;

static void until(volatile int *what, int count)
{
	while (*what < count)
		usleep(500);
}

static void stay(pid_t parent, pid_t session)
{
	if (getppid() != parent || (session && getsid(0) != session))
		board->wrong = __LINE__;
	__sync_fetch_and_add(&board->ready, 1);
	until(&board->asked, 1);
	if (getppid() != parent || (session && getsid(0) != session))
		board->wrong = __LINE__;
	__sync_fetch_and_add(&board->answered, 1);
	until(&board->asked, 2);
}

static void collect(void)
{
	int status;
	while (wait(&status) > 0)
		if (status)
			board->wrong = __LINE__;
}

static void heir(int i, pid_t root)
{
	/* The leader ends. */
	while (getppid() != root)
		usleep(100);
	board->own[i] = getpid();
	pid_t child = MUST(fork());
	if (!child) {
		stay(board->own[i], board->leader);
		_exit(0);
	}
	MUST(setsid());
	stay(root, board->own[i]);
	collect();
	_exit(0);
}

/* Each has a child, which has a child, and so on, and then leaves the session of all. */
static void row(int i)
{
	pid_t parent = getpid();
	pid_t child = MUST(fork());
	if (child) {
		return;
	}
	if (i < ROW) {
		row(i + 1);
		while (board->last == 0)
			usleep(100);
		MUST(setsid());
		stay(parent, getpid());
		collect();
		_exit(0);
	}
	board->last = getpid();
	/* In the session of the root, which is the resuming command's. */
	while (!board->asked)
		usleep(500);
	if (getppid() != parent || getsid(0) != getsid(board->row[0]))
		board->wrong = __LINE__;
	_exit(0);
}

int main(void)
{
	board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	pid_t root = getpid(), leader = MUST(fork());
	board->row[0] = root;
	if (!leader) {
		board->leader = MUST(setsid());
		for (int i = 0; i < HEIRS; i++)
			if (!MUST(fork()))
				heir(i, root);
		_exit(0);
	}
	MUST(waitpid(leader, NULL, 0));
	until(&board->ready, 2 * HEIRS);
	row(0);
	until(&board->ready, 2 * HEIRS + ROW);
	ready();
	await_verify();
	board->asked = 1;
	for (int n = 0; board->answered < 2 * HEIRS + ROW; n++) {
		CHECK(n < 20000, "only %d answers", board->answered);
		usleep(500);
	}
	board->asked = 2;
	collect();
	CHECK(!board->wrong, "line %d", board->wrong);
	ok();
}
