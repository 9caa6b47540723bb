//#Modes: none
// Counts, with threads that check one another: shows at any later time that it runs on rightly.
#include "victim.h"

enum { THREADS = 3 };
static volatile uint64_t counts[THREADS];
static volatile int stop;
static uint64_t *memory;

static void *body(void *argument)
{
	int me = (intptr_t)argument;
	uint64_t *own = memory + me * 65536, sum = 0;
	for (uint64_t i = 0; !stop; i++) {
		own[i % 65536] = mix(i + me);
		if (i >= 65536)
			SAME(own[(i + 1) % 65536], mix(i + me - 65535));
		sum += i;
		CHECK(sum == i * (i + 1) / 2, "the sum is wrong");
		counts[me] = i;
		if (i % 1024 == 0) {
			uint64_t before = now_ns(CLOCK_MONOTONIC);
			if (nanosleep(&(struct timespec){ 0, 200000 }, NULL))
				FAIL("nanosleep: %s", strerror(errno));
			uint64_t took = now_ns(CLOCK_MONOTONIC) - before;
			CHECK(took >= 200000, "nanosleep returned after %lu ns", took);
		}
	}
	return NULL;
}

int main(void)
{
	pthread_t threads[THREADS];
	memory = mmap(NULL, THREADS << 19, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (intptr_t i = 0; i < THREADS; i++)
		MUST(pthread_create(&threads[i], NULL, body, (void *)i));
	ready();
	uint64_t last[THREADS] = { 0 };
	for (;;) {
		char line[64];
		read_line(line, sizeof line);
		if (!strcmp(line, "ping")) {
			/* Every thread must be seen to go on. */
			for (int i = 0; i < THREADS; i++) {
				last[i] = counts[i];
				while (counts[i] == last[i])
					usleep(300);
			}
			say("PONG\n");
		} else if (!strcmp(line, "verify")) {
			break;
		} else {
			FAIL("asked for '%s'", line);
		}
	}
	stop = 1;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ok();
}
