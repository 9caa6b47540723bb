// A program with handlers of its own for the two signals, and no library: nothing of it runs
// between the return of its handler and the resume handler.
//#Dump: --consent require
#include "victim.h"

static volatile uint64_t turns, at_suspend;
static volatile int suspended, resumed, wrong, others;

static void on_suspend(int signal)
{
	(void)signal;
	/* Others come between, and return first. */
	raise(SIGALRM);
	at_suspend = turns;
	suspended++;
}

static void on_resume(int signal)
{
	(void)signal;
	wrong += turns != at_suspend;
	resumed++;
}

static void on_alarm(int signal)
{
	(void)signal;
	others++;
}

int main(void)
{
	signal(SIGUSR1, on_suspend);
	signal(SIGUSR2, on_resume);
	signal(SIGALRM, on_alarm);
	fcntl(0, F_SETFL, O_NONBLOCK);
	ready();
	char line[64];
	size_t length = 0;
	for (;;) {
		turns++;
		char c;
		if (turns % 4096 || read(0, &c, 1) != 1)
			continue;
		if (c != '\n') {
			if (length < sizeof line - 1)
				line[length++] = c;
			continue;
		}
		line[length] = 0;
		length = 0;
		if (!strcmp(line, "ping"))
			say("PONG\n");
		else if (!strcmp(line, "log"))
			say("LOG %d %d %d.\n", suspended, resumed, others);
		else if (!strcmp(line, "block")) {
			sigset_t set;
			sigemptyset(&set);
			sigaddset(&set, SIGUSR1);
			sigprocmask(SIG_BLOCK, &set, NULL);
			say("DONE\n");
		} else if (!strcmp(line, "pending")) {
			sigset_t set;
			sigpending(&set);
			say("PENDING %d\n", sigismember(&set, SIGUSR1));
		} else if (!strcmp(line, "verify"))
			break;
	}
	SAME(resumed, suspended);
	SAME(wrong, 0);
	SAME(others, suspended);
	ok();
}
