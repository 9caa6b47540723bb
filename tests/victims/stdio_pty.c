//#Stdio: pty
// A session leader with a terminal of its own; after a resume it leads a session again.
#include "victim.h"
#include <termios.h>

int main(void)
{
	struct termios t, now;
	MUST(tcgetattr(0, &t));
	t.c_lflag &= ~ECHO;
	t.c_cc[VMIN] = 1;
	t.c_cc[VINTR] = 5;
	MUST(tcsetattr(0, TCSANOW, &t));
	ready();
	await_verify();
	CHECK(isatty(0) && isatty(1) && isatty(2), "a standard descriptor is no terminal");
	MUST(tcgetattr(0, &now));
	SAME(now.c_lflag, t.c_lflag);
	SAME(now.c_iflag, t.c_iflag);
	SAME(now.c_oflag, t.c_oflag);
	SAME(now.c_cc[VINTR], 5);
	SAME(getsid(0), getpid());
	int fd = open("/dev/tty", O_RDWR);
	CHECK(fd >= 0, "no controlling terminal: %s", strerror(errno));
	SAME(tcgetpgrp(fd), getpgrp());
	ok();
}
