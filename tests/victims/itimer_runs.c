//#Modes: root user newpid leave left empty
// A timer that fires all the time: it still does after a resume, and no call fails for it.
#include "victim.h"

static volatile long ticks;
static void tick(int s) { (void)s; ticks++; }

int main(void)
{
	struct sigaction a = { .sa_handler = tick, .sa_flags = SA_RESTART };
	MUST(sigaction(SIGALRM, &a, NULL));
	struct itimerval t = { { 0, 5000 }, { 0, 5000 } };
	MUST(setitimer(ITIMER_REAL, &t, NULL));
	ready();
	await_verify();
	long before = ticks;
	while (ticks < before + 20)
		usleep(1000);
	ok();
}
