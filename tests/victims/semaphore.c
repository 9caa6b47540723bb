//#Modes: root user newpid leave left empty
// Semaphores: of the process by name and value, and a System V wait with a time limit.
#include "victim.h"
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/sem.h>

static sem_t sem;
static int set;
static long result;
static int error;
static uint64_t took;

static void *waiting(void *unused)
{
	(void)unused;
	uint64_t start = now_ns(CLOCK_MONOTONIC);
	struct sembuf down = { 0, -1, 0 };
	result = semtimedop(set, &down, 1, &(struct timespec){ 3, 0 });
	error = errno;
	took = now_ns(CLOCK_MONOTONIC) - start;
	return NULL;
}

int main(void)
{
	pthread_t t;
	sem_init(&sem, 0, 5);
	set = MUST(semget(IPC_PRIVATE, 1, 0600));
	pthread_create(&t, NULL, waiting, NULL);
	usleep(30000);
	ready();
	await_verify();
	int value;
	sem_getvalue(&sem, &value);
	SAME(value, 5);
	pthread_join(t, NULL);
	semctl(set, 0, IPC_RMID);
	SAME(result, -1);
	CHECK(error == EAGAIN, "semtimedop: %s after %lu us", strerror(error), took / 1000);
	CHECK(took >= 2980000000ull, "semtimedop lasted only %lu us", took / 1000);
	ok();
}
