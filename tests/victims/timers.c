//#Modes: root user newpid leave left empty
//#Flags: -lrt
// POSIX timers with their ids, holes between the ids, clocks, targets and what remained.
#include "victim.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static int make(clockid_t clock, int signal, int value, pid_t tid)
{
	struct sigevent e = { .sigev_notify = tid ? SIGEV_THREAD_ID : SIGEV_SIGNAL, .sigev_signo = signal };
	e.sigev_value.sival_int = value;
	if (tid)
		e.sigev_notify_thread_id = tid;
	int id = -1;
	MUST(syscall(SYS_timer_create, clock, &e, &id));
	return id;
}

static void set(int id, long first, long every)
{
	struct itimerspec t = { { every, 0 }, { first, 0 } };
	MUST(syscall(SYS_timer_settime, id, 0, &t, NULL));
}

static void look(int id, long from, long to, long every)
{
	struct itimerspec t;
	if (syscall(SYS_timer_gettime, id, &t))
		FAIL("timer %d: %s", id, strerror(errno));
	SAME(t.it_interval.tv_sec, every);
	CHECK(t.it_value.tv_sec >= from && t.it_value.tv_sec <= to, "timer %d: %ld s left", id, t.it_value.tv_sec);
}

int main(void)
{
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	int ids[12];
	for (int i = 0; i < 12; i++)
		ids[i] = make(CLOCK_MONOTONIC, SIGRTMIN + 4, i, 0);
	for (int i = 0; i < 12; i++)
		if (i != 3 && i != 11)
			MUST(syscall(SYS_timer_delete, ids[i]));
	int real = make(CLOCK_REALTIME, SIGRTMIN + 5, 500, 0);
	int cpu = make(CLOCK_PROCESS_CPUTIME_ID, SIGRTMIN + 6, 600, 0);
	int own = make(CLOCK_BOOTTIME, SIGRTMIN + 7, 700, syscall(SYS_gettid));
	set(ids[3], 1000, 11);
	set(real, 2000, 0);
	set(cpu, 300, 5);
	set(own, 4000, 44);
	ready();
	await_verify();
	look(ids[3], 800, 1000, 11);
	look(ids[11], 0, 0, 0);
	look(real, 1800, 2000, 0);
	look(cpu, 250, 300, 5);
	look(own, 3800, 4000, 44);
	/* All fire, with their own values. */
	const int which[4] = { ids[3], ids[11], real, own };
	const int signals[4] = { SIGRTMIN + 4, SIGRTMIN + 4, SIGRTMIN + 5, SIGRTMIN + 7 };
	const int values[4] = { 3, 11, 500, 700 };
	for (int i = 0; i < 4; i++) {
		struct itimerspec t = { { 0, 0 }, { 0, 1000000 } };
		sigset_t one;
		siginfo_t info;
		MUST(syscall(SYS_timer_settime, which[i], 0, &t, NULL));
		sigemptyset(&one);
		sigaddset(&one, signals[i]);
		struct timespec limit = { 20, 0 };
		CHECK(sigtimedwait(&one, &info, &limit) == signals[i], "timer %d does not fire", which[i]);
		SAME(info.si_code, SI_TIMER);
		SAME(info.si_value.sival_int, values[i]);
		SAME(info.si_timerid, which[i]);
	}
	ok();
}
