//#Modes: root
//#Network: own
// TCP connections within, of which one end has sent more than the other has room for: over one the
// one way, over the other both ways. Only root can carry what was not taken.
#include "victim.h"
#include <netinet/in.h>
#include <sys/socket.h>

struct way {
	int from, to;
	uint64_t sent;
};

static unsigned char byte_at(uint64_t at)
{
	return mix(at / 8) >> at % 8 * 8;
}

static void fill(struct way *w)
{
	for (int full = 0; full < 20;) {
		unsigned char piece[1000];
		for (size_t i = 0; i < sizeof piece; i++)
			piece[i] = byte_at(w->sent + i);
		ssize_t n = send(w->from, piece, sizeof piece, MSG_DONTWAIT);
		if (n > 0)
			w->sent += n;
		else
			full++, usleep(3000);
	}
}

static void drain(struct way *w)
{
	for (uint64_t at = 0; at < w->sent;) {
		unsigned char piece[5000];
		ssize_t n = MUST(read(w->to, piece, sizeof piece));
		CHECK(n > 0, "the stream ends at %llu", (unsigned long long)at);
		for (ssize_t i = 0; i < n; i++, at++)
			CHECK(piece[i] == byte_at(at), "byte %llu differs", (unsigned long long)at);
	}
	unsigned char c;
	SAME(recv(w->to, &c, 1, MSG_DONTWAIT), -1);
	MUST(write(w->from, "x", 1));
	SAME(read(w->to, &c, 1), 1);
	SAME(c, 'x');
}

int main(void)
{
	int listening = MUST(socket(AF_INET, SOCK_STREAM, 0));
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof a;
	MUST(bind(listening, (void *)&a, length));
	MUST(listen(listening, 2));
	MUST(getsockname(listening, (void *)&a, &length));
	int ends[4];
	for (int i = 0; i < 4; i += 2) {
		ends[i] = MUST(socket(AF_INET, SOCK_STREAM, 0));
		MUST(connect(ends[i], (void *)&a, length));
		ends[i + 1] = MUST(accept(listening, NULL, NULL));
	}
	struct way ways[] = { { ends[0], ends[1] }, { ends[2], ends[3] }, { ends[3], ends[2] } };
	for (int i = 0; i < 3; i++)
		fill(&ways[i]);
	ready();
	await_verify();
	for (int i = 0; i < 3; i++)
		drain(&ways[i]);
	ok();
}
