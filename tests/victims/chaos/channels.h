/* How pipes, FIFOs, sockets and pseudo-terminals are made, written to and read. */
#ifndef CHAOS_CHANNELS_H
#define CHAOS_CHANNELS_H
#include "turn.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

enum { PIPE, FIFO, STREAM, SEQPACKET, DGRAM, UDP, TCP, TTY, QUEUES };

/* How each is made. */

static void set_pair(const struct step *s, int a, int b)
{
	fds[s->a][0] = a;
	fds[s->b][0] = b;
}

static void run_make_pipe(const struct step *s)
{
	int pair[2];
	DO(s, pipe(pair));
	set_pair(s, pair[1], pair[0]);
}

static void run_make_fifo(const struct step *s)
{
	char name[40];
	snprintf(name, sizeof name, "fifo%d", s->object);
	DO(s, mkfifo(name, 0666));
	int from = DO(s, open(name, O_RDONLY | O_NONBLOCK));
	int to = DO(s, open(name, O_WRONLY));
	DO(s, fcntl(from, F_SETFL, 0));
	set_pair(s, to, from);
}

static void run_make_unix(const struct step *s)
{
	int pair[2], type = s->c == STREAM ? SOCK_STREAM : s->c == SEQPACKET ? SOCK_SEQPACKET : SOCK_DGRAM;
	DO(s, socketpair(AF_UNIX, type, 0, pair));
	set_pair(s, pair[0], pair[1]);
}

/* An address of our own, so that no two trees meet. */
static struct sockaddr_in own_address(void)
{
	uint32_t pid = control->tids[0][0];
	struct sockaddr_in address = { .sin_family = AF_INET };
	address.sin_addr.s_addr = htonl(0x7f010000u + (pid & 0xfeffff));
	return address;
}

static void run_make_udp(const struct step *s)
{
	struct sockaddr_in a = own_address(), b = a;
	socklen_t size = sizeof a;
	int x = DO(s, socket(AF_INET, SOCK_DGRAM, 0)), y = DO(s, socket(AF_INET, SOCK_DGRAM, 0));
	DO(s, bind(x, (void *)&a, size));
	DO(s, bind(y, (void *)&b, size));
	DO(s, getsockname(x, (void *)&a, &size));
	DO(s, getsockname(y, (void *)&b, &size));
	DO(s, connect(x, (void *)&b, size));
	DO(s, connect(y, (void *)&a, size));
	set_pair(s, x, y);
}

static void run_make_tcp(const struct step *s)
{
	struct sockaddr_in a = own_address();
	socklen_t size = sizeof a;
	int listener = DO(s, socket(AF_INET, SOCK_STREAM, 0)), x = DO(s, socket(AF_INET, SOCK_STREAM, 0));
	DO(s, bind(listener, (void *)&a, size));
	/* The kernel would choose 127.0.0.1, which all have in common. */
	DO(s, bind(x, (void *)&a, size));
	DO(s, listen(listener, 4));
	DO(s, getsockname(listener, (void *)&a, &size));
	DO(s, connect(x, (void *)&a, size));
	int y = DO(s, accept(listener, NULL, NULL));
	DO(s, close(listener));
	DO(s, setsockopt(x, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)));
	DO(s, setsockopt(y, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)));
	set_pair(s, x, y);
}

static void run_make_tty(const struct step *s)
{
	struct termios raw;
	int master, slave;
	DO(s, openpty(&master, &slave, NULL, NULL, NULL));
	DO(s, tcgetattr(slave, &raw));
	cfmakeraw(&raw);
	DO(s, tcsetattr(slave, TCSANOW, &raw));
	set_pair(s, master, slave);
}

static void (*const makers[QUEUES])(const struct step *) = {
	run_make_pipe, run_make_fifo, run_make_unix, run_make_unix, run_make_unix, run_make_udp, run_make_tcp, run_make_tty,
};

/* What is done with them. */

static void run_write(const struct step *s)
{
	int fd = fd_of(s);
	for (size_t done = 0; done < s->length;) {
		ssize_t n = DO(s, write(fd, s->data + done, s->length - done));
		done += n;
	}
}

static void run_send(const struct step *s)
{
	char control_bytes[CMSG_SPACE(RIGHTS * sizeof(int))] = { 0 };
	struct iovec piece = { (void *)s->data, s->length };
	struct msghdr m = { .msg_iov = &piece, .msg_iovlen = 1 };
	if (s->rights) {
		int carried[RIGHTS];
		for (int i = 0; i < s->rights; i++)
			carried[i] = fds[(int)s->right[i]][(int)s->kept[i]];
		m.msg_control = control_bytes;
		m.msg_controllen = CMSG_SPACE(s->rights * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(s->rights * sizeof(int));
		memcpy(CMSG_DATA(c), carried, s->rights * sizeof(int));
	}
	EXPECT(s, "bytes sent", DO(s, sendmsg(fd_of(s), &m, 0)), s->length);
}

static void run_write_fails(const struct step *s)
{
	ssize_t n = write(fd_of(s), "x", 1);
	EXPECT(s, "bytes written", n, -1);
	EXPECT(s, "errno", errno, s->a);
}

/* Waits a moment for what must be there: a failure shall be told, not hang. */
static void must_be_readable(const struct step *s)
{
	struct pollfd p = { .fd = fd_of(s), .events = POLLIN };
	int n = poll(&p, 1, 5000);
	if (n != 1)
		WRONG(s, "expected %zu bytes to read, found nothing", s->length);
}

static void run_read(const struct step *s)
{
	unsigned char *found = malloc(s->length + 1);
	size_t done = 0;
	while (done < s->length) {
		must_be_readable(s);
		ssize_t n = DO(s, read(fd_of(s), found + done, s->length - done));
		if (!n)
			WRONG(s, "expected %zu bytes, found the end after %zu", s->length, done);
		done += n;
	}
	same_bytes(s, found, done);
	free(found);
}

static void run_receive(const struct step *s)
{
	char control_bytes[CMSG_SPACE(8 * sizeof(int))];
	unsigned char *found = malloc(s->length + 100);
	struct iovec piece = { found, s->length + (s->a ? 0 : 100) };
	struct msghdr m = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control_bytes, .msg_controllen = sizeof control_bytes };
	must_be_readable(s);
	same_bytes(s, found, DO(s, recvmsg(fd_of(s), &m, 0)));
	free(found);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int n = c && c->cmsg_type == SCM_RIGHTS ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
	EXPECT(s, "descriptors in the message", n, s->rights);
	for (int i = 0; i < n; i++) {
		int fd;
		memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
		if (s->kept[i] == 2)
			close(fd);
		else
			fds[(int)s->right[i]][(int)s->kept[i]] = fd;
	}
}

static void run_nothing(const struct step *s)
{
	struct pollfd p = { .fd = fd_of(s), .events = POLLIN };
	EXPECT(s, "poll", DO(s, poll(&p, 1, 0)), 0);
}

static void run_end_of_file(const struct step *s)
{
	char c;
	must_be_readable(s);
	EXPECT(s, "bytes at the end", DO(s, read(fd_of(s), &c, 1)), 0);
}

static void run_waiting(const struct step *s)
{
	int n = -1;
	/* What goes through a network takes its time. */
	for (int i = 0; i < 2000 && n != s->a; i++) {
		if (i)
			usleep(1000);
		DO(s, ioctl(fd_of(s), FIONREAD, &n));
	}
	EXPECT(s, "FIONREAD", n, s->a);
}

static void run_shutdown(const struct step *s)
{
	DO(s, shutdown(fd_of(s), SHUT_WR));
}

/* Room in the pipe: none, or some. */
static void run_room(const struct step *s)
{
	struct pollfd p = { .fd = fd_of(s), .events = POLLOUT };
	EXPECT(s, "whether there is room to write", DO(s, poll(&p, 1, 0)), s->a);
}
#endif
