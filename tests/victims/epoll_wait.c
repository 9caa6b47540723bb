//#Modes: root user newpid leave left empty
// A thread waits in epoll_wait without a limit while it is dumped; what it waits for comes after.
#include "victim.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int set, bell;
static volatile int got;

static void *waiter(void *unused)
{
	(void)unused;
	struct epoll_event e;
	int n = epoll_wait(set, &e, 1, -1);
	if (n != 1 || e.data.u64 != 77)
		FAIL("epoll_wait gave %d: %s", n, strerror(errno));
	got = 1;
	return NULL;
}

int main(void)
{
	set = MUST(epoll_create1(0));
	bell = MUST(eventfd(0, 0));
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 77 };
	MUST(epoll_ctl(set, EPOLL_CTL_ADD, bell, &e));
	pthread_t t;
	CHECK(!pthread_create(&t, NULL, waiter, NULL), "no thread");
	ready();
	await_verify();
	CHECK(!got, "it did not wait");
	uint64_t one = 1;
	MUST(write(bell, &one, 8));
	pthread_join(t, NULL);
	ok();
}
