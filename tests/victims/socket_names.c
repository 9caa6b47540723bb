// Unix sockets with names, in the file system and abstract: listening, with connections that wait,
// connected through them, datagrams; names of both sides, removed and relative names, credentials.
#include "victim.h"
#include "unix_names.h"
#include <sys/epoll.h>

static int connected(int type, const char *name)
{
	struct sockaddr_un a;
	socklen_t length = address(&a, name);
	int s = MUST(socket(AF_UNIX, type, 0));
	MUST(connect(s, (void *)&a, length));
	return s;
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

static void reads(int s, const char *wanted, const char *from)
{
	char text[200];
	struct sockaddr_un a = { 0 }, sender;
	socklen_t length = sizeof a;
	ssize_t n = recvfrom(s, text, sizeof text, MSG_DONTWAIT, (void *)&a, &length);
	CHECK(n == (ssize_t)strlen(wanted) && !memcmp(text, wanted, n), "read %zd bytes, not '%s'", n, wanted);
	if (from) {
		socklen_t expected = *from ? address(&sender, from) : 0;
		CHECK(length == expected && (!expected || !memcmp(&a, &sender, expected)), "'%s' came from '%s', not '%s'", wanted, a.sun_path, from);
	}
}

int main(void)
{
	static char abstract[60], path[600], gram[600], abstract_gram[60], own[60], dead[60];
	snprintf(abstract, sizeof abstract, "@victim-%d-stream", getpid());
	snprintf(abstract_gram, sizeof abstract_gram, "@victim-%d-gram", getpid());
	snprintf(own, sizeof own, "@victim-%d-own", getpid());
	snprintf(dead, sizeof dead, "@victim-%d-dead", getpid());
	char cwd[400];
	CHECK(getcwd(cwd, sizeof cwd), "getcwd");
	snprintf(path, sizeof path, "%.80s/l", cwd);
	snprintf(gram, sizeof gram, "%.80s/g", cwd);
	/* A listening socket in the file system: one connection accepted, two that wait. */
	umask(0);
	int listening = bound(SOCK_STREAM, path);
	MUST(chmod(path, 0640));
	MUST(listen(listening, 7));
	int client = connected(SOCK_STREAM, path), server = MUST(accept(listening, NULL, NULL));
	MUST(write(client, "to the server", 13));
	MUST(write(server, "to the client", 13));
	int first = connected(SOCK_STREAM, path), second = connected(SOCK_STREAM, path);
	/* Abstract, by packets, the client with a name of its own. */
	int packets = bound(SOCK_SEQPACKET, abstract);
	MUST(listen(packets, 3));
	int named_client = bound(SOCK_SEQPACKET, own);
	struct sockaddr_un a;
	socklen_t length = address(&a, abstract);
	MUST(connect(named_client, (void *)&a, length));
	int packet_server = MUST(accept4(packets, NULL, NULL, SOCK_CLOEXEC));
	MUST(send(named_client, "p1", 2, 0));
	MUST(send(named_client, "p2", 2, 0));
	/* A connection whose listening socket is closed and whose path is gone. */
	int old = bound(SOCK_STREAM, "old");
	MUST(listen(old, 1));
	int old_client = connected(SOCK_STREAM, "old"), old_server = MUST(accept(old, NULL, NULL));
	close(old);
	MUST(unlink("old"));
	/* Datagrams: from a named one, from a nameless one, from one that is closed; connected one way,
	   and to each other. */
	int receiver = bound(SOCK_DGRAM, gram), sender = bound(SOCK_DGRAM, abstract_gram);
	length = address(&a, gram);
	MUST(sendto(sender, "from a name", 11, 0, (void *)&a, length));
	int nameless = connected(SOCK_DGRAM, gram);
	MUST(send(nameless, "from none", 9, 0));
	int gone = bound(SOCK_DGRAM, dead);
	MUST(sendto(gone, "from the dead", 13, 0, (void *)&a, length));
	close(gone);
	int relative = bound(SOCK_DGRAM, "relative"), removed = bound(SOCK_DGRAM, "removed");
	MUST(unlink("removed"));
	int x = bound(SOCK_DGRAM, "x"), y = bound(SOCK_DGRAM, "y");
	length = address(&a, "y");
	MUST(connect(x, (void *)&a, length));
	length = address(&a, "x");
	MUST(connect(y, (void *)&a, length));
	MUST(send(x, "x to y", 6, 0));
	int unconnected = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
	int set = MUST(epoll_create1(0));
	struct epoll_event event = { EPOLLIN, { .u32 = 77 } };
	MUST(epoll_ctl(set, EPOLL_CTL_ADD, relative, &event));
	event.data.u32 = 78;
	MUST(epoll_ctl(set, EPOLL_CTL_ADD, server, &event));
	ready();
	await_verify();

	named(listening, 0, path);
	struct stat st;
	MUST(stat(path, &st));
	SAME(st.st_mode, S_IFSOCK | 0640);
	SAME(st.st_uid, geteuid());
	int value;
	length = sizeof value;
	MUST(getsockopt(listening, SOL_SOCKET, SO_ACCEPTCONN, &value, &length));
	SAME(value, 1);
	named(client, 0, "");
	named(client, 1, path);
	named(server, 0, path);
	named(server, 1, "");
	SAME(epoll_wait(set, &event, 1, 0), 1);
	SAME(event.data.u32, 78);
	reads(server, "to the server", NULL);
	reads(client, "to the client", NULL);
	struct ucred who;
	length = sizeof who;
	MUST(getsockopt(server, SOL_SOCKET, SO_PEERCRED, &who, &length));
	SAME(who.pid, getpid());
	SAME(who.uid, geteuid());
	MUST(write(first, "1", 1));
	MUST(write(second, "2", 1));
	reads(MUST(accept(listening, NULL, NULL)), "1", NULL);
	int other = MUST(accept(listening, NULL, NULL));
	reads(other, "2", NULL);
	MUST(write(other, "yes", 3));
	reads(second, "yes", NULL);
	int fresh = connected(SOCK_STREAM, path);
	MUST(write(fresh, "new", 3));
	reads(MUST(accept(listening, NULL, NULL)), "new", NULL);

	named(packets, 0, abstract);
	named(packet_server, 0, abstract);
	named(packet_server, 1, own);
	named(named_client, 0, own);
	named(named_client, 1, abstract);
	SAME(fcntl(packet_server, F_GETFD), FD_CLOEXEC);
	reads(packet_server, "p1", NULL);
	reads(packet_server, "p2", NULL);
	named(old_server, 0, "old");
	named(old_client, 1, "old");
	CHECK(access("old", F_OK) && errno == ENOENT, "a removed name is back");
	MUST(write(old_client, "still", 5));
	reads(old_server, "still", NULL);

	reads(receiver, "from a name", abstract_gram);
	reads(receiver, "from none", "");
	reads(receiver, "from the dead", dead);
	named(receiver, 0, gram);
	named(nameless, 1, gram);
	MUST(send(nameless, "later", 5, 0));
	reads(receiver, "later", "");
	named(relative, 0, "relative");
	named(removed, 0, "removed");
	CHECK(access("removed", F_OK) && errno == ENOENT, "a removed name is back");
	length = address(&a, "relative");
	MUST(sendto(sender, "hello", 5, 0, (void *)&a, length));
	SAME(epoll_wait(set, &event, 1, 0), 1);
	SAME(event.data.u32, 77);
	reads(relative, "hello", abstract_gram);
	reads(y, "x to y", "x");
	MUST(send(y, "y to x", 6, 0));
	reads(x, "y to x", "y");
	SAME(send(unconnected, "x", 1, MSG_NOSIGNAL), -1);
	SAME(errno, ENOTCONN);
	ok();
}
