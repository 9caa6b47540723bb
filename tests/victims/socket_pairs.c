// Socket pairs of all three types: what waits in both directions, with its boundaries; closed ends
// and halves; flags and options; descriptors in flight, some of which nobody holds any more.
#include "victim.h"
#include <sys/ioctl.h>
#include <sys/socket.h>

static char big[300000], back[300000];

static void give(int to, const char *text, int n, const int *fds)
{
	char control[CMSG_SPACE(8 * sizeof(int))] = { 0 };
	struct iovec piece = { (void *)text, strlen(text) };
	struct msghdr m = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	MUST(sendmsg(to, &m, 0));
}

static int take(int from, char *text, size_t size, int *fds)
{
	char control[CMSG_SPACE(8 * sizeof(int))];
	struct iovec piece = { text, size - 1 };
	struct msghdr m = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	ssize_t n = recvmsg(from, &m, MSG_DONTWAIT);
	CHECK(n >= 0, "recvmsg: %s", strerror(errno));
	text[n] = 0;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (!c)
		return 0;
	int count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(fds, CMSG_DATA(c), count * sizeof(int));
	return count;
}

static int number(int s, int option)
{
	int value = -1;
	socklen_t length = sizeof value;
	MUST(getsockopt(s, SOL_SOCKET, option, &value, &length));
	return value;
}

static void reads(int s, const char *wanted)
{
	char text[200];
	ssize_t n = recv(s, text, sizeof text, MSG_DONTWAIT);
	CHECK(n == (ssize_t)strlen(wanted) && !memcmp(text, wanted, n), "read %zd bytes (%.*s), not '%s'", n, (int)(n > 0 ? n : 0), text, wanted);
}

static void nothing(int s)
{
	char c;
	SAME(recv(s, &c, 1, MSG_DONTWAIT), -1);
	SAME(errno, EAGAIN);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	int stream[2], packets[2], grams[2], empty[2], gone[2], half[2], full[2], rights[2], inner[2], lonely[2];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
	MUST(write(stream[0], "to the right", 12));
	MUST(write(stream[1], "to the ", 7));
	MUST(write(stream[1], "left", 4));
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, packets));
	MUST(send(packets[0], "one", 3, 0));
	MUST(send(packets[0], "two two", 7, 0));
	MUST(send(packets[1], "three", 5, 0));
	MUST(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, grams));
	MUST(send(grams[0], "a", 1, 0));
	MUST(send(grams[0], "", 0, 0));
	MUST(send(grams[0], "bcd", 3, 0));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, empty));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, gone));
	MUST(write(gone[1], "last words", 10));
	close(gone[1]);
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, lonely));
	MUST(send(lonely[1], "farewell", 8, 0));
	close(lonely[1]);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, half));
	MUST(write(half[0], "then no more", 12));
	MUST(shutdown(half[0], SHUT_WR));
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, full));
	for (unsigned i = 0; i < sizeof big; i++)
		big[i] = mix(i);
	long filled = 0;
	for (ssize_t n; (n = write(full[0], big + filled, 4000)) > 0 && filled < 250000;)
		filled += n;
	/* Options. */
	int one = 1, size = 40000;
	struct timeval patience = { 3, 0 };
	MUST(setsockopt(empty[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof one));
	MUST(setsockopt(empty[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
	MUST(setsockopt(empty[0], SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
	MUST(setsockopt(empty[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
	MUST(setsockopt(empty[1], SOL_SOCKET, SO_PRIORITY, &(int){ 5 }, sizeof(int)));
	MUST(setsockopt(empty[1], SOL_SOCKET, SO_PEEK_OFF, &(int){ 2 }, sizeof(int)));
	int sending = number(empty[0], SO_SNDBUF), receiving = number(empty[0], SO_RCVBUF);
	/* Descriptors in flight: one that is held, one that nobody holds, a socket with a message of its
	   own whose other end is held, all with bytes around them. */
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, rights));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, inner));
	int held = MUST(open("held.txt", O_RDWR | O_CREAT | O_TRUNC, 0600));
	int flying = MUST(open("flying.txt", O_RDWR | O_CREAT | O_TRUNC, 0600));
	MUST(write(held, "held", 4));
	MUST(write(flying, "flying", 6));
	MUST(write(inner[1], "from inside", 11));
	MUST(write(rights[0], "before ", 7));
	give(rights[0], "with", 3, (int[]){ held, flying, inner[0] });
	MUST(write(rights[0], " after", 6));
	close(flying);
	close(inner[0]);
	/* Pipes: one end in flight, and both. */
	int one_end[2], both_ends[2];
	MUST(pipe(one_end));
	MUST(pipe(both_ends));
	MUST(write(one_end[1], "in the pipe", 11));
	MUST(write(both_ends[1], "nobody's", 8));
	give(rights[0], "pipes", 3, (int[]){ one_end[0], both_ends[0], both_ends[1] });
	close(one_end[0]);
	close(both_ends[0]);
	close(both_ends[1]);
	give(packets[0], "packet", 1, (int[]){ held });
	ready();
	await_verify();

	reads(stream[1], "to the right");
	reads(stream[0], "to the left");
	nothing(stream[0]);
	MUST(write(stream[0], "again", 5));
	reads(stream[1], "again");
	reads(packets[1], "one");
	reads(packets[1], "two two");
	reads(packets[0], "three");
	SAME(fcntl(packets[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	SAME(fcntl(stream[0], F_GETFL) & O_NONBLOCK, 0);
	SAME(fcntl(grams[0], F_GETFD), FD_CLOEXEC);
	reads(grams[1], "a");
	char c;
	SAME(recv(grams[1], &c, 1, MSG_DONTWAIT), 0);
	reads(grams[1], "bcd");
	nothing(grams[1]);
	reads(gone[0], "last words");
	SAME(read(gone[0], &c, 1), 0);
	SAME(write(gone[0], "x", 1), -1);
	SAME(errno, EPIPE);
	reads(lonely[0], "farewell");
	SAME(send(lonely[0], "x", 1, 0), -1);
	SAME(errno, ECONNREFUSED);
	reads(half[1], "then no more");
	SAME(read(half[1], &c, 1), 0);
	SAME(write(half[0], "x", 1), -1);
	SAME(errno, EPIPE);
	MUST(write(half[1], "back", 4));
	reads(half[0], "back");
	long got = 0;
	for (ssize_t n; (n = read(full[1], back + got, sizeof back - got)) > 0;)
		got += n;
	SAME(got, filled);
	CHECK(!memcmp(back, big, filled), "the full socket's content differs");

	SAME(number(empty[0], SO_PASSCRED), 1);
	SAME(number(empty[1], SO_PASSCRED), 0);
	SAME(number(empty[0], SO_SNDBUF), sending);
	SAME(number(empty[0], SO_RCVBUF), receiving);
	SAME(number(empty[1], SO_PRIORITY), 5);
	SAME(number(empty[1], SO_PEEK_OFF), 2);
	SAME(number(stream[0], SO_PEEK_OFF), -1);
	struct timeval now;
	socklen_t length = sizeof now;
	MUST(getsockopt(empty[1], SOL_SOCKET, SO_RCVTIMEO, &now, &length));
	SAME(now.tv_sec, 3);
	SAME(now.tv_usec, 0);
	length = sizeof now;
	MUST(getsockopt(stream[0], SOL_SOCKET, SO_SNDTIMEO, &now, &length));
	SAME(now.tv_sec, 0);
	nothing(empty[0]);

	int fds[8];
	char text[100];
	SAME(take(rights[1], text, 8, fds), 0);
	CHECK(!strcmp(text, "before "), "read '%s' before the descriptors", text);
	SAME(take(rights[1], text, 5, fds), 3);
	CHECK(!strcmp(text, "with"), "read '%s' with the descriptors", text);
	MUST(lseek(held, 1, SEEK_SET));
	SAME(lseek(fds[0], 0, SEEK_CUR), 1);
	SAME(lseek(fds[1], 0, SEEK_CUR), 6);
	SAME(pread(fds[1], text, 6, 0), 6);
	CHECK(!memcmp(text, "flying", 6), "the file in flight differs");
	reads(fds[2], "from inside");
	MUST(write(fds[2], "reply", 5));
	reads(inner[1], "reply");
	SAME(take(rights[1], text, 7, fds), 0);
	CHECK(!strcmp(text, " after"), "read '%s' after the descriptors", text);
	SAME(take(rights[1], text, 6, fds), 3);
	CHECK(!strcmp(text, "pipes"), "read '%s' with the pipes", text);
	SAME(read(fds[0], text, sizeof text), 11);
	SAME(read(fds[1], text, sizeof text), 8);
	CHECK(!memcmp(text, "nobody's", 8), "the pipe in flight differs");
	MUST(write(one_end[1], "more", 4));
	SAME(read(fds[0], text, sizeof text), 4);
	MUST(write(fds[2], "x", 1));
	SAME(read(fds[1], text, sizeof text), 1);
	SAME(take(packets[1], text, sizeof text, fds), 1);
	SAME(lseek(fds[0], 0, SEEK_CUR), 1);
	int waiting = 1;
	SAME(ioctl(rights[1], FIONREAD, &waiting), 0);
	SAME(waiting, 0);
	ok();
}
