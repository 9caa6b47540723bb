//#Modes: root user newpid leave left
// Named pipes that are full: one as large as it comes, one made larger, one made smaller and filled by
// small pieces; in each a thread is blocked in write, and goes on when there is room.
#include "victim.h"
#include <sys/ioctl.h>

enum { PIPES = 3, MORE = 10000 };

static struct {
	const char *name;
	int size, piece, reader, writer, sent;
	volatile int done;
	pthread_t thread;
} all[PIPES] = { { "full", 0, 4096, 0 }, { "large", 1 << 18, 4096, 0 }, { "small", 4096, 7, 0 } };

static unsigned char byte_at(int pipe, int at)
{
	return mix(at / 8 + pipe * 1000003) >> at % 8 * 8;
}

static void *goes_on(void *which)
{
	int i = (long)which;
	unsigned char data[MORE];
	for (int at = 0; at < MORE; at++)
		data[at] = byte_at(i, all[i].sent + at);
	for (int at = 0; at < MORE;) {
		/* A call that waits may come back with a part of it. */
		ssize_t n = write(all[i].writer, data + at, MORE - at);
		CHECK(n > 0, "write gave %zd: %s", n, strerror(errno));
		at += n;
	}
	all[i].done = 1;
	return NULL;
}

int main(void)
{
	umask(0);
	for (int i = 0; i < PIPES; i++) {
		unlink(all[i].name);
		MUST(mkfifo(all[i].name, 0600));
		all[i].reader = MUST(open(all[i].name, O_RDONLY | O_NONBLOCK));
		all[i].writer = MUST(open(all[i].name, O_WRONLY | O_NONBLOCK));
		if (all[i].size)
			MUST(fcntl(all[i].writer, F_SETPIPE_SZ, all[i].size));
		all[i].size = MUST(fcntl(all[i].writer, F_GETPIPE_SZ));
		for (;;) {
			unsigned char piece[4096];
			for (int at = 0; at < all[i].piece; at++)
				piece[at] = byte_at(i, all[i].sent + at);
			ssize_t n = write(all[i].writer, piece, all[i].piece);
			if (n < 0)
				break;
			all[i].sent += n;
		}
		SAME(errno, EAGAIN);
		CHECK(all[i].sent > all[i].size - all[i].piece, "%d bytes in %d", all[i].sent, all[i].size);
		MUST(fcntl(all[i].writer, F_SETFL, 0));
		SAME(pthread_create(&all[i].thread, NULL, goes_on, (void *)(long)i), 0);
	}
	usleep(20000);
	ready();
	await_verify();
	for (int i = 0; i < PIPES; i++) {
		int waiting;
		SAME(fcntl(all[i].reader, F_GETPIPE_SZ), all[i].size);
		MUST(ioctl(all[i].reader, FIONREAD, &waiting));
		/* What still had room may have come from the thread. */
		CHECK(waiting >= all[i].sent && waiting <= all[i].size, "%d bytes wait in %s", waiting, all[i].name);
		CHECK(!all[i].done, "the write to %s came back", all[i].name);
	}
	for (int i = 0; i < PIPES; i++) {
		for (int at = 0; at < all[i].sent + MORE;) {
			unsigned char piece[3000];
			ssize_t n = read(all[i].reader, piece, sizeof piece);
			if (n < 0 && errno == EAGAIN) {
				usleep(500);
				continue;
			}
			CHECK(n > 0, "read gave %zd: %s", n, strerror(errno));
			for (ssize_t j = 0; j < n; j++, at++)
				CHECK(piece[j] == byte_at(i, at), "byte %d of %s differs", at, all[i].name);
		}
		pthread_join(all[i].thread, NULL);
		char c;
		SAME(read(all[i].reader, &c, 1), -1);
		SAME(errno, EAGAIN);
	}
	ok();
}
