/* What a section costs: hold and release, nanoseconds for the pair, one thread and several at once; the
 * best of many runs, as others use the machine too. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <suspend.h>
#include <time.h>

#define PAIRS 100000
#define RUNS 200
#define MOST 16

static double best[MOST];

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void *measure(void *number)
{
	double *mine = &best[(long)number];
	*mine = 1e9;
	for (int run = 0; run < RUNS; run++) {
		double from = now();
		for (int i = 0; i < PAIRS; i++) {
			suspend_hold();
			suspend_release();
		}
		double took = (now() - from) / PAIRS;
		if (took < *mine)
			*mine = took;
	}
	return NULL;
}

int main(void)
{
	if (suspend_init(NULL) != 0)
		return 1;
	measure((void *)0);
	double alone = best[0];
	pthread_t threads[MOST];
	for (long i = 0; i < MOST; i++)
		pthread_create(&threads[i], NULL, measure, (void *)i);
	double together = 0;
	for (int i = 0; i < MOST; i++) {
		pthread_join(threads[i], NULL);
		if (best[i] > together)
			together = best[i];
	}
	printf("%.2f %.2f\n", alone, together);
	return 0;
}
