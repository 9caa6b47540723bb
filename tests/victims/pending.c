//#Modes: root user newpid leave left empty
// Pending signals with all their details, of the process and of single threads, in their order.
#include "victim.h"

static pthread_t t;
static int ends[2];

static void take(int wanted, int code, int value, int own)
{
	sigset_t set;
	siginfo_t info;
	struct timespec none = { 0, 0 };
	sigemptyset(&set);
	sigaddset(&set, wanted);
	int s = syscall(SYS_rt_sigtimedwait, &set, &info, &none, 8);
	CHECK(s == wanted, "signal %d is not pending: %s", wanted, strerror(errno));
	SAME(info.si_code, code);
	if (code == SI_QUEUE)
		SAME(info.si_value.sival_int, value);
	if (own)
		SAME(info.si_uid, getuid());
}

static void *thread(void *unused)
{
	(void)unused;
	char c;
	MUST(read(ends[0], &c, 1));
	take(SIGRTMIN + 5, SI_QUEUE, 55, 0);
	take(SIGRTMIN + 5, SI_QUEUE, 56, 0);
	take(SIGUSR2, SI_TKILL, 0, 0);
	take(SIGUSR1, SI_USER, 0, 1);
	for (int i = 0; i < 5; i++)
		take(SIGRTMIN + 1, SI_QUEUE, 100 + i, 1);
	return NULL;
}

int main(void)
{
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	MUST(pipe(ends));
	pthread_create(&t, NULL, thread, NULL);
	kill(getpid(), SIGUSR1);
	for (int i = 0; i < 5; i++)
		sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 100 + i });
	pthread_sigqueue(t, SIGRTMIN + 5, (union sigval){ .sival_int = 55 });
	pthread_sigqueue(t, SIGRTMIN + 5, (union sigval){ .sival_int = 56 });
	pthread_kill(t, SIGUSR2);
	ready();
	await_verify();
	sigset_t pending;
	sigpending(&pending);
	SAME(sigismember(&pending, SIGUSR2), 0);
	SAME(sigismember(&pending, SIGUSR1), 1);
	MUST(write(ends[1], "x", 1));
	pthread_join(t, NULL);
	sigpending(&pending);
	for (int s = 1; s <= 64; s++)
		SAME(sigismember(&pending, s) == 1, 0);
	ok();
}
