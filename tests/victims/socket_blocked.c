//#Modes: root user newpid
//#Dump: --external-sockets close
//#Network: own
// TCP connections to another process, with threads that wait in calls on them while the dump comes, and in
// every state that a connection can be in: each call returns at once after the resume, and no later one
// hangs.
#include "victim.h"
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { READ, RECV_ALL, READV, POLL, SELECT, EPOLL, WRITE, FIN_WAIT, CLOSE_WAIT, ENDED, CONNECTING, COUNT };

struct waiting {
	int fd, done, error;
	long result;
	uint64_t took;
	pthread_t thread;
	volatile int begun;
};

static struct waiting all[COUNT];
static struct sockaddr_in full;

/* Holds the other ends, and nothing else, until the test is over. */
static void outsider(int until, const int *ends, int n)
{
	if (!fork()) {
		if (fork())
			_exit(0);
		for (int fd = 0; fd < 100; fd++) {
			int keep = fd == until;
			for (int i = 0; i < n; i++)
				keep |= fd == ends[i];
			if (!keep)
				close(fd);
		}
		prctl(PR_SET_NAME, "outsider");
		shutdown(ends[CLOSE_WAIT], SHUT_WR);
		close(ends[ENDED]);
		char c;
		while (read(until, &c, 1) > 0)
			;
		_exit(0);
	}
	wait(NULL);
	close(until);
	for (int i = 0; i < n; i++)
		close(ends[i]);
}

static long call(int which)
{
	int fd = all[which].fd;
	char c[64];
	fd_set set;
	struct epoll_event event = { EPOLLIN | EPOLLRDHUP, { .fd = fd } };
	struct pollfd p = { fd, POLLIN, 0 };
	struct iovec v = { c, sizeof c };
	static char block[1 << 16];
	switch (which) {
	case RECV_ALL:
		return recv(fd, c, 10, MSG_WAITALL);
	case READV:
		return readv(fd, &v, 1);
	case POLL:
		return poll(&p, 1, -1) < 0 ? -1 : (p.revents & POLLERR ? read(fd, c, 1) : 0);
	case SELECT:
		FD_ZERO(&set);
		FD_SET(fd, &set);
		return select(fd + 1, &set, NULL, NULL, NULL) < 0 ? -1 : read(fd, c, 1);
	case EPOLL: {
		int set = MUST(epoll_create1(0));
		MUST(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
		return epoll_wait(set, &event, 1, -1) < 0 ? -1 : read(fd, c, 1);
	}
	case WRITE: {
		long n;
		while ((n = write(fd, block, sizeof block)) > 0)
			;
		return n;
	}
	case CONNECTING:
		return connect(fd, (void *)&full, sizeof full);
	default:
		return read(fd, c, 1);
	}
}

static void *body(void *argument)
{
	struct waiting *me = argument;
	me->begun = 1;
	me->result = call(me - all);
	me->error = errno;
	me->done = 1;
	return NULL;
}

static int listening(struct sockaddr_in *a, int backlog)
{
	int s = MUST(socket(AF_INET, SOCK_STREAM, 0));
	socklen_t length = sizeof *a;
	*a = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	MUST(bind(s, (void *)a, length));
	MUST(listen(s, backlog));
	MUST(getsockname(s, (void *)a, &length));
	return s;
}

static int fills;

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	struct sockaddr_in a;
	int ends[COUNT], until[2], door = listening(&a, COUNT);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, until));
	for (int i = 0; i < CONNECTING; i++) {
		all[i].fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
		MUST(connect(all[i].fd, (void *)&a, sizeof a));
		ends[i] = MUST(accept(door, NULL, NULL));
	}
	close(door);
	/* A listening socket that takes no more: who connects waits. */
	ends[CONNECTING] = listening(&full, 0);
	fills = MUST(socket(AF_INET, SOCK_STREAM, 0));
	MUST(connect(fills, (void *)&full, sizeof full));
	all[CONNECTING].fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
	MUST(write(ends[RECV_ALL], "abc", 3));
	outsider(until[1], ends, COUNT);
	MUST(shutdown(all[FIN_WAIT].fd, SHUT_WR));
	for (int i = 0; i < COUNT; i++) {
		/* These do not wait, they have come to their end. */
		if (i == CLOSE_WAIT || i == ENDED) {
			struct pollfd p = { all[i].fd, POLLRDHUP, 0 };
			SAME(poll(&p, 1, 10000), 1);
		} else {
			MUST(-pthread_create(&all[i].thread, NULL, body, &all[i]));
			while (!all[i].begun)
				usleep(100);
		}
	}
	/* Until all sleep. */
	usleep(100000);
	ready();
	await_verify();
	struct pollfd p = { until[0], POLLIN, 0 };
	if (poll(&p, 1, 0) == 0) {
		/* Without a dump all wait. */
		for (int i = 0; i < COUNT; i++)
			CHECK(!all[i].done, "call %d returned %ld (%s)", i, all[i].result, strerror(all[i].error));
		ok();
	}
	for (int i = 0; i < COUNT; i++) {
		if (i == CLOSE_WAIT || i == ENDED) {
			all[i].result = call(i);
			all[i].error = errno;
		} else {
			for (int n = 0; !all[i].done; n++) {
				CHECK(n < 10000, "call %d hangs", i);
				usleep(1000);
			}
		}
	}
	for (int i = 0; i < COUNT; i++) {
		/* What had come before is kept; where nobody had the other end any more, the end is an end. */
		long result = i == RECV_ALL ? 3 : i == ENDED ? 0 : -1;
		int error = result >= 0 ? 0 : i == CONNECTING ? ECONNREFUSED : ECONNRESET;
		CHECK(all[i].result == result && (!error || all[i].error == error), "call %d returned %ld (%s)", i,
		      all[i].result, strerror(all[i].error));
	}
	ok();
}
