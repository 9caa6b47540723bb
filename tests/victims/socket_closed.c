// Unix sockets whose other end is closed, most of them accepted: what was sent before can still be
// read, the names of both ends are known, an error waits where the other end had not read all. Beside
// living listening sockets, and where these are closed and several have one name.
#include "victim.h"
#include "unix_names.h"
#include <poll.h>

static int listening(int type, const char *name)
{
	int s = bound(type, name);
	MUST(listen(s, 9));
	return s;
}

/* A new socket, with a name of its own if that is not empty, connected to one. */
static int client(int type, const char *own, const char *to)
{
	struct sockaddr_un a;
	socklen_t length = address(&a, to);
	int s = *own ? bound(type, own) : MUST(socket(AF_UNIX, type, 0));
	MUST(connect(s, (void *)&a, length));
	return s;
}

static int let_in(int listener)
{
	return MUST(accept(listener, NULL, NULL));
}

static void named(int s, int peer, const char *name)
{
	struct sockaddr_un a = { 0 }, wanted;
	socklen_t length = sizeof a, expected = *name ? address(&wanted, name) : 2;
	if (peer)
		MUST(getpeername(s, (void *)&a, &length));
	else
		MUST(getsockname(s, (void *)&a, &length));
	CHECK(length == expected && (!*name || !memcmp(&a, &wanted, length)), "%s of descriptor %d is '%s' (%d bytes), not '%s'",
	      peer ? "peer" : "name", s, a.sun_path[0] ? a.sun_path : a.sun_path + 1, length, name);
}

static void reads(int s, const char *wanted)
{
	char text[200];
	ssize_t n = recv(s, text, sizeof text, MSG_DONTWAIT);
	CHECK(n == (ssize_t)strlen(wanted) && !memcmp(text, wanted, n), "read %zd bytes (%.*s), not '%s'", n, (int)(n > 0 ? n : 0), text, wanted);
}

static void ends(int s)
{
	char c;
	struct pollfd p = { .fd = s, .events = POLLIN | POLLRDHUP };
	SAME(poll(&p, 1, 0), 1);
	SAME(p.revents, POLLIN | POLLRDHUP | POLLHUP);
	SAME(recv(s, &c, 1, MSG_DONTWAIT), 0);
	SAME(send(s, "x", 1, MSG_NOSIGNAL), -1);
	SAME(errno, EPIPE);
}

/* The other end had not read all when it was closed. */
static void ends_by_error(int s)
{
	char c;
	struct pollfd p = { .fd = s, .events = POLLIN };
	SAME(poll(&p, 1, 0), 1);
	SAME(p.revents, POLLIN | POLLHUP | POLLERR);
	SAME(recv(s, &c, 1, MSG_DONTWAIT), -1);
	SAME(errno, ECONNRESET);
	ends(s);
}

static void talks(int one, int other)
{
	MUST(send(one, "there", 5, 0));
	reads(other, "there");
	MUST(send(other, "and back", 8, 0));
	reads(one, "and back");
}

static char big[150000];

int main(void)
{
	static char path[600], abstract[60], closing[60], own[60], other[60];
	char cwd[400];
	CHECK(getcwd(cwd, sizeof cwd), "getcwd");
	snprintf(path, sizeof path, "%.80s/here", cwd);
	snprintf(abstract, sizeof abstract, "@closed-%d", getpid());
	snprintf(closing, sizeof closing, "@closing-%d", getpid());
	snprintf(own, sizeof own, "@own-%d", getpid());
	snprintf(other, sizeof other, "@other-%d", getpid());

	/* A living listening socket: one that said something, one that had not read all, one with a path
	   of its own, whose file is still there, one whose is not, and one that lives. */
	int door = listening(SOCK_STREAM, path);
	int c = client(SOCK_STREAM, "", path), said = let_in(door);
	MUST(write(c, "last words", 10));
	close(c);
	c = client(SOCK_STREAM, "", path);
	int unread = let_in(door);
	MUST(write(unread, "nobody reads this", 17));
	MUST(write(c, "but this", 8));
	close(c);
	c = client(SOCK_STREAM, "stale", path);
	int stale = let_in(door);
	close(c);
	c = client(SOCK_STREAM, "removed", path);
	int removed = let_in(door);
	MUST(unlink("removed"));
	close(c);
	int alive = client(SOCK_STREAM, "", path), with_alive = let_in(door);
	/* More than the buffer it begins with, and a descriptor. */
	c = client(SOCK_STREAM, "", path);
	int much = let_in(door), pipe_ends[2];
	MUST(pipe(pipe_ends));
	for (unsigned i = 0; i < sizeof big; i++)
		big[i] = mix(i);
	SAME(write(c, big, sizeof big), sizeof big);
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec piece = { "fd", 2 };
	struct msghdr m = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *right = CMSG_FIRSTHDR(&m);
	right->cmsg_level = SOL_SOCKET;
	right->cmsg_type = SCM_RIGHTS;
	right->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(right), &pipe_ends[1], sizeof(int));
	MUST(sendmsg(c, &m, 0));
	MUST(close(pipe_ends[1]));
	close(c);
	/* The other way round: the accepted end was closed. */
	int left = client(SOCK_STREAM, "", path), left_2 = client(SOCK_STREAM, own, path);
	c = let_in(door);
	MUST(write(c, "goodbye", 7));
	close(c);
	close(let_in(door));
	/* They wait to be accepted: one that lives, one that was closed, one that gave up both ways, and
	   another that lives. */
	int waits = client(SOCK_STREAM, "", path);
	close(client(SOCK_STREAM, "", path));
	int gave_up = client(SOCK_STREAM, "", path);
	MUST(shutdown(gave_up, SHUT_RDWR));
	int waits_2 = client(SOCK_STREAM, "", path);

	/* By packets, under an abstract name; the clients had one, too, one after the other. */
	int packets = listening(SOCK_SEQPACKET, abstract);
	c = client(SOCK_SEQPACKET, own, abstract);
	int first = let_in(packets);
	MUST(send(c, "one", 3, 0));
	MUST(send(c, "two", 3, 0));
	close(c);

	/* Listening sockets that are closed: several connections each of one name, closed or not; of a
	   path that is there, of one that is not, of an abstract name that is free for others. */
	int stays = listening(SOCK_STREAM, "stays"), goes = listening(SOCK_STREAM, "goes"), free_one = listening(SOCK_STREAM, closing);
	MUST(chmod("stays", 0600));
	c = client(SOCK_STREAM, "", "stays");
	int stays_1 = let_in(stays);
	MUST(write(c, "one", 3));
	close(c);
	int stays_c = client(SOCK_STREAM, "", "stays"), stays_2 = let_in(stays);
	c = client(SOCK_STREAM, "", "goes");
	int goes_1 = let_in(goes);
	MUST(write(c, "one", 3));
	close(c);
	int goes_c = client(SOCK_STREAM, other, "goes"), goes_2 = let_in(goes);
	MUST(unlink("goes"));
	c = client(SOCK_STREAM, "", closing);
	int free_1 = let_in(free_one);
	MUST(write(c, "one", 3));
	close(c);
	int free_c = client(SOCK_STREAM, "", closing), free_2 = let_in(free_one);
	close(stays);
	close(goes);
	close(free_one);

	/* A pair. */
	int pair[2];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	MUST(write(pair[0], "unread", 6));
	MUST(close(pair[1]));
	ready();
	await_verify();

	reads(said, "last words");
	ends(said);
	named(said, 0, path);
	named(said, 1, "");
	reads(unread, "but this");
	ends_by_error(unread);
	named(stale, 0, path);
	named(stale, 1, "stale");
	CHECK(!access("stale", F_OK), "the file of a closed socket is gone");
	ends(stale);
	named(removed, 0, path);
	named(removed, 1, "removed");
	CHECK(access("removed", F_OK) && errno == ENOENT, "a removed name is back");
	ends(removed);
	named(with_alive, 0, path);
	named(alive, 1, path);
	talks(alive, with_alive);
	static char found[sizeof big];
	SAME(recv(much, found, sizeof found, MSG_WAITALL), sizeof found);
	CHECK(!memcmp(found, big, sizeof big), "what was sent before the end is not the same");
	char text[10];
	piece = (struct iovec){ text, sizeof text };
	m.msg_controllen = sizeof control;
	SAME(recvmsg(much, &m, MSG_DONTWAIT), 2);
	int end;
	CHECK(right->cmsg_type == SCM_RIGHTS, "no descriptor came");
	memcpy(&end, CMSG_DATA(right), sizeof end);
	MUST(write(end, "y", 1));
	MUST(read(pipe_ends[0], text, 1));
	ends(much);

	reads(left, "goodbye");
	ends(left);
	named(left, 0, "");
	named(left, 1, path);
	named(left_2, 0, own);
	named(left_2, 1, path);
	ends(left_2);

	int a = let_in(door), b = let_in(door), d = let_in(door), e = let_in(door);
	talks(waits, a);
	named(b, 0, path);
	ends(b);
	SAME(recv(d, text, 1, MSG_DONTWAIT), 0);
	SAME(recv(gave_up, text, 1, MSG_DONTWAIT), 0);
	talks(waits_2, e);
	struct pollfd p = { .fd = door, .events = POLLIN };
	SAME(poll(&p, 1, 0), 0);
	c = client(SOCK_STREAM, "", path);
	talks(c, let_in(door));

	named(first, 0, abstract);
	named(first, 1, own);
	reads(first, "one");
	reads(first, "two");
	ends(first);
	close(client(SOCK_SEQPACKET, "", abstract));

	named(stays_1, 0, "stays");
	named(stays_1, 1, "");
	reads(stays_1, "one");
	ends(stays_1);
	named(stays_2, 0, "stays");
	named(stays_c, 1, "stays");
	talks(stays_c, stays_2);
	struct stat st;
	MUST(stat("stays", &st));
	SAME(st.st_mode, S_IFSOCK | 0600);
	named(goes_1, 0, "goes");
	reads(goes_1, "one");
	ends(goes_1);
	named(goes_2, 0, "goes");
	named(goes_2, 1, other);
	talks(goes_c, goes_2);
	CHECK(access("goes", F_OK) && errno == ENOENT, "a removed name is back");
	named(free_1, 0, closing);
	reads(free_1, "one");
	ends(free_1);
	named(free_2, 0, closing);
	named(free_c, 1, closing);
	talks(free_c, free_2);
	/* Nobody holds the name. */
	free_one = listening(SOCK_STREAM, closing);
	free_c = client(SOCK_STREAM, "", closing);
	talks(free_c, let_in(free_one));

	ends_by_error(pair[0]);
	ok();
}
