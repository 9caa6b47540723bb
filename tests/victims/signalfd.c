//#Modes: root user newpid leave left empty
// Signals as files: the mask, a signal that is pending at the dump, one that comes later.
#include "victim.h"
#include <sys/signalfd.h>

int main(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 3);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL));
	int fd = MUST(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC)), copy = MUST(dup(fd));
	union sigval value = { .sival_int = 4711 };
	MUST(sigqueue(getpid(), SIGRTMIN + 3, value));
	ready();
	await_verify();
	SAME(fcntl(fd, F_GETFD), FD_CLOEXEC);
	struct signalfd_siginfo info;
	SAME(read(copy, &info, sizeof info), sizeof info);
	SAME(info.ssi_signo, SIGRTMIN + 3);
	SAME(info.ssi_int, 4711);
	SAME(read(fd, &info, sizeof info), -1);
	SAME(errno, EAGAIN);
	MUST(raise(SIGUSR1));
	SAME(read(fd, &info, sizeof info), sizeof info);
	SAME(info.ssi_signo, SIGUSR1);
	ok();
}
