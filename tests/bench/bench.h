/* What all measured programs share: the stamp, and the watch for the moments they did not run. */
#ifndef BENCH_H
#define BENCH_H
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

/*
 * The processor's own counter: CLOCK_MONOTONIC and its raw form are shifted by the time namespace
 * that a resume may make, so a program could not be compared with its launcher by them.
 */
static inline uint64_t stamp(void)
{
#if defined(__x86_64__)
	uint32_t low, high;
	__asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
#elif defined(__aarch64__)
	uint64_t now;
	__asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(now) : : "memory");
	return now;
#else
#error "no counter known for this processor"
#endif
}

static inline void demand(int condition, const char *what)
{
	if (!condition) {
		perror(what);
		exit(1);
	}
}

/*
 * Says READY and then reads the counter for ever. Whenever two readings lie `argv[1]` ticks apart,
 * both are written to standard output: the launcher, who has read the same counter, finds there
 * how long the program was stopped, or when its first instruction after a resume ran.
 */
static inline void watch(int argc, char **argv)
{
	uint64_t gap = argc > 1 ? strtoull(argv[1], 0, 10) : 200000;
	char line[80];

	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
	demand(write(1, "READY\n", 6) == 6, "write");
	for (uint64_t last = stamp();;) {
		uint64_t now = stamp();

		if (now - last > gap) {
			int length = snprintf(line, sizeof line, "%llu %llu\n",
					      (unsigned long long)last, (unsigned long long)now);

			if (write(1, line, length) != length)
				_exit(0);
			now = stamp();
		}
		last = now;
	}
}
#endif
