//#Modes: root user newpid leave left empty
// Threads that sleep in system calls of every kind while the dump comes. None may fail or return
// early by it; each lasts as long as it was told.
#include "victim.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/select.h>

#define TIMED 4000000000ull

static int pipes[40][2];
static int used;
static uint32_t word;

struct call {
	const char *name;
	long (*run)(int end);
	int timed;
	pthread_t thread;
	int end;
	volatile int done;
	long result;
	int error;
	uint64_t took;
};

static long c_nanosleep(int end)
{
	(void)end;
	return nanosleep(&(struct timespec){ 4, 0 }, NULL);
}
static long c_nanosleep_rem(int end)
{
	(void)end;
	struct timespec rem;
	return syscall(SYS_nanosleep, &(struct timespec){ 4, 0 }, &rem);
}
static long c_clock_rel(int end)
{
	(void)end;
	return -clock_nanosleep(CLOCK_BOOTTIME, 0, &(struct timespec){ 4, 0 }, NULL);
}
static long c_clock_abs(int end)
{
	(void)end;
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += 4;
	return -clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}
static long c_poll(int end) { return poll(&(struct pollfd){ .fd = end, .events = POLLIN }, 1, 4000); }
static long c_poll_none(int end) { (void)end; return syscall(SYS_poll, NULL, 0, 4000); }
static long c_poll_endless(int end)
{
	return poll(&(struct pollfd){ .fd = end, .events = POLLIN }, 1, -1) == 1 ? 0 : -1;
}
static long c_ppoll(int end)
{
	return ppoll(&(struct pollfd){ .fd = end, .events = POLLIN }, 1, &(struct timespec){ 4, 0 }, NULL);
}
static long c_select(int end)
{
	fd_set set;
	FD_ZERO(&set);
	FD_SET(end, &set);
	return select(end + 1, &set, NULL, NULL, &(struct timeval){ 4, 0 });
}
static long c_pselect(int end)
{
	fd_set set;
	sigset_t mask;
	FD_ZERO(&set);
	FD_SET(end, &set);
	sigfillset(&mask);
	return pselect(end + 1, &set, NULL, NULL, &(struct timespec){ 4, 0 }, &mask);
}
static long c_futex(int end)
{
	(void)end;
	long r = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &(struct timespec){ 4, 0 }, NULL, 0);
	return r == -1 && errno == ETIMEDOUT ? 0 : -1;
}
static long c_futex_abs(int end)
{
	(void)end;
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += 4;
	long r = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &t, NULL, -1);
	return r == -1 && errno == ETIMEDOUT ? 0 : -1;
}
static long c_sigtimedwait(int end)
{
	(void)end;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMAX - 3);
	int r = sigtimedwait(&set, NULL, &(struct timespec){ 4, 0 });
	return r == -1 && errno == EAGAIN ? 0 : -1;
}
static long c_cond(int end)
{
	(void)end;
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t c;
	pthread_condattr_t a;
	struct timespec t;
	/* The real time goes on between a dump and a resume, and this clock does not. */
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&c, &a);
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += 4;
	pthread_mutex_lock(&m);
	int r = pthread_cond_timedwait(&c, &m, &t);
	errno = r;
	return r == ETIMEDOUT ? 0 : -1;
}
static long c_read(int end) { char c; return read(end, &c, 1) == 1 ? 0 : -1; }
static long c_readv(int end)
{
	char c[2];
	struct { void *p; size_t n; } v[2] = { { c, 1 }, { c + 1, 1 } };
	return syscall(SYS_readv, end, v, 2) == 2 ? 0 : -1;
}
static long c_write(int end)
{
	/* The pipe of this one is full; `end` is its writing side. */
	char c = 'w';
	return write(end, &c, 1) == 1 ? 0 : -1;
}
static long c_sigwaitinfo(int end)
{
	(void)end;
	sigset_t set;
	siginfo_t info;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMAX - 4);
	return sigwaitinfo(&set, &info) == SIGRTMAX - 4 ? 0 : -1;
}
static void nothing(int s) { (void)s; }
static long c_pause(int end)
{
	(void)end;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMAX - 5);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	return pause() == -1 && errno == EINTR ? 0 : -1;
}
static long c_sigsuspend(int end)
{
	(void)end;
	sigset_t set;
	sigfillset(&set);
	sigdelset(&set, SIGRTMAX - 6);
	return sigsuspend(&set) == -1 && errno == EINTR ? 0 : -1;
}

static struct call all[] = {
	{ "nanosleep", c_nanosleep, 1 }, { "nanosleep with remainder", c_nanosleep_rem, 1 },
	{ "clock_nanosleep", c_clock_rel, 1 }, { "clock_nanosleep until", c_clock_abs, 1 },
	{ "poll", c_poll, 1 }, { "poll of nothing", c_poll_none, 1 }, { "ppoll", c_ppoll, 1 },
	{ "select", c_select, 1 }, { "pselect", c_pselect, 1 }, { "futex", c_futex, 1 },
	{ "futex until", c_futex_abs, 1 }, { "sigtimedwait", c_sigtimedwait, 1 },
	{ "pthread_cond_timedwait", c_cond, 1 }, { "poll without end", c_poll_endless, 0 },
	{ "read", c_read, 0 }, { "readv", c_readv, 0 }, { "write", c_write, 0 },
	{ "sigwaitinfo", c_sigwaitinfo, 0 }, { "pause", c_pause, 0 }, { "sigsuspend", c_sigsuspend, 0 },
};
enum { COUNT = sizeof all / sizeof *all };

static void *body(void *argument)
{
	struct call *me = argument;
	uint64_t start = now_ns(CLOCK_MONOTONIC);
	errno = 0;
	me->result = me->run(me->end);
	me->error = errno;
	me->took = now_ns(CLOCK_MONOTONIC) - start;
	me->done = 1;
	return NULL;
}

int main(void)
{
	sigset_t set;
	sigfillset(&set);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	signal(SIGRTMAX - 5, nothing);
	signal(SIGRTMAX - 6, nothing);
	for (int i = 0; i < COUNT; i++) {
		MUST(pipe(pipes[used]));
		all[i].end = pipes[used][0];
		if (all[i].run == c_write) {
			fcntl(pipes[used][1], F_SETFL, O_NONBLOCK);
			char block[4096] = { 0 };
			while (write(pipes[used][1], block, sizeof block) > 0)
				;
			fcntl(pipes[used][1], F_SETFL, 0);
			all[i].end = pipes[used][1];
		}
		MUST(-pthread_create(&all[i].thread, NULL, body, &all[i]));
		used++;
	}
	/* Until all sleep. */
	usleep(50000);
	ready();
	await_verify();
	for (int i = 0; i < COUNT; i++)
		if (!all[i].timed) {
			CHECK(!all[i].done, "%s returned %ld (%s) by itself", all[i].name, all[i].result, strerror(all[i].error));
			if (all[i].run == c_sigwaitinfo)
				pthread_kill(all[i].thread, SIGRTMAX - 4);
			else if (all[i].run == c_pause)
				/* A thread that has not yet run again takes a signal before its call. */
				do {
					pthread_kill(all[i].thread, SIGRTMAX - 5);
					usleep(20000);
				} while (!all[i].done);
			else if (all[i].run == c_sigsuspend)
				pthread_kill(all[i].thread, SIGRTMAX - 6);
			else if (all[i].run == c_write) {
				char block[8192];
				MUST(read(pipes[i][0], block, sizeof block));
			} else
				MUST(write(pipes[i][1], "ab", 2));
		}
	for (int i = 0; i < COUNT; i++) {
		pthread_join(all[i].thread, NULL);
		CHECK(all[i].result == 0, "%s returned %ld: %s, after %lu us", all[i].name, all[i].result,
		      strerror(all[i].error), all[i].took / 1000);
		if (all[i].timed)
			CHECK(all[i].took >= TIMED - 20000000 && all[i].took < TIMED + 3000000000ull,
			      "%s took %lu us instead of %llu", all[i].name, all[i].took / 1000, TIMED / 1000);
	}
	ok();
}
