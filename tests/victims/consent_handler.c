// A program of one thread that opted in, callbacks in the signal handler, linked with the shared
// library; told to, it blocks the signal, or storms itself with both.
//#Library: suspend shared
#include "consent.h"
#include <sys/wait.h>

static void other(const char *line)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	if (!strcmp(line, "block"))
		sigprocmask(SIG_BLOCK, &set, NULL);
	else if (!strcmp(line, "unblock"))
		sigprocmask(SIG_UNBLOCK, &set, NULL);
	else if (!strcmp(line, "pending")) {
		sigpending(&set);
		say("PENDING %d\n", sigismember(&set, SIGUSR1));
		return;
	} else if (!strcmp(line, "hold"))
		suspend_hold();
	else if (!strcmp(line, "release"))
		suspend_release();
	else if (!strcmp(line, "refuse"))
		suspend_hold_for(0, "burning a disc");
	else
		FAIL("asked for '%s'", line);
	say("DONE\n");
}

int main(int argc, char **argv)
{
	if (is_bare(argc, argv)) {
		ready();
		talk(NULL);
		ok();
	}
	for (int i = 1; i < argc; i++) {
		veto |= !strcmp(argv[i], "veto");
		crash |= !strcmp(argv[i], "crash");
		slow |= !strcmp(argv[i], "slow") ? 2000 : 0;
		forks |= !strcmp(argv[i], "fork") ? 1 : 0;
		execs |= !strcmp(argv[i], "execs");
		if (!strcmp(argv[i], "subreaper"))
			MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	}
	opt_in(0, 0, SUSPEND_IN_HANDLER);
	int restarts = argc > 1 && !strcmp(argv[1], "restarts");
	if (!restarts || argc == 2)
		ready();
	if (restarts)
		restart();
	talk(other);
	/* Without waiting: nothing of the program runs before its callbacks have. */
	if (!veto)
		check_notes();
	ok();
}
