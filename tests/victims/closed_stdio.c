//#Modes: root user newpid empty leave
// Standard error is closed and stays so; standard input and output have copies at other numbers.
#include "victim.h"

int main(void)
{
	close(2);
	int in = MUST(fcntl(0, F_DUPFD_CLOEXEC, 50)), out = MUST(dup2(1, 60));
	ready();
	await_verify();
	SAME(fcntl(2, F_GETFD), -1);
	SAME(fcntl(in, F_GETFD), FD_CLOEXEC);
	SAME(fcntl(out, F_GETFD), 0);
	struct stat a, b;
	MUST(fstat(0, &a));
	MUST(fstat(in, &b));
	SAME(a.st_ino, b.st_ino);
	MUST(fstat(1, &a));
	MUST(fstat(out, &b));
	SAME(a.st_ino, b.st_ino);
	for (int fd = 3; fd < 200; fd++)
		if (fd != in && fd != out)
			CHECK(fcntl(fd, F_GETFD) == -1, "descriptor %d is open, was closed", fd);
	ok();
}
