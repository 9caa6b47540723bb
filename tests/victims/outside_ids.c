//#Modes: none
// A child's id is the process group of a process outside of the tree, or, with an argument, a session
// there that has no group of this id any more. Tells the outsider's id first.
#include "victim.h"
#include <sys/wait.h>

static struct {
	volatile pid_t child, parent, outsider;
	volatile int asked;
} *board;

/* A process that is no descendant of the tree in the end. */
static void outsider(int leaves)
{
	prctl(PR_SET_NAME, "outsider");
	for (int fd = 0; fd < 3; fd++)
		close(fd);
	pid_t parent = getppid();
	board->parent = parent;
	while (getppid() == parent)
		usleep(100);
	MUST(setpgid(0, leaves ? 0 : board->child));
	board->outsider = getpid();
	sleep(100);
	_exit(0);
}

/* Ends when the outsider is there; the root may collect it, or whoever. */
static void go_between(int leaves)
{
	if (!MUST(fork()))
		outsider(leaves);
	while (!board->parent)
		usleep(100);
	_exit(0);
}

static void child(int session)
{
	if (session)
		MUST(setsid());
	else
		MUST(setpgid(0, 0));
	board->child = getpid();
	if (session) {
		pid_t between = MUST(fork());
		if (!between)
			go_between(1);
		MUST(waitpid(between, NULL, 0));
	}
	while (!board->asked)
		usleep(1000);
	_exit(getpid() == board->child && getpgrp() == board->child ? 5 : 6);
}

int main(int argc, char **argv)
{
	int session = argc > 1, status;
	(void)argv;
	board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t c = MUST(fork());
	if (!c)
		child(session);
	while (!board->child)
		usleep(100);
	if (!session) {
		pid_t between = MUST(fork());
		if (!between)
			go_between(0);
		MUST(waitpid(between, NULL, 0));
	}
	while (!board->outsider)
		usleep(100);
	say("OUTSIDER %d CHILD %d\n", board->outsider, board->child);
	ready();
	await_verify();
	board->asked = 1;
	SAME(waitpid(c, &status, 0), c);
	SAME(WEXITSTATUS(status), 5);
	ok();
}
