/* One thread per blocking call, each of three seconds; then what the call returned and how long it
 * took, one line per thread. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECONDS 3
static const struct timespec three = { SECONDS, 0 };

static long nano(void) { return syscall(SYS_nanosleep, &three, NULL); }
static long nano_rem(void)
{
	struct timespec rem;

	return syscall(SYS_nanosleep, &three, &rem);
}
static long nano_over(void)
{
	struct timespec t = three;

	return syscall(SYS_nanosleep, &t, &t);
}
static long clock_rel(void) { return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &three, NULL); }
static long clock_abs(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += SECONDS;
	return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}
static long do_poll(void) { return poll(NULL, 0, SECONDS * 1000); }
static long do_ppoll(void) { return ppoll(NULL, 0, &three, NULL); }
static long do_select(void)
{
	struct timeval t = { SECONDS, 0 };

	return select(0, NULL, NULL, NULL, &t);
}
static long do_pselect(void) { return pselect(0, NULL, NULL, NULL, &three, NULL); }
static long do_futex(void)
{
	int word = 0;

	return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &three, NULL, 0);
}
static long do_sigtimedwait(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	return sigtimedwait(&set, NULL, &three);
}
static long do_cond(void)
{
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t c = PTHREAD_COND_INITIALIZER;
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += SECONDS;
	pthread_mutex_lock(&m);
	errno = pthread_cond_timedwait(&c, &m, &t);
	return -1;
}
static long do_epoll(void)
{
	struct epoll_event e;
	long r;
	int fd = epoll_create1(0);
	int saved;

	r = epoll_wait(fd, &e, 1, SECONDS * 1000);
	saved = errno;
	close(fd);
	errno = saved;
	return r;
}
static int sem;
static long do_semtimedop(void)
{
	struct sembuf op = { 0, -1, 0 };

	return semtimedop(sem, &op, 1, &three);
}

static const struct call {
	const char *name;
	long (*run)(void);
	int result, error;
} calls[] = {
	{ "nanosleep", nano, 0, 0 },
	{ "nanosleep-rem", nano_rem, 0, 0 },
	{ "nanosleep-over", nano_over, 0, 0 },
	{ "clock_nanosleep", clock_rel, 0, 0 },
	{ "clock_nanosleep-abs", clock_abs, 0, 0 },
	{ "poll", do_poll, 0, 0 },
	{ "ppoll", do_ppoll, 0, 0 },
	{ "select", do_select, 0, 0 },
	{ "pselect", do_pselect, 0, 0 },
	{ "futex", do_futex, -1, ETIMEDOUT },
	{ "sigtimedwait", do_sigtimedwait, -1, EAGAIN },
	{ "cond", do_cond, -1, ETIMEDOUT },
	{ "semtimedop", do_semtimedop, -1, EAGAIN },
	/* An epoll descriptor is refused: asked for by argument. */
	{ "epoll", do_epoll, 0, 0 },
};
#define CALLS (sizeof(calls) / sizeof(*calls))

static void *run(void *p)
{
	const struct call *c = p;
	struct timespec a, b;
	long r, ms;
	int e;

	clock_gettime(CLOCK_MONOTONIC, &a);
	errno = 0;
	r = c->run();
	e = errno;
	clock_gettime(CLOCK_MONOTONIC, &b);
	ms = (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000;
	if (r != c->result || (r < 0 && e != c->error))
		printf("%s BAD %ld %s\n", c->name, r, strerror(e));
	else
		printf("%s %ld\n", c->name, ms);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[CALLS];
	size_t n = argc > 1 ? CALLS : CALLS - 1;

	(void)argv;
	sem = semget(IPC_PRIVATE, 1, 0600);
	for (size_t i = 0; i < n; i++)
		pthread_create(&t[i], NULL, run, (void *)&calls[i]);
	puts("READY");
	fflush(stdout);
	for (size_t i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	semctl(sem, 0, IPC_RMID);
	puts("END");
	return 0;
}
