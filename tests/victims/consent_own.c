// A program without the library whose handler for SIGUSR1 does what its argument names, and how many of
// its two signals it has heard.
//#Modes: none
#include "victim.h"
#include <setjmp.h>
#include <sys/wait.h>

static volatile sig_atomic_t suspended, resumed, jumped;
static sigjmp_buf home;
static const char *way = "";

static int is(const char *name)
{
	return !strcmp(way, name);
}

static void on_suspend(int signal)
{
	(void)signal;
	suspended++;
	if (is("slow")) {
		struct timespec t = {2, 0};
		while (nanosleep(&t, &t) != 0)
			;
	}
	if (is("execs"))
		MUST(execl("/proc/self/exe", "consent_own", "bare", NULL));
	if (is("leaves"))
		siglongjmp(home, 1);
	if (is("ends"))
		pthread_exit(NULL);
	if (is("forgets"))
		sigaction(SIGUSR2, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
}

static void on_resume(int signal)
{
	(void)signal;
	resumed++;
}

static void nothing(int signal)
{
	(void)signal;
}

static int over(void)
{
	char line[64];
	read_line(line, sizeof line);
	if (!strcmp(line, "ping"))
		say("PONG\n");
	else if (!strcmp(line, "log"))
		say("LOG %d %d.\n", (int)suspended, (int)resumed);
	else
		return !strcmp(line, "verify");
	return 0;
}

static void *talk(void *unused)
{
	while (!over())
		;
	ok();
	return unused;
}

/* Where the handler has come from lies no deeper than where the next signal finds this thread. */
static void __attribute__((noinline)) loiter(void)
{
	sigset_t none;
	sigemptyset(&none);
	if (sigsetjmp(home, 1)) {
		struct itimerval soon = {{0, 50000}, {0, 50000}};
		jumped = 1;
		MUST(setitimer(ITIMER_REAL, &soon, NULL));
	}
	for (;;)
		sigsuspend(&none);
}

int main(int argc, char **argv)
{
	way = argc > 1 ? argv[1] : "";
	struct sigaction action = {.sa_handler = on_suspend, .sa_flags = SA_RESTART};
	if (is("once"))
		action.sa_flags |= SA_RESETHAND;
	if (is("nodefer"))
		action.sa_flags |= SA_NODEFER;
	if (is("aside")) {
		stack_t aside = {.ss_sp = malloc(65536), .ss_size = 65536};
		MUST(sigaltstack(&aside, NULL));
		action.sa_flags |= SA_ONSTACK;
	}
	if (!is("bare")) {
		MUST(sigaction(SIGUSR1, &action, NULL));
		action = (struct sigaction){.sa_handler = on_resume, .sa_flags = SA_RESTART};
		MUST(sigaction(SIGUSR2, &action, NULL));
	}
	action = (struct sigaction){.sa_handler = nothing, .sa_flags = SA_RESTART};
	MUST(sigaction(SIGALRM, &action, NULL));
	sigset_t all, before;
	sigfillset(&all);
	if (is("leaves") || is("ends") || is("waits") || is("denies")) {
		/* Another one talks, and takes no signal but the second one, of a thread that is gone. */
		pthread_t talker;
		if (is("ends"))
			sigdelset(&all, SIGUSR2);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		SAME(pthread_create(&talker, NULL, talk, NULL), 0);
		ready();
		if (is("waits")) {
			sigdelset(&all, SIGUSR2);
			pthread_sigmask(SIG_SETMASK, &all, NULL);
			sigset_t one;
			sigemptyset(&one);
			sigaddset(&one, SIGUSR1);
			for (int met;;) {
				sigwait(&one, &met);
				suspended++;
			}
		}
		if (is("denies")) {
			/* Asked, it has no handler any more. */
			struct timespec moment = {0, 1000000};
			sigset_t met;
			do {
				nanosleep(&moment, NULL);
				sigpending(&met);
			} while (!sigismember(&met, SIGUSR1));
			signal(SIGUSR1, SIG_DFL);
		}
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		loiter();
	}
	ready();
	if (is("spawns") && vfork() == 0) {
		/* The parent stands until this one ends. */
		char c;
		_exit(read(0, &c, 1) == 1 ? 0 : 1);
	}
	while (!over())
		;
	ok();
}
