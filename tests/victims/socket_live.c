//#Modes: none
//#Network: own
// Two TCP connections to another process, one made from here and one accepted, with bytes on the
// way in all queues; arguments: the other's address, "live", "child" or, where a
// reset is expected, "reset". The streams must be whole afterwards.
#include "victim.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { THEIRS = 5000, OURS = 4000, FROM_THEM = 300000, MORE = 100000 };

static unsigned char byte_at(uint64_t at)
{
	return mix(at / 8) >> at % 8 * 8;
}

static int option(int fd, int level, int name)
{
	int value = -1;
	socklen_t length = sizeof value;
	MUST(getsockopt(fd, level, name, &value, &length));
	return value;
}

static void expect_reset(int fd)
{
	char c[4096];
	ssize_t n;
	while ((n = read(fd, c, sizeof c)) > 0)
		;
	SAME(n, -1);
	SAME(errno, ECONNRESET);
}

int main(int count, char **arguments)
{
	CHECK(count == 3, "wants an address and a word");
	int family = strchr(arguments[1], ':') ? AF_INET6 : AF_INET;
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(THEIRS) };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(THEIRS) };
	void *address = family == AF_INET ? (void *)&four : (void *)&six;
	void *ip = family == AF_INET ? (void *)&four.sin_addr : (void *)&six.sin6_addr;
	socklen_t length = family == AF_INET ? sizeof four : sizeof six;
	SAME(inet_pton(family, arguments[1], ip), 1);

	/* Both families at once. */
	int listening = MUST(socket(AF_INET6, SOCK_STREAM, 0));
	MUST(setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)));
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(OURS) };
	MUST(bind(listening, (void *)&any, sizeof any));
	MUST(listen(listening, 4));
	int out = MUST(socket(family, SOCK_STREAM, 0));
	MUST(connect(out, address, length));
	MUST(setsockopt(out, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)));
	int in = MUST(accept(listening, NULL, NULL));
	if (!strcmp(arguments[2], "child")) {
		/* The connections, and the talk with the test, are a child's. */
		pid_t child = MUST(fork());
		if (child) {
			close(in);
			close(out);
			int status;
			MUST(waitpid(child, &status, 0));
			return WEXITSTATUS(status);
		}
	}
	int buffer = option(in, SOL_SOCKET, SO_RCVBUF);

	/* More than the other end takes. */
	uint64_t sent = 0;
	for (int full = 0; full < 20;) {
		unsigned char piece[1000];
		for (size_t i = 0; i < sizeof piece; i++)
			piece[i] = byte_at(sent + i);
		ssize_t n = send(out, piece, sizeof piece, MSG_DONTWAIT);
		if (n > 0)
			sent += n;
		else
			full++, usleep(5000);
	}
	ready();
	await_verify();
	if (!strcmp(arguments[2], "reset")) {
		expect_reset(in);
		expect_reset(out);
		ok();
	}
	say("SENT %llu\n", (unsigned long long)sent + MORE);
	SAME(option(out, IPPROTO_TCP, TCP_NODELAY), 1);
	SAME(option(out, SOL_SOCKET, SO_REUSEADDR), 0);
	SAME(option(in, SOL_SOCKET, SO_REUSEADDR), 1);
	CHECK(option(in, SOL_SOCKET, SO_RCVBUF) >= buffer, "the receive buffer shrank");
	int locked = option(in, SOL_SOCKET, 72 /* SO_BUF_LOCK */);
	SAME(locked, 0);
	for (uint64_t end = sent + MORE; sent < end;) {
		unsigned char c = byte_at(sent);
		MUST(write(out, &c, 1));
		sent++;
	}
	for (uint64_t at = 0; at < FROM_THEM;) {
		unsigned char piece[7777];
		ssize_t n = MUST(read(in, piece, sizeof piece));
		CHECK(n > 0, "the stream ends at %llu", (unsigned long long)at);
		for (ssize_t i = 0; i < n; i++, at++)
			CHECK(piece[i] == byte_at(at), "byte %llu differs", (unsigned long long)at);
	}
	char word[5] = "";
	SAME(recv(out, word, 4, MSG_WAITALL), 4);
	CHECK(!strcmp(word, "done"), "got %s", word);
	/* And new ones are accepted. */
	int next = MUST(accept(listening, NULL, NULL));
	SAME(read(next, word, 4), 4);
	ok();
}
