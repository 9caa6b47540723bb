//#Modes: root user newpid
//#Dump: --external-sockets close
//#Network: own
// Sockets whose other end is in another process: a Unix socket sees it closed, after what was sent;
// a TCP connection sees a reset, at once.
#include "victim.h"
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* Holds the two descriptors, and nothing else, until the first is at its end. */
static void outsider(int unix_end, int tcp_end)
{
	if (!fork()) {
		if (fork())
			_exit(0);
		for (int fd = 0; fd < 100; fd++)
			if (fd != unix_end && fd != tcp_end)
				close(fd);
		prctl(PR_SET_NAME, "outsider");
		char c;
		while (read(unix_end, &c, 1) > 0)
			;
		_exit(0);
	}
	wait(NULL);
	close(unix_end);
	close(tcp_end);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	int ends[2];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	MUST(write(ends[1], "last words", 10));
	int listening = MUST(socket(AF_INET, SOCK_STREAM, 0));
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof a;
	MUST(bind(listening, (void *)&a, length));
	MUST(listen(listening, 1));
	MUST(getsockname(listening, (void *)&a, &length));
	int tcp = MUST(socket(AF_INET, SOCK_STREAM, 0));
	MUST(connect(tcp, (void *)&a, length));
	int accepted = MUST(accept(listening, NULL, NULL));
	close(listening);
	outsider(ends[1], accepted);
	ready();
	await_verify();
	char text[64];
	SAME(read(ends[0], text, sizeof text), 10);
	CHECK(!memcmp(text, "last words", 10), "what waited differs");
	struct pollfd p = { tcp, POLLIN, 0 };
	if (poll(&p, 1, 0) == 0) {
		/* Without a dump both are as they were. */
		ok();
	}
	SAME(read(ends[0], text, sizeof text), 0);
	SAME(write(ends[0], "x", 1), -1);
	SAME(errno, EPIPE);
	SAME(read(tcp, text, sizeof text), -1);
	SAME(errno, ECONNRESET);
	SAME(write(tcp, "x", 1), -1);
	SAME(errno, EPIPE);
	ok();
}
