//#Modes: root left
// Raw sockets: ICMP with a filter, bound and connected; one with headers of its own; ICMPv6 with a
// filter; a protocol of nobody's with a checksum and a packet filter; echoes, where permitted.
#include "victim.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sys/socket.h>

enum { ICMP_FILTER_ = 1, SOL_RAW_ = 255 };

/* Sends an echo request to the loopback interface and awaits the answer. */
static void echo(int s, int id, int header)
{
	struct { struct icmphdr head; char word[4]; } packet = { .head.type = ICMP_ECHO, .word = "echo" };
	packet.head.un.echo.id = htons(id);
	uint32_t sum = 0;
	for (size_t i = 0; i < sizeof packet / 2; i++)
		sum += ((uint16_t *)&packet)[i];
	sum = (sum & 0xffff) + (sum >> 16);
	packet.head.checksum = ~(sum + (sum >> 16));
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	MUST(sendto(s, &packet, sizeof packet, 0, (void *)&to, sizeof to));
	for (;;) {
		char answer[200];
		struct pollfd p = { s, POLLIN, 0 };
		SAME(poll(&p, 1, 5000), 1);
		ssize_t n = MUST(recv(s, answer, sizeof answer, 0));
		CHECK(n >= header + (int)sizeof packet, "only %zd bytes", n);
		struct icmphdr *head = (void *)(answer + header);
		/* The filter lets answers through alone. */
		SAME(head->type, ICMP_ECHOREPLY);
		if (!memcmp(answer + header + sizeof *head, "echo", 4))
			return;
	}
}

int main(void)
{
	int raw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
	if (raw < 0 && errno == EPERM && getuid()) {
		/* Only root can. */
		ready();
		await_verify();
		ok();
	}
	MUST(raw);
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	MUST(bind(raw, (void *)&here, sizeof here));
	MUST(connect(raw, (void *)&here, sizeof here));
	uint32_t all_but_answers = ~(1u << ICMP_ECHOREPLY), filter = 0;
	MUST(setsockopt(raw, SOL_RAW_, ICMP_FILTER_, &all_but_answers, sizeof filter));
	int headers = MUST(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
	int six = MUST(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
	struct icmp6_filter wanted, found;
	ICMP6_FILTER_SETBLOCKALL(&wanted);
	ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &wanted);
	MUST(setsockopt(six, IPPROTO_ICMPV6, ICMP6_FILTER, &wanted, sizeof wanted));
	int own_protocol = MUST(socket(AF_INET6, SOCK_RAW, 253)), place = 4, length_of_filter = 0;
	MUST(setsockopt(own_protocol, IPPROTO_IPV6, IPV6_CHECKSUM, &place, sizeof place));
	struct sock_filter nothing[] = { BPF_STMT(BPF_RET | BPF_K, 0) };
	struct sock_fprog program = { 1, nothing };
	MUST(setsockopt(own_protocol, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
	int six_connected = MUST(socket(AF_INET6, SOCK_RAW, 253));
	struct sockaddr_in6 loopback = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	MUST(connect(six_connected, (void *)&loopback, sizeof loopback));
	int ping = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons(777) };
	if (ping >= 0)
		MUST(bind(ping, (void *)&own, sizeof own));
	ready();
	await_verify();
	socklen_t length = sizeof filter;
	MUST(getsockopt(raw, SOL_RAW_, ICMP_FILTER_, &filter, &length));
	SAME(filter, all_but_answers);
	struct sockaddr_in name = {};
	length = sizeof name;
	MUST(getsockname(raw, (void *)&name, &length));
	SAME(name.sin_addr.s_addr, here.sin_addr.s_addr);
	/* Connected: it sends without being told where. */
	MUST(send(raw, "\15\0\0\0\0\0\0\0", 8, 0));
	echo(raw, 778, 20);
	MUST(send(six_connected, "some", 4, 0));
	length = sizeof found;
	MUST(getsockopt(six, IPPROTO_ICMPV6, ICMP6_FILTER, &found, &length));
	CHECK(!memcmp(&found, &wanted, sizeof found), "another filter of ICMPv6");
	place = 0;
	length = sizeof place;
	MUST(getsockopt(own_protocol, IPPROTO_IPV6, IPV6_CHECKSUM, &place, &length));
	SAME(place, 4);
	length = length_of_filter;
	SAME(MUST(getsockopt(own_protocol, SOL_SOCKET, SO_GET_FILTER, NULL, &length)), 0);
	SAME(length, 1);
	int on = 0;
	length = sizeof on;
	MUST(getsockopt(headers, IPPROTO_IP, IP_HDRINCL, &on, &length));
	SAME(on, 1);
	if (ping >= 0) {
		length = sizeof own;
		own.sin_port = 0;
		MUST(getsockname(ping, (void *)&own, &length));
		SAME(own.sin_port, htons(777));
		echo(ping, 777, 0);
	}
	ok();
}
