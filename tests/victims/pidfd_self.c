// A process that has itself as a file.
#include "victim.h"

int main(void)
{
	int fd = MUST(syscall(SYS_pidfd_open, getpid(), 0));
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL));
	ready();
	await_verify();
	MUST(syscall(SYS_pidfd_send_signal, fd, SIGUSR1, NULL, 0));
	int signal = 0;
	SAME(sigwait(&set, &signal), 0);
	SAME(signal, SIGUSR1);
	ok();
}
