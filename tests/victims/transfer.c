//#Modes: root user newpid leave left empty
// A large write to a slow reader is in the middle of its way at the dump. Not a byte may be lost
// or come twice, however often the call returns.
#include "victim.h"

enum { TOTAL = 3 << 20 };
static int ends[2];
static unsigned char *data;
static volatile int hurry;
static volatile long written, calls;

static void *writing(void *unused)
{
	(void)unused;
	while (written < TOTAL) {
		ssize_t n = write(ends[1], data + written, TOTAL - written);
		CHECK(n > 0, "write gave %zd: %s", n, strerror(errno));
		written += n;
		calls++;
	}
	return NULL;
}

static void *reading(void *unused)
{
	(void)unused;
	static unsigned char block[4096];
	long got = 0;
	while (got < TOTAL) {
		ssize_t n = read(ends[0], block, sizeof block);
		CHECK(n > 0, "read gave %zd: %s", n, strerror(errno));
		for (ssize_t i = 0; i < n; i++)
			CHECK(block[i] == data[got + i], "byte %ld differs", got + i);
		got += n;
		if (!hurry)
			usleep(20000);
	}
	return NULL;
}

int main(void)
{
	pthread_t w, r;
	data = malloc(TOTAL);
	for (int i = 0; i < TOTAL; i++)
		data[i] = mix(i);
	MUST(pipe(ends));
	pthread_create(&w, NULL, writing, NULL);
	pthread_create(&r, NULL, reading, NULL);
	usleep(10000);
	ready();
	await_verify();
	hurry = 1;
	pthread_join(w, NULL);
	pthread_join(r, NULL);
	SAME(written, TOTAL);
	ok();
}
