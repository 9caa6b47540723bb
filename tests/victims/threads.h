/* Threads with names, thread-local values, held locks and a condition; all are joined at the end.
 * Their ids must be the same unless the resume was told otherwise (then gettid has changed). */
#include "victim.h"

struct one {
	pthread_t thread;
	pid_t tid;
	uint64_t pointer;
	int number;
};

static struct one all[THREADS];
static __thread uint64_t local;
static pthread_mutex_t held[THREADS];
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t begun;
static int go;
static long counter;
static int same_pid;

static void *body(void *argument)
{
	struct one *me = argument;
	char name[16], now[16];
	me->tid = syscall(SYS_gettid);
	local = mix(me->number);
	snprintf(name, sizeof name, "worker %d", me->number);
	MUST(prctl(PR_SET_NAME, name));
	sigset_t mask, mask_now;
	sigemptyset(&mask);
	sigaddset(&mask, SIGRTMIN + me->number % 20);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	pthread_mutex_lock(&held[me->number]);
	pthread_barrier_wait(&begun);
	pthread_mutex_lock(&gate);
	while (!go)
		pthread_cond_wait(&turn, &gate);
	counter++;
	pthread_mutex_unlock(&gate);
	SAME(local, mix(me->number));
	MUST(prctl(PR_GET_NAME, now));
	CHECK(!strcmp(name, now), "a thread is called '%s', was '%s'", now, name);
	if (same_pid)
		SAME(syscall(SYS_gettid), me->tid);
	pthread_sigmask(SIG_SETMASK, NULL, &mask_now);
	for (int s = 1; s < 64; s++)
		if (s != 32 && s != 33)
			SAME(sigismember(&mask_now, s), sigismember(&mask, s));
	pthread_mutex_unlock(&held[me->number]);
	return (void *)mix(me->number + 500);
}

int main(void)
{
	pid_t pid = getpid();
	pthread_barrier_init(&begun, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++) {
		all[i].number = i;
		pthread_mutex_init(&held[i], NULL);
		MUST(-pthread_create(&all[i].thread, NULL, body, &all[i]));
	}
	pthread_barrier_wait(&begun);
	ready();
	await_verify();
	same_pid = getpid() == pid;
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_mutex_trylock(&held[i]) == EBUSY, "lock %d is free, was held", i);
	pthread_mutex_lock(&gate);
	go = 1;
	pthread_cond_broadcast(&turn);
	pthread_mutex_unlock(&gate);
	for (int i = 0; i < THREADS; i++) {
		void *result;
		MUST(-pthread_join(all[i].thread, &result));
		SAME(result, mix(i + 500));
	}
	SAME(counter, THREADS);
	/* New threads can still be made, and old ids are used for nothing. */
	go = 1;
	pthread_barrier_destroy(&begun);
	pthread_barrier_init(&begun, NULL, 1);
	MUST(-pthread_create(&all[0].thread, NULL, body, &all[0]));
	MUST(-pthread_join(all[0].thread, NULL));
	ok();
}
