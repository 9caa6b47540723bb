//#Stdio: pty
// The terminal opened once more by its name, with close-on-exec.
#include "victim.h"

int main(void)
{
	int tty = MUST(open("/dev/tty", O_RDWR | O_CLOEXEC));
	int own = MUST(open(ttyname(0), O_WRONLY | O_NOCTTY));
	ready();
	await_verify();
	SAME(isatty(tty), 1);
	SAME(fcntl(tty, F_GETFD), FD_CLOEXEC);
	SAME(write(tty, "through tty\n", 12), 12);
	SAME(write(own, "through name\n", 13), 13);
	SAME(tcgetpgrp(tty), getpgrp());
	ok();
}
