/*
 * What the machine itself can do, in the same run as what is measured: copying memory and writing
 * to a file in the page cache. Prints one line "name nanoseconds" for each pass over 1 GiB.
 *
 * usage: floors <file> <passes> <threads>
 */
#include "bench.h"
#include <fcntl.h>
#include <pthread.h>
#include <time.h>

enum { PIECE = 4 << 20 };

static const size_t size = 1ul << 30;
static char *source, *target;
static int file, threads;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void *copy(void *share)
{
	size_t length = size / threads, start = (size_t)share * length;

	memcpy(target + start, source + start, length);
	return 0;
}

static void *store(void *share)
{
	size_t length = size / threads, start = (size_t)share * length;

	for (size_t at = start; at < start + length; at += PIECE)
		demand(pwrite(file, source + at, PIECE, at) == PIECE, "pwrite");
	return 0;
}

static void measure(const char *name, void *(*work)(void *))
{
	pthread_t others[64];
	uint64_t start = now();

	for (size_t i = 1; i < (size_t)threads; i++)
		demand(!pthread_create(&others[i], 0, work, (void *)i), "thread");
	work(0);
	for (int i = 1; i < threads; i++)
		pthread_join(others[i], 0);
	printf("%s %llu\n", name, (unsigned long long)(now() - start));
}

static char *fresh(void)
{
	char *area = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	demand(area != MAP_FAILED, "mmap");
	return area;
}

int main(int argc, char **argv)
{
	demand(argc == 4, "usage: floors <file> <passes> <threads>");
	int passes = atoi(argv[2]);

	threads = atoi(argv[3]);
	demand(threads >= 1 && threads <= 64, "threads");
	file = open(argv[1], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	demand(file >= 0, argv[1]);
	demand(!unlink(argv[1]), "unlink");
	source = fresh();
	memset(source, 0x5a, size);
	target = fresh();
	memset(target, 1, size);
	for (int i = 0; i < passes; i++)
		measure("memcpy", copy);
	for (int i = 0; i < passes; i++) {
		demand(!munmap(target, size), "munmap");
		target = fresh();
		measure("memcpy_fresh", copy);
	}
	/* The first pass takes pages that the machine may have to find first; it is thrown away. */
	for (int i = 0; i <= passes; i++) {
		demand(!ftruncate(file, 0), "ftruncate");
		measure(i ? "write" : "write_cold", store);
	}
	return 0;
}
