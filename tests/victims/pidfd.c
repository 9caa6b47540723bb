//#Modes: root user leave left
// Processes as files: itself, a child, a zombie, the parent and a brother in a child; duplicates,
// not blocking, in an epoll set.
#include "victim.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#define PIDFD_NONBLOCK O_NONBLOCK

static int of(pid_t pid, unsigned flags)
{
	return MUST(syscall(SYS_pidfd_open, pid, flags));
}

static int send_to(int fd, int signal)
{
	return syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0);
}

static int pid_of(int fd)
{
	char path[64], text[1000];
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	slurp(path, text, sizeof text);
	char *at = strstr(text, "\nPid:");
	CHECK(at, "no Pid: in %s", path);
	return atoi(at + 5);
}

static int is_ready(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	return MUST(poll(&p, 1, 0));
}

static volatile sig_atomic_t heard;
/* Children that are ready, shared by all. */
static volatile int *children;

static void hear(int signal)
{
	(void)signal;
	heard++;
}

/* Knows its parent and its brother; asked by SIGUSR1, it ends with what it finds. */
static void child(int parent, pid_t brother)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGUSR1, hear);
	int other = of(brother, 0);
	int ends[2];
	MUST(pipe(ends));
	__sync_fetch_and_add(children, 1);
	while (!heard)
		usleep(1000);
	int good = pid_of(parent) == getppid() && !send_to(parent, 0) && pid_of(other) == brother &&
		   !send_to(other, 0) && !is_ready(other) && send_to(parent, SIGUSR2) == 0;
	_exit(good ? 42 : 1);
}

int main(void)
{
	signal(SIGUSR2, hear);
	children = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int self = of(getpid(), 0);
	pid_t zombie = MUST(fork());
	if (!zombie)
		_exit(9);
	siginfo_t info;
	MUST(waitid(P_PID, zombie, &info, WEXITED | WNOWAIT));
	int ended = of(zombie, 0);
	pid_t idle = MUST(fork());
	if (!idle) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		__sync_fetch_and_add(children, 1);
		for (;;)
			pause();
	}
	pid_t pid = MUST(fork());
	if (!pid)
		child(self, idle);
	int one = of(pid, 0), two = MUST(fcntl(one, F_DUPFD, 50)), idler = of(idle, PIDFD_NONBLOCK);
	int set = MUST(epoll_create1(0));
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = 77 };
	MUST(epoll_ctl(set, EPOLL_CTL_ADD, one, &event));
	while (*children < 2)
		usleep(1000);
	ready();
	await_verify();
	SAME(pid_of(self), getpid());
	SAME(pid_of(one), pid);
	SAME(pid_of(two), pid);
	SAME(pid_of(idler), idle);
	SAME(fcntl(one, F_GETFD), FD_CLOEXEC);
	SAME(fcntl(two, F_GETFD), 0);
	SAME(fcntl(idler, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	SAME(syscall(SYS_kcmp, getpid(), getpid(), 0, one, two), 0);
	SAME(pid_of(ended), zombie);
	CHECK(is_ready(ended), "the zombie is not ready");
	memset(&info, 0, sizeof info);
	SAME(waitid(P_PIDFD, ended, &info, WEXITED), 0);
	SAME(info.si_pid, zombie);
	SAME(info.si_status, 9);
	SAME(waitid(P_PIDFD, idler, &info, WEXITED), -1);
	SAME(errno, EAGAIN);
	SAME(epoll_wait(set, &event, 1, 0), 0);
	CHECK(!is_ready(one), "the child has ended");
	SAME(send_to(two, SIGUSR1), 0);
	SAME(epoll_wait(set, &event, 1, 10000) != 0, 1);
	while (epoll_wait(set, &event, 1, 10000) < 0)
		SAME(errno, EINTR);
	SAME(event.data.u64, 77);
	SAME(waitid(P_PIDFD, one, &info, WEXITED), 0);
	SAME(info.si_status, 42);
	SAME(heard, 1);
	SAME(send_to(idler, SIGTERM), 0);
	SAME(waitid(P_PID, idle, &info, WEXITED), 0);
	SAME(info.si_status, SIGTERM);
	ok();
}
