//#Modes: root user newpid leave left empty
// The three interval timers: what remained and the period, and that they fire.
#include "victim.h"

static volatile int alarms, virtuals, profs;
static void on_alarm(int s) { (void)s; alarms++; }
static void on_virtual(int s) { (void)s; virtuals++; }
static void on_prof(int s) { (void)s; profs++; }

int main(void)
{
	struct itimerval real = { { 0, 250000 }, { 3000, 0 } }, now;
	struct itimerval virt = { { 7, 5 }, { 500, 0 } };
	struct itimerval prof = { { 9, 3 }, { 700, 0 } };
	signal(SIGALRM, on_alarm);
	signal(SIGVTALRM, on_virtual);
	signal(SIGPROF, on_prof);
	MUST(setitimer(ITIMER_REAL, &real, NULL));
	MUST(setitimer(ITIMER_VIRTUAL, &virt, NULL));
	MUST(setitimer(ITIMER_PROF, &prof, NULL));
	ready();
	await_verify();
	MUST(getitimer(ITIMER_REAL, &now));
	SAME(now.it_interval.tv_usec, 250000);
	CHECK(now.it_value.tv_sec >= 2800 && now.it_value.tv_sec < 3000, "real: %ld s left", now.it_value.tv_sec);
	MUST(getitimer(ITIMER_VIRTUAL, &now));
	SAME(now.it_interval.tv_sec, 7);
	CHECK(now.it_value.tv_sec >= 480 && now.it_value.tv_sec <= 500, "virtual: %ld s left", now.it_value.tv_sec);
	MUST(getitimer(ITIMER_PROF, &now));
	SAME(now.it_interval.tv_sec, 9);
	CHECK(now.it_value.tv_sec >= 680 && now.it_value.tv_sec <= 700, "prof: %ld s left", now.it_value.tv_sec);
	real.it_value.tv_sec = 0;
	real.it_value.tv_usec = 1000;
	MUST(setitimer(ITIMER_REAL, &real, NULL));
	while (!alarms)
		usleep(1000);
	CHECK(!virtuals && !profs, "a timer fired too early");
	ok();
}
