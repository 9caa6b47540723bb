//#Dumps: 10
//#Modes: root user newpid empty leave
// The clock functions of the vdso are called all the time, so that a dump may fall into them.
#include "victim.h"
#include <sys/auxv.h>

static volatile int stop;
static volatile long calls;

static void *looping(void *unused)
{
	(void)unused;
	uint64_t last = now_ns(CLOCK_MONOTONIC);
	while (!stop) {
		struct timespec t;
		struct timeval v;
		CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0, "clock_gettime fails");
		uint64_t now = t.tv_sec * 1000000000ull + t.tv_nsec;
		CHECK(now >= last, "the monotonic clock went back from %lu to %lu", last, now);
		last = now;
		CHECK(gettimeofday(&v, NULL) == 0, "gettimeofday fails");
		CHECK(v.tv_sec > 1600000000, "no such time of day: %ld", v.tv_sec);
		calls++;
	}
	return NULL;
}

int main(void)
{
	unsigned long base = getauxval(AT_SYSINFO_EHDR);
	pthread_t t;
	pthread_create(&t, NULL, looping, NULL);
	ready();
	await_verify();
	long before = calls;
	while (calls < before + 1000)
		usleep(1000);
	stop = 1;
	pthread_join(t, NULL);
	SAME(getauxval(AT_SYSINFO_EHDR), base);
	CHECK(!memcmp((void *)base, "\177ELF", 4), "no vdso at its address");
	CHECK(llabs((long long)now_ns(CLOCK_REALTIME) - (long long)time(NULL) * 1000000000ll) < 5000000000ll, "clocks differ");
	ok();
}
