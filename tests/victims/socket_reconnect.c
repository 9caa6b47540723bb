//#Modes: root user newpid
//#Dump: --external-sockets reconnect
// Unix sockets that are connected with a server outside, by its name: connected anew.
#include "victim.h"
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

/* Answers whoever connects, until it is told to end or nobody comes. */
static void serve(int listening, int grams)
{
	struct pollfd p[20] = { { listening, POLLIN, 0 }, { grams, POLLIN, 0 } };
	int n = 2;
	while (poll(p, n, 30000) > 0) {
		if (p[0].revents && n < 20)
			p[n++] = (struct pollfd){ accept(listening, NULL, NULL), POLLIN, 0 };
		char c = 0;
		if (p[1].revents && read(grams, &c, 1) == 1 && c == 'e')
			_exit(0);
		for (int i = 2; i < n; i++)
			if (p[i].revents && (read(p[i].fd, &c, 1) != 1 || write(p[i].fd, "answer", 6) != 6))
				p[i].fd = -1;
	}
	_exit(0);
}

static int bound(int type, const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	strcpy(a.sun_path, path);
	int s = MUST(socket(AF_UNIX, type, 0));
	MUST(bind(s, (void *)&a, sizeof a));
	return s;
}

static int connected(int type, const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	strcpy(a.sun_path, path);
	int s = MUST(socket(AF_UNIX, type, 0));
	MUST(connect(s, (void *)&a, sizeof a));
	return s;
}

int main(void)
{
	char stream_path[108], gram_path[108], cwd[80];
	CHECK(getcwd(cwd, sizeof cwd), "getcwd");
	snprintf(stream_path, sizeof stream_path, "%s/stream", cwd);
	snprintf(gram_path, sizeof gram_path, "%s/gram", cwd);
	int listening = bound(SOCK_STREAM, stream_path), grams = bound(SOCK_DGRAM, gram_path);
	MUST(listen(listening, 5));
	if (!fork()) {
		if (fork())
			_exit(0);
		close(0);
		close(1);
		close(2);
		prctl(PR_SET_NAME, "outsider");
		serve(listening, grams);
	}
	wait(NULL);
	close(listening);
	close(grams);
	int stream = connected(SOCK_STREAM, stream_path), gram = connected(SOCK_DGRAM, gram_path);
	char text[8];
	MUST(write(stream, "?", 1));
	SAME(read(stream, text, 6), 6);
	ready();
	await_verify();
	MUST(write(stream, "?", 1));
	SAME(read(stream, text, 6), 6);
	struct sockaddr_un a = { 0 };
	socklen_t length = sizeof a;
	MUST(getpeername(stream, (void *)&a, &length));
	CHECK(!strcmp(a.sun_path, stream_path), "the peer is %s", a.sun_path);
	MUST(write(gram, "e", 1));
	ok();
}
