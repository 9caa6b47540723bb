/* Threads in every kind of waiting; any call that fails or any oddity is told at the end. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int stop, failed;
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static volatile long counters[8];

static void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	failed = 1;
}

static void *spin(void *p)
{
	double d = (long)p;

	while (!stop) {
		counters[(long)p]++;
		d = d * 1.0000001 + 1;
	}
	return d != d ? p : NULL;
}

static void *sleeper(void *p)
{
	struct timespec t = { 0, 30000000 };

	while (!stop) {
		if (nanosleep(&t, NULL))
			fail("nanosleep");
		if (poll(NULL, 0, 20))
			fail("poll");
	}
	return p;
}

static void *poller(void *p)
{
	struct epoll_event e;
	int fd = epoll_create1(0);

	if (!p) { /* an epoll descriptor is refused so far: leave it closed */
		close(fd);
		return p;
	}
	while (!stop)
		if (epoll_wait(fd, &e, 1, 20))
			fail("epoll_wait");
	return p;
}

static void *cond(void *p)
{
	pthread_mutex_lock(&m);
	while (!stop)
		pthread_cond_wait(&c, &m);
	pthread_mutex_unlock(&m);
	return p;
}

static void *clocks(void *p)
{
	struct timespec a, b;

	clock_gettime(CLOCK_MONOTONIC, &a);
	while (!stop) {
		clock_gettime(CLOCK_MONOTONIC, &b);
		if (b.tv_sec < a.tv_sec)
			fail("clock");
		a = b;
	}
	return p;
}

static void handler(int s) { (void)s; }

int main(int argc, char **argv)
{
	pthread_t t[7];
	stack_t ss = { .ss_sp = malloc(65536), .ss_size = 65536 };
	struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_ONSTACK | SA_RESTART };
	struct itimerval it = { { 0, 0 }, { 1000, 0 } };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec its = { { 5, 0 }, { 500, 0 } };
	timer_t id;
	sigset_t set;
	char line[64];

	sigaltstack(&ss, NULL);
	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, SIGUSR2);
	sigaction(SIGUSR1, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	raise(SIGUSR2);
	setitimer(ITIMER_REAL, &it, NULL);
	ev.sigev_value.sival_int = 7;
	timer_create(CLOCK_MONOTONIC, &ev, &id);
	timer_settime(id, 0, &its, NULL);
	pthread_create(&t[0], NULL, spin, (void *)0);
	pthread_create(&t[1], NULL, spin, (void *)1);
	pthread_create(&t[2], NULL, sleeper, NULL);
	pthread_create(&t[3], NULL, sleeper, NULL);
	pthread_create(&t[4], NULL, cond, NULL);
	pthread_create(&t[5], NULL, clocks, NULL);
	pthread_create(&t[6], NULL, poller, argc > 1 ? argv : NULL);
	puts("READY");
	fflush(stdout);
	if (!fgets(line, sizeof line, stdin))
		fail("fgets");
	stop = 1;
	pthread_mutex_lock(&m);
	pthread_cond_broadcast(&c);
	pthread_mutex_unlock(&m);
	for (int i = 0; i < 7; i++)
		pthread_join(t[i], NULL);
	puts(failed ? "FAILED" : "GOOD");
	return failed;
}
