// TCP and UDP: listening, bound, connected within the process with what waits, datagrams, options,
// IPv4 and IPv6.
//#Network: own
#include "victim.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

union address {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
};

static socklen_t size(int family) { return family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6); }

static union address loopback(int family)
{
	union address a = { 0 };
	a.any.sa_family = family;
	if (family == AF_INET)
		a.four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		a.six.sin6_addr = in6addr_loopback;
	return a;
}

static int number(int s, int level, int option)
{
	int value = -1;
	socklen_t length = sizeof value;
	MUST(getsockopt(s, level, option, &value, &length));
	return value;
}

static void set(int s, int level, int option, int value) { MUST(setsockopt(s, level, option, &value, sizeof value)); }

static union address name(int s)
{
	union address a = { 0 };
	socklen_t length = sizeof a;
	MUST(getsockname(s, &a.any, &length));
	return a;
}

static union address peer(int s)
{
	union address a = { 0 };
	socklen_t length = sizeof a;
	MUST(getpeername(s, &a.any, &length));
	return a;
}

#define EQUAL(a, b) do { union address a_ = (a), b_ = (b); CHECK(!memcmp(&a_, &b_, sizeof a_), "%s differs", #a); } while (0)

static int bound(int family, int type)
{
	int s = MUST(socket(family, type, 0));
	union address a = loopback(family);
	MUST(bind(s, &a.any, size(family)));
	return s;
}

static int connected(int family, int type, union address to)
{
	int s = MUST(socket(family, type, 0));
	MUST(connect(s, &to.any, size(family)));
	return s;
}

/* What arrives over the network needs a moment. */
static void reads(int s, const char *wanted)
{
	char text[200];
	struct pollfd p = { s, POLLIN, 0 };
	SAME(poll(&p, 1, 5000), 1);
	ssize_t n = recv(s, text, sizeof text, MSG_DONTWAIT);
	CHECK(n == (ssize_t)strlen(wanted) && !memcmp(text, wanted, n), "read %zd bytes, not '%s'", n, wanted);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	/* Listening. */
	int four = MUST(socket(AF_INET, SOCK_STREAM, 0));
	set(four, SOL_SOCKET, SO_REUSEADDR, 1);
	set(four, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(four, IPPROTO_TCP, TCP_NODELAY, 1);
	set(four, IPPROTO_TCP, TCP_KEEPIDLE, 77);
	set(four, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0);
	struct sockaddr_in any = { .sin_family = AF_INET };
	MUST(bind(four, (void *)&any, sizeof any));
	MUST(listen(four, 17));
	union address at = name(four);
	at.four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int six = MUST(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0));
	set(six, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	set(six, SOL_SOCKET, SO_RCVBUF, 50000);
	union address six_at = loopback(AF_INET6);
	MUST(bind(six, &six_at.any, sizeof six_at.six));
	MUST(listen(six, 5));
	six_at = name(six);
	int receiving = number(six, SOL_SOCKET, SO_RCVBUF);
	/* Connected within: through a listening socket, and through one that is closed since. */
	int client = connected(AF_INET, SOCK_STREAM, at), server = MUST(accept4(four, NULL, NULL, SOCK_CLOEXEC));
	set(client, IPPROTO_TCP, TCP_NODELAY, 1);
	MUST(write(client, "to the server", 13));
	MUST(write(server, "to the client", 13));
	int old = bound(AF_INET6, SOCK_STREAM);
	MUST(listen(old, 1));
	int old_client = connected(AF_INET6, SOCK_STREAM, name(old)), old_server = MUST(accept(old, NULL, NULL));
	close(old);
	MUST(write(old_client, "then no more", 12));
	MUST(shutdown(old_client, SHUT_WR));
	/* An IPv6 server for both, an IPv4 client. */
	int dual = MUST(socket(AF_INET6, SOCK_STREAM, 0));
	union address dual_at = { .six = { .sin6_family = AF_INET6 } };
	MUST(bind(dual, &dual_at.any, sizeof dual_at.six));
	MUST(listen(dual, 3));
	union address dual_four = loopback(AF_INET);
	dual_four.four.sin_port = name(dual).six.sin6_port;
	int dual_client = connected(AF_INET, SOCK_STREAM, dual_four), dual_server = MUST(accept(dual, NULL, NULL));
	MUST(write(dual_client, "four to six", 11));
	union address dual_names[] = { name(dual_client), peer(dual_client), name(dual_server), peer(dual_server) };
	/* Bound, and neither. */
	int only_bound = bound(AF_INET, SOCK_STREAM), neither = MUST(socket(AF_INET, SOCK_STREAM, 0));
	union address names[] = { name(four), name(six), name(client), name(server), name(old_client), name(old_server), name(only_bound) };
	/* Datagrams. */
	int udp = bound(AF_INET, SOCK_DGRAM), udp6 = bound(AF_INET6, SOCK_DGRAM);
	set(udp, SOL_SOCKET, SO_BROADCAST, 1);
	set(udp, IPPROTO_IP, IP_TTL, 9);
	int udp_client = connected(AF_INET, SOCK_DGRAM, name(udp));
	MUST(send(udp_client, "one", 3, 0));
	MUST(send(udp_client, "", 0, 0));
	MUST(send(udp_client, "three", 5, 0));
	int passing = bound(AF_INET, SOCK_DGRAM), to = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	union address passed = name(passing), to_at = loopback(AF_INET);
	MUST(bind(to, &to_at.any, sizeof to_at.four));
	to_at = name(to);
	MUST(sendto(passing, "in passing", 10, 0, &to_at.any, sizeof to_at.four));
	close(passing);
	union address udp_names[] = { name(udp), name(udp6), name(udp_client) };
	ready();
	await_verify();

	EQUAL(name(four), names[0]);
	EQUAL(name(six), names[1]);
	EQUAL(name(client), names[2]);
	EQUAL(name(server), names[3]);
	EQUAL(name(old_client), names[4]);
	EQUAL(name(old_server), names[5]);
	EQUAL(name(only_bound), names[6]);
	EQUAL(peer(client), names[3]);
	EQUAL(peer(server), names[2]);
	EQUAL(peer(old_server), names[4]);
	SAME(number(four, SOL_SOCKET, SO_REUSEADDR), 1);
	SAME(number(four, SOL_SOCKET, SO_KEEPALIVE), 1);
	SAME(number(four, SOL_SOCKET, SO_ACCEPTCONN), 1);
	SAME(number(four, IPPROTO_TCP, TCP_NODELAY), 1);
	SAME(number(four, IPPROTO_TCP, TCP_KEEPIDLE), 77);
	SAME(number(six, IPPROTO_IPV6, IPV6_V6ONLY), 1);
	SAME(number(six, SOL_SOCKET, SO_RCVBUF), receiving);
	SAME(number(client, IPPROTO_TCP, TCP_NODELAY), 1);
	SAME(number(client, SOL_SOCKET, SO_REUSEADDR), 0);
	SAME(number(server, SOL_SOCKET, SO_REUSEADDR), 1);
	SAME(number(old_server, SOL_SOCKET, SO_REUSEADDR), 0);
	SAME(number(old_client, SOL_SOCKET, SO_REUSEADDR), 0);
	SAME(number(client, SOL_SOCKET, SO_KEEPALIVE), 0);
	SAME(fcntl(six, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	SAME(fcntl(server, F_GETFD), FD_CLOEXEC);
	struct tcp_info info;
	socklen_t length = sizeof info;
	MUST(getsockopt(four, IPPROTO_TCP, TCP_INFO, &info, &length));
	SAME(info.tcpi_sacked, 17);
	EQUAL(name(dual_client), dual_names[0]);
	EQUAL(peer(dual_client), dual_names[1]);
	EQUAL(name(dual_server), dual_names[2]);
	EQUAL(peer(dual_server), dual_names[3]);
	reads(dual_server, "four to six");
	reads(server, "to the server");
	reads(client, "to the client");
	MUST(write(client, "more", 4));
	reads(server, "more");
	reads(old_server, "then no more");
	char c;
	SAME(read(old_server, &c, 1), 0);
	MUST(write(old_server, "still", 5));
	reads(old_client, "still");
	SAME(write(old_client, "x", 1), -1);
	SAME(errno, EPIPE);
	int fresh = connected(AF_INET, SOCK_STREAM, at);
	MUST(write(fresh, "fresh", 5));
	reads(MUST(accept(four, NULL, NULL)), "fresh");
	fresh = connected(AF_INET6, SOCK_STREAM, six_at);
	struct pollfd p = { six, POLLIN, 0 };
	SAME(poll(&p, 1, 5000), 1);
	MUST(accept(six, NULL, NULL));
	MUST(listen(only_bound, 1));
	SAME(read(neither, &c, 1), -1);
	SAME(errno, ENOTCONN);

	EQUAL(name(udp), udp_names[0]);
	EQUAL(name(udp6), udp_names[1]);
	EQUAL(name(udp_client), udp_names[2]);
	EQUAL(peer(udp_client), udp_names[0]);
	SAME(number(udp, SOL_SOCKET, SO_BROADCAST), 1);
	SAME(number(udp, IPPROTO_IP, IP_TTL), 9);
	reads(udp, "one");
	reads(udp, "");
	reads(udp, "three");
	SAME(recv(udp, &c, 1, MSG_DONTWAIT), -1);
	MUST(send(udp_client, "again", 5, 0));
	reads(udp, "again");
	union address who = { 0 };
	char text[20];
	length = sizeof who;
	SAME(recvfrom(to, text, sizeof text, MSG_DONTWAIT, &who.any, &length), 10);
	EQUAL(who, passed);
	ok();
}
