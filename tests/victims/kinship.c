//#Modes: root user leave
// Orphans come to a subreaper within the tree, before a dump and after a resume, and children hear of
// their parent's end by the signal that they asked for.
#include "victim.h"
#include <sys/wait.h>

struct board {
	volatile pid_t child;
	volatile int ready, asked, heard, parent;
};

static struct board *board;

static void hears(int signal)
{
	(void)signal;
	board->heard++;
}

static void child(void)
{
	int signal = 0;
	struct sigaction a = { .sa_handler = hears };
	MUST(sigaction(SIGUSR1, &a, NULL));
	MUST(prctl(PR_SET_PDEATHSIG, SIGUSR1));
	board->child = getpid();
	board->ready++;
	while (!board->heard)
		usleep(1000);
	MUST(prctl(PR_GET_PDEATHSIG, &signal));
	board->parent = getppid();
	_exit(signal == SIGUSR1 ? 6 : 7);
}

static void middle(void)
{
	int reaper = 1;
	if (!MUST(fork()))
		child();
	pid_t lost = MUST(fork());
	if (!lost) {
		pid_t own = getpid();
		/* An orphan before the dump: its parent is between the subreaper and it. */
		if (!MUST(fork())) {
			while (getppid() == own)
				usleep(100);
			board->parent = getppid();
			board->ready++;
			while (!board->asked)
				usleep(1000);
			/* A subreaper is not inherited. */
			prctl(PR_GET_CHILD_SUBREAPER, &reaper);
			_exit(getppid() == board->parent && !reaper ? 8 : 9);
		}
		_exit(0);
	}
	MUST(waitpid(lost, NULL, 0));
	for (;;)
		pause();
}

int main(void)
{
	int status, reaper = 0;
	board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	pid_t m = MUST(fork());
	if (!m)
		middle();
	while (board->ready < 2)
		usleep(1000);
	SAME(board->parent, getpid());
	ready();
	await_verify();
	MUST(prctl(PR_GET_CHILD_SUBREAPER, &reaper));
	SAME(reaper, 1);
	SAME(board->heard, 0);
	MUST(kill(m, SIGKILL));
	SAME(waitpid(m, &status, 0), m);
	SAME(waitpid(board->child, &status, 0), board->child);
	SAME(board->parent, getpid());
	SAME(WEXITSTATUS(status), 6);
	board->asked = 1;
	MUST(wait(&status));
	SAME(WEXITSTATUS(status), 8);
	SAME(waitpid(-1, NULL, WNOHANG), -1);
	ok();
}
