/* 64 threads: the one that watches and 63 that wait. */
#include "bench.h"
#include <pthread.h>

static void *wait_for_ever(void *arrived)
{
	pthread_barrier_wait(arrived);
	while (pause())
		;
	return 0;
}

int main(int argc, char **argv)
{
	static pthread_barrier_t arrived;
	pthread_attr_t attributes;

	pthread_barrier_init(&arrived, 0, 64);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 256 << 10);
	for (int i = 1; i < 64; i++) {
		pthread_t thread;

		demand(!pthread_create(&thread, &attributes, wait_for_ever, &arrived), "thread");
	}
	pthread_barrier_wait(&arrived);
	watch(argc, argv);
}
