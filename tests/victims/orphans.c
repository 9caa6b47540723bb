//#Modes: none
// Ends before its child, which shows by a file that it went on.
#include "victim.h"

int main(void)
{
	pid_t parent = getpid();
	pid_t child = MUST(fork());
	if (!child) {
		for (int fd = 0; fd < 3; fd++)
			close(fd);
		while (getppid() == parent)
			usleep(1000);
		/* Whoever ends all processes of the tree has had the time for it. */
		usleep(200000);
		close(open("orphan", O_WRONLY | O_CREAT, 0600));
		_exit(0);
	}
	ready();
	await_verify();
	ok();
}
