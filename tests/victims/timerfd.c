//#Modes: root user newpid leave left empty
// Timers as files: what remained remains, intervals, expirations that were not read, one for a time
// of day, one that is disarmed.
#include "victim.h"
#include <poll.h>
#include <sys/timerfd.h>

static void arm(int fd, int flags, uint64_t value_ns, uint64_t interval_ns)
{
	struct itimerspec t = {
		{ interval_ns / 1000000000, interval_ns % 1000000000 },
		{ value_ns / 1000000000, value_ns % 1000000000 },
	};
	MUST(timerfd_settime(fd, flags, &t, NULL));
}

static uint64_t left(int fd, uint64_t *interval)
{
	struct itimerspec t;
	MUST(timerfd_gettime(fd, &t));
	if (interval)
		*interval = t.it_interval.tv_sec * 1000000000ull + t.it_interval.tv_nsec;
	return t.it_value.tv_sec * 1000000000ull + t.it_value.tv_nsec;
}

static void await_expiry(int fd)
{
	struct pollfd p = { fd, POLLIN, 0 };
	SAME(MUST(poll(&p, 1, 20000)), 1);
}

int main(void)
{
	int far = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
	int fired = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	int every = MUST(timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK));
	int day = MUST(timerfd_create(CLOCK_REALTIME, 0));
	int off = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	arm(far, 0, 3600ull * 1000000000, 5000000000ull);
	arm(fired, 0, 1, 0);
	arm(every, 0, 1000000, 3600ull * 1000000000);
	uint64_t date = now_ns(CLOCK_REALTIME) + 7200ull * 1000000000;
	arm(day, TFD_TIMER_ABSTIME, date, 0);
	await_expiry(fired);
	await_expiry(every);
	ready();
	await_verify();
	SAME(fcntl(far, F_GETFD), FD_CLOEXEC);
	SAME(fcntl(fired, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	uint64_t interval, n = 0, remains = left(far, &interval);
	SAME(interval, 5000000000ull);
	CHECK(remains > 3400ull * 1000000000 && remains < 3600ull * 1000000000, "%llu ns remain", (unsigned long long)remains);
	SAME(read(fired, &n, 8), 8);
	SAME(n, 1);
	SAME(read(fired, &n, 8), -1);
	SAME(errno, EAGAIN);
	SAME(read(every, &n, 8), 8);
	SAME(n, 1);
	remains = left(every, &interval);
	SAME(interval, 3600ull * 1000000000);
	CHECK(remains > 3400ull * 1000000000, "%llu ns remain of the interval", (unsigned long long)remains);
	remains = left(day, NULL);
	int64_t error = (int64_t)(now_ns(CLOCK_REALTIME) + remains - date);
	CHECK(error > -2000000000ll && error < 2000000000ll, "the time of day is off by %lld ns", (long long)error);
	SAME(left(off, NULL), 0);
	arm(off, 0, 1000, 0);
	await_expiry(off);
	SAME(read(off, &n, 8), 8);
	ok();
}
