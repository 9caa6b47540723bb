// UDP sockets in multicast groups of the loopback interface, IPv4 and IPv6, one with a list of
// sources; several sockets at one port (SO_REUSEPORT), and one for both families.
//#Network: own
#include "victim.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

static struct sockaddr_in four(const char *ip, int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = port };
	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

static int port_of(int s)
{
	struct sockaddr_in a;
	socklen_t length = sizeof a;
	MUST(getsockname(s, (void *)&a, &length));
	return a.sin_port;
}

static void arrives(int s, const char *word)
{
	struct pollfd p = { s, POLLIN, 0 };
	SAME(poll(&p, 1, 5000), 1);
	char text[32] = "";
	MUST(recv(s, text, sizeof text - 1, 0));
	CHECK(!strcmp(text, word), "got %s", text);
}

int main(void)
{
	int lo = if_nametoindex("lo");
	CHECK(lo > 0, "no loopback interface");
	/* A group, and a group from one source only. */
	int plain = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	struct sockaddr_in any = four("0.0.0.0", 0);
	MUST(bind(plain, (void *)&any, sizeof any));
	struct ip_mreqn join = { .imr_ifindex = lo };
	inet_pton(AF_INET, "239.77.1.2", &join.imr_multiaddr);
	MUST(setsockopt(plain, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join));
	int from = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	MUST(bind(from, (void *)&any, sizeof any));
	struct group_source_req source = { .gsr_interface = lo };
	struct sockaddr_in group = four("239.77.1.3", 0), only = four("127.0.0.1", 0);
	memcpy(&source.gsr_group, &group, sizeof group);
	memcpy(&source.gsr_source, &only, sizeof only);
	MUST(setsockopt(from, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, &source, sizeof source));
	int six = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
	struct ipv6_mreq join6 = { .ipv6mr_interface = lo };
	inet_pton(AF_INET6, "ff15::77", &join6.ipv6mr_multiaddr);
	MUST(setsockopt(six, IPPROTO_IPV6, IPV6_JOIN_GROUP, &join6, sizeof join6));
	int sender = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	struct ip_mreqn out = { .imr_ifindex = lo, .imr_address.s_addr = htonl(INADDR_LOOPBACK) };
	MUST(setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof out));
	struct sockaddr_in loopback = four("127.0.0.1", 0);
	MUST(bind(sender, (void *)&loopback, sizeof loopback));

	/* One port for two sockets, and a socket for both families. */
	int same[2], shared = 0;
	for (int i = 0; i < 2; i++) {
		same[i] = MUST(socket(AF_INET, SOCK_DGRAM, 0));
		MUST(setsockopt(same[i], SOL_SOCKET, SO_REUSEPORT, &(int){ 1 }, sizeof(int)));
		struct sockaddr_in at = four("127.0.0.1", shared);
		MUST(bind(same[i], (void *)&at, sizeof at));
		shared = port_of(same[i]);
	}
	int dual = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
	struct sockaddr_in6 any6 = { .sin6_family = AF_INET6 };
	MUST(bind(dual, (void *)&any6, sizeof any6));
	int ports[4] = { port_of(plain), port_of(from), shared, port_of(dual) };

	ready();
	await_verify();
	struct sockaddr_in to = four("239.77.1.2", ports[0]);
	MUST(sendto(sender, "group", 5, 0, (void *)&to, sizeof to));
	arrives(plain, "group");
	to = four("239.77.1.3", ports[1]);
	MUST(sendto(sender, "source", 6, 0, (void *)&to, sizeof to));
	arrives(from, "source");
	/* Leaving fails where there is no membership. */
	MUST(setsockopt(plain, IPPROTO_IP, IP_DROP_MEMBERSHIP, &join, sizeof join));
	MUST(setsockopt(from, IPPROTO_IP, MCAST_LEAVE_SOURCE_GROUP, &source, sizeof source));
	MUST(setsockopt(six, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &join6, sizeof join6));
	for (int i = 0; i < 2; i++)
		SAME(port_of(same[i]), shared);
	int third = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	MUST(setsockopt(third, SOL_SOCKET, SO_REUSEPORT, &(int){ 1 }, sizeof(int)));
	struct sockaddr_in at = four("127.0.0.1", shared);
	MUST(bind(third, (void *)&at, sizeof at));
	to = four("127.0.0.1", ports[3]);
	MUST(sendto(sender, "both", 4, 0, (void *)&to, sizeof to));
	arrives(dual, "both");
	ok();
}
