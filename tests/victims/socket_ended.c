// TCP connections within that have come to their end on one side or both, while the program still has them
// open: what was sent can be read, then comes the end; accepted ones beside their listening socket too.
//#Network: own
#include "victim.h"
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

union address {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
};

struct pair {
	int client, server;
};

static int listener(int family, union address *a, socklen_t *length)
{
	int s = MUST(socket(family, SOCK_STREAM, 0));
	/* As servers do, so that ended connections are in nobody's way. */
	MUST(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)));
	*length = family == AF_INET ? sizeof a->four : sizeof a->six;
	memset(a, 0, sizeof *a);
	a->any.sa_family = family;
	if (family == AF_INET)
		a->four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		a->six.sin6_addr = in6addr_loopback;
	MUST(bind(s, &a->any, *length));
	MUST(listen(s, 50));
	MUST(getsockname(s, &a->any, length));
	return s;
}

static struct pair pair(int door, const union address *a, socklen_t length)
{
	struct pair p = { MUST(socket(a->any.sa_family, SOCK_STREAM, 0)), -1 };
	MUST(connect(p.client, &a->any, length));
	p.server = MUST(accept(door, NULL, NULL));
	return p;
}

/* Until the end of the other side has come. */
static void await_end(int s)
{
	struct pollfd p = { s, POLLRDHUP, 0 };
	SAME(poll(&p, 1, 10000), 1);
}

static void ends(int s, const char *first)
{
	char text[64] = "";
	SAME(recv(s, text, sizeof text, MSG_WAITALL), strlen(first));
	CHECK(!strcmp(text, first), "it reads '%s'", text);
	SAME(read(s, text, 1), 0);
}

/* The other side is closed: the first write may be sent into the void, a later one fails. */
static void breaks(int s)
{
	for (int n = 0; write(s, "x", 1) == 1; n++) {
		CHECK(n < 10000, "it takes everything");
		usleep(1000);
	}
	CHECK(errno == EPIPE || errno == ECONNRESET, "%s", strerror(errno));
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	int families[] = { AF_INET, AF_INET6 };
	union address at[2];
	socklen_t length[2];
	int door[2];
	struct pair over[2], over_late[2], left[2], left_late[2], both[2];
	for (int i = 0; i < 2; i++) {
		door[i] = listener(families[i], &at[i], &length[i]);
		/* Over on both sides, by the server first, and by the client. */
		over[i] = pair(door[i], &at[i], length[i]);
		MUST(shutdown(over[i].server, SHUT_WR));
		await_end(over[i].client);
		MUST(shutdown(over[i].client, SHUT_WR));
		await_end(over[i].server);
		over_late[i] = pair(door[i], &at[i], length[i]);
		MUST(write(over_late[i].client, "unread", 6));
		MUST(shutdown(over_late[i].client, SHUT_WR));
		await_end(over_late[i].server);
		MUST(shutdown(over_late[i].server, SHUT_WR));
		await_end(over_late[i].client);
		/* One side is closed, the other has what it sent. */
		left[i] = pair(door[i], &at[i], length[i]);
		MUST(write(left[i].client, "request", 7));
		MUST(close(left[i].client));
		await_end(left[i].server);
		left_late[i] = pair(door[i], &at[i], length[i]);
		MUST(write(left_late[i].server, "answer", 6));
		MUST(close(left_late[i].server));
		await_end(left_late[i].client);
		/* Closed by one, and shut down by the other. */
		both[i] = pair(door[i], &at[i], length[i]);
		MUST(write(both[i].client, "last words", 10));
		MUST(close(both[i].client));
		await_end(both[i].server);
		MUST(shutdown(both[i].server, SHUT_WR));
	}
	ready();
	await_verify();
	for (int i = 0; i < 2; i++) {
		char c;
		ends(over[i].client, "");
		ends(over[i].server, "");
		SAME(write(over[i].server, &c, 1), -1);
		SAME(errno, EPIPE);
		ends(over_late[i].client, "");
		ends(over_late[i].server, "unread");
		SAME(write(over_late[i].client, &c, 1), -1);
		SAME(errno, EPIPE);
		ends(left[i].server, "request");
		breaks(left[i].server);
		ends(left_late[i].client, "answer");
		breaks(left_late[i].client);
		ends(both[i].server, "last words");
		SAME(write(both[i].server, &c, 1), -1);
		SAME(errno, EPIPE);
		/* Others come. */
		struct pair fresh = pair(door[i], &at[i], length[i]);
		MUST(write(fresh.client, "fresh", 5));
		SAME(read(fresh.server, &c, 1), 1);
	}
	ok();
}
