//#Modes: root user newpid empty
//#Dumps: 3
// A handler that came after a resume has interrupted a call of before it, and is still at work when
// the next dump comes: it must find its way back through whatever issues that call anew.
#include "victim.h"

static volatile int resumed, leave, entered;
static struct timespec rem;
static long result;
static int error;

static void at_work(int s)
{
	(void)s;
	entered = 1;
	while (!leave)
		usleep(1000);
}

static void *sleeping(void *unused)
{
	(void)unused;
	result = nanosleep(&(struct timespec){ 1000, 0 }, &rem);
	error = errno;
	return NULL;
}

static void *watching(void *sleeper)
{
	char exe[4096];
	while (!resumed) {
		ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
		exe[n > 0 ? n : 0] = 0;
		if (strstr(exe, ".elf"))
			resumed = 1;
		usleep(500);
	}
	pthread_kill(*(pthread_t *)sleeper, SIGUSR1);
	return NULL;
}

int main(void)
{
	struct sigaction a = { .sa_handler = at_work };
	pthread_t sleeper, watcher;
	MUST(sigaction(SIGUSR1, &a, NULL));
	pthread_create(&sleeper, NULL, sleeping, NULL);
	pthread_create(&watcher, NULL, watching, &sleeper);
	usleep(30000);
	ready();
	await_verify();
	resumed = 1; /* also where there was no resume */
	pthread_join(watcher, NULL);
	/* The signal may still be on its way, or have been taken before the call began again. */
	while (!entered)
		usleep(1000);
	leave = 1;
	while (pthread_tryjoin_np(sleeper, NULL) == EBUSY) {
		pthread_kill(sleeper, SIGUSR1);
		usleep(20000);
	}
	SAME(result, -1);
	SAME(error, EINTR);
	CHECK(rem.tv_sec > 800 && rem.tv_sec <= 1000, "nanosleep says %ld s remain", rem.tv_sec);
	ok();
}
