//#Modes: root user newpid leave left empty
//#Flags: -lrt
// Periodic POSIX timers that fire all the time, by signal and in threads of their own.
#include "victim.h"

static volatile long by_signal, by_thread;
static void on_signal(int s) { (void)s; by_signal++; }
static void on_thread(union sigval v) { (void)v; by_thread++; }

int main(void)
{
	timer_t a, b;
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	MUST(sigaction(SIGRTMIN + 2, &action, NULL));
	struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 2 };
	MUST(timer_create(CLOCK_MONOTONIC, &e, &a));
	struct sigevent f = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_thread };
	MUST(timer_create(CLOCK_MONOTONIC, &f, &b));
	struct itimerspec fast = { { 0, 3000000 }, { 0, 3000000 } }, slow = { { 0, 20000000 }, { 0, 20000000 } };
	MUST(timer_settime(a, 0, &fast, NULL));
	MUST(timer_settime(b, 0, &slow, NULL));
	ready();
	await_verify();
	long before = by_signal;
	while (by_signal < before + 20)
		usleep(1000);
	before = by_thread;
	while (by_thread < before + 5)
		usleep(1000);
	ok();
}
