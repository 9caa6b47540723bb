// Netlink sockets: groups, options, a filter.
#include "victim.h"
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

static unsigned groups(int s)
{
	struct sockaddr_nl a = { 0 };
	socklen_t length = sizeof a;
	MUST(getsockname(s, (void *)&a, &length));
	CHECK(a.nl_pid, "a netlink socket lost its number");
	return a.nl_groups;
}

int main(void)
{
	int route = MUST(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
	struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV4_RULE | RTMGRP_NEIGH };
	MUST(bind(route, (void *)&a, sizeof a));
	int event = MUST(socket(AF_NETLINK, SOCK_DGRAM | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
	struct sock_filter nothing[] = { BPF_STMT(BPF_RET | BPF_K, 0) };
	struct sock_fprog program = { 1, nothing };
	MUST(setsockopt(event, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
	MUST(setsockopt(event, SOL_SOCKET, SO_RCVBUF, &(int){ 70000 }, sizeof(int)));
	a.nl_groups = 1;
	MUST(bind(event, (void *)&a, sizeof a));
	int unbound = MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	// Of a protocol that may hold state, but without any: dbus-daemon has one for the audit.
	int unused = MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_XFRM));
	unsigned route_groups = groups(route), event_groups = groups(event);
	ready();
	await_verify();
	SAME(groups(route), route_groups);
	SAME(groups(event), event_groups);
	struct sockaddr_nl none = { .nl_pid = 1 };
	socklen_t size_of_none = sizeof none;
	MUST(getsockname(unused, (void *)&none, &size_of_none));
	SAME(none.nl_pid, 0);
	SAME(fcntl(route, F_GETFD), FD_CLOEXEC);
	SAME(fcntl(event, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	socklen_t instructions = 0;
	MUST(getsockopt(event, SOL_SOCKET, SO_GET_FILTER, NULL, &instructions));
	SAME(instructions, 1);
	int size;
	socklen_t length = sizeof size;
	MUST(getsockopt(event, SOL_SOCKET, SO_RCVBUF, &size, &length));
	SAME(size, 140000);
	for (int i = 0; i < 2; i++) {
		int s = i ? unbound : route;
		struct {
			struct nlmsghdr head;
			struct rtgenmsg body;
		} ask = { { sizeof ask, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 }, { AF_UNSPEC } };
		MUST(send(s, &ask, sizeof ask, 0));
		static char answer[65536];
		CHECK(recv(s, answer, sizeof answer, 0) > 0, "no answer");
		SAME(((struct nlmsghdr *)answer)->nlmsg_type, RTM_NEWLINK);
	}
	ok();
}
