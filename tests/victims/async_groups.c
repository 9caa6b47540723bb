//#Modes: root user newpid leave left
// Signals of descriptors to a process group and to a thread (F_SETOWN_EX), with numbers of their own
// (F_SETSIG): they come after the resume with si_fd, si_code and si_band; also without a number (SIGIO).
#include "victim.h"
#include <poll.h>
#include <sys/socket.h>

static volatile sig_atomic_t heard, of, code, band, by;

static void hears(int signal, siginfo_t *info, void *context)
{
	(void)context;
	of = info->si_fd;
	code = info->si_code;
	band = info->si_band;
	by = syscall(SYS_gettid);
	heard = signal;
}

static void own(int fd, int type, pid_t pid, int signal)
{
	struct f_owner_ex owner = { type, pid };
	MUST(fcntl(fd, F_SETOWN_EX, &owner));
	MUST(fcntl(fd, F_SETSIG, signal));
	MUST(fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK));
}

static void expect(int signal, int fd)
{
	for (int n = 0; !heard; n++) {
		CHECK(n < 5000, "signal %d of descriptor %d does not come", signal, fd);
		usleep(1000);
	}
	SAME(heard, signal);
	if (signal != SIGIO) {
		SAME(of, fd);
		SAME(code, POLL_IN);
		SAME(band, POLLIN | POLLRDNORM);
	}
	heard = 0;
}

static volatile pid_t tid;

static void *other(void *unused)
{
	tid = syscall(SYS_gettid);
	for (;;)
		pause();
	return unused;
}

int main(void)
{
	int group[2], thread[2], plain[2], low = SIGRTMIN + 3, high = SIGRTMIN + 5;
	struct sigaction action = { .sa_sigaction = hears, .sa_flags = SA_SIGINFO | SA_RESTART };
	pthread_t second;
	MUST(setpgid(0, 0));
	MUST(sigaction(low, &action, NULL));
	MUST(sigaction(high, &action, NULL));
	MUST(sigaction(SIGIO, &action, NULL));
	SAME(pthread_create(&second, NULL, other, NULL), 0);
	while (!tid)
		usleep(100);
	pid_t was = getpid();
	MUST(pipe(group));
	own(group[0], F_OWNER_PGRP, getpgrp(), low);
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, thread));
	own(thread[0], F_OWNER_TID, tid, high);
	MUST(pipe(plain));
	own(plain[0], F_OWNER_PGRP, getpgrp(), 0);
	ready();
	await_verify();
	struct f_owner_ex owner;
	MUST(fcntl(group[0], F_GETOWN_EX, &owner));
	SAME(owner.type, F_OWNER_PGRP);
	SAME(owner.pid, getpgrp());
	CHECK(getpid() != was || getpgrp() == was, "in group %d", getpgrp());
	SAME(fcntl(group[0], F_GETSIG), low);
	MUST(fcntl(thread[0], F_GETOWN_EX, &owner));
	SAME(owner.type, F_OWNER_TID);
	SAME(fcntl(thread[0], F_GETSIG), high);
	SAME(fcntl(plain[0], F_GETSIG), 0);
	MUST(write(group[1], "x", 1));
	expect(low, group[0]);
	MUST(write(thread[1], "x", 1));
	expect(high, thread[0]);
	CHECK(by != getpid(), "the first thread was told");
	MUST(write(plain[1], "x", 1));
	expect(SIGIO, plain[0]);
	ok();
}
