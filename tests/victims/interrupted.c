//#Modes: root user newpid leave left empty
// Signals that come after the resume interrupt calls that were asleep before it, as they would.
#include "victim.h"

static int pipes[2], blocked[2];
static volatile int handled;
static void nothing(int s) { (void)s; handled++; }

static struct timespec rem;
static long results[3];
static int errors[3];

static void *sleeping(void *unused)
{
	(void)unused;
	results[0] = nanosleep(&(struct timespec){ 1000, 0 }, &rem);
	errors[0] = errno;
	return NULL;
}

static void *reading(void *unused)
{
	char c;
	(void)unused;
	results[1] = read(pipes[0], &c, 1);
	errors[1] = errno;
	return NULL;
}

static void *restarting(void *unused)
{
	char c;
	(void)unused;
	results[2] = read(blocked[0], &c, 1);
	errors[2] = errno;
	return NULL;
}

int main(void)
{
	struct sigaction a = { .sa_handler = nothing }, r = { .sa_handler = nothing, .sa_flags = SA_RESTART };
	pthread_t t[3];
	MUST(sigaction(SIGUSR1, &a, NULL));
	MUST(sigaction(SIGUSR2, &r, NULL));
	MUST(pipe(pipes));
	MUST(pipe(blocked));
	pthread_create(&t[0], NULL, sleeping, NULL);
	pthread_create(&t[1], NULL, reading, NULL);
	pthread_create(&t[2], NULL, restarting, NULL);
	usleep(30000);
	ready();
	await_verify();
	pthread_kill(t[2], SIGUSR2);
	/* A thread that has not yet run again takes the signal before its call, so more may be due. */
	for (int i = 0; i < 2; i++)
		do {
			pthread_kill(t[i], SIGUSR1);
			usleep(20000);
		} while (pthread_tryjoin_np(t[i], NULL) == EBUSY);
	SAME(results[0], -1);
	SAME(errors[0], EINTR);
	CHECK(rem.tv_sec > 800 && rem.tv_sec < 1000, "nanosleep says %ld s remain", rem.tv_sec);
	SAME(results[1], -1);
	SAME(errors[1], EINTR);
	while (handled < 3)
		usleep(1000);
	MUST(write(blocked[1], "x", 1));
	pthread_join(t[2], NULL);
	SAME(results[2], 1);
	ok();
}
