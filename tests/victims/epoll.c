//#Modes: root user newpid leave left empty
// epoll sets: level, edge and one-shot, nested, a number that was closed and used again, and one
// whose description lives on under another number; data and masks are what they were.
#include "victim.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static void add(int set, int fd, unsigned events, uint64_t data)
{
	struct epoll_event e = { .events = events, .data.u64 = data };
	MUST(epoll_ctl(set, EPOLL_CTL_ADD, fd, &e));
}

static int wait_one(int set, uint64_t *data, unsigned *events)
{
	struct epoll_event e = { 0 };
	int n = MUST(epoll_wait(set, &e, 1, 0));
	*data = e.data.u64;
	*events = e.events;
	return n;
}

int main(void)
{
	int set = MUST(epoll_create1(EPOLL_CLOEXEC)), outer = MUST(epoll_create1(0));
	int a = MUST(eventfd(0, EFD_NONBLOCK)), b = MUST(eventfd(0, EFD_NONBLOCK));
	int once = MUST(eventfd(1, EFD_NONBLOCK)), edge = MUST(eventfd(0, EFD_NONBLOCK));
	int p[2];
	MUST(pipe2(p, O_NONBLOCK));
	add(set, a, EPOLLIN, 0x1111111111111111ull);
	add(set, p[0], EPOLLIN, 0x2222222222222222ull);
	add(set, edge, EPOLLIN | EPOLLET, 0x3333333333333333ull);
	// Added under a number that then leads elsewhere.
	int stale = MUST(dup(b));
	add(set, stale, EPOLLIN, 0x4444444444444444ull);
	MUST(dup2(p[1], stale));
	// Added under a number that is closed since.
	int gone = MUST(fcntl(b, F_DUPFD, 300));
	add(set, gone, EPOLLIN, 0x5555555555555555ull);
	MUST(close(gone));
	add(outer, set, EPOLLIN, 7);
	add(outer, once, EPOLLIN | EPOLLONESHOT, 8);
	uint64_t data;
	unsigned events;
	SAME(wait_one(outer, &data, &events), 1);
	SAME(data, 8);
	SAME(wait_one(outer, &data, &events), 0);
	ready();
	await_verify();
	SAME(fcntl(set, F_GETFD), FD_CLOEXEC);
	SAME(wait_one(outer, &data, &events), 0);
	SAME(wait_one(set, &data, &events), 0);
	uint64_t one = 1;
	MUST(write(a, &one, 8));
	SAME(wait_one(outer, &data, &events), 1);
	SAME(data, 7);
	SAME(wait_one(set, &data, &events), 1);
	SAME(data, 0x1111111111111111ull);
	MUST(read(a, &one, 8));
	SAME(wait_one(set, &data, &events), 0);
	MUST(write(edge, &one, 8));
	SAME(wait_one(set, &data, &events), 1);
	SAME(data, 0x3333333333333333ull);
	SAME(events, EPOLLIN);
	SAME(wait_one(set, &data, &events), 0);
	MUST(write(stale, "x", 1));
	SAME(wait_one(set, &data, &events), 1);
	SAME(data, 0x2222222222222222ull);
	char c;
	MUST(read(p[0], &c, 1));
	// Both old numbers still mean the eventfd.
	MUST(write(b, &one, 8));
	struct epoll_event both[8];
	SAME(epoll_wait(set, both, 8, 0), 2);
	SAME(both[0].data.u64 ^ both[1].data.u64, 0x1111111111111111ull);
	// The one-shot is armed anew by the program alone.
	struct epoll_event again = { .events = EPOLLIN | EPOLLONESHOT, .data.u64 = 9 };
	MUST(epoll_ctl(outer, EPOLL_CTL_MOD, once, &again));
	int n = epoll_wait(outer, both, 8, 0);
	int seen = 0;
	for (int i = 0; i < n; i++)
		seen |= both[i].data.u64 == 9;
	CHECK(seen, "the one-shot does not fire");
	MUST(epoll_ctl(set, EPOLL_CTL_DEL, a, NULL));
	ok();
}
