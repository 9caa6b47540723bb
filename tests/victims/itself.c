//#Modes: root user newpid leave
// A program that starts itself anew by way of /proc/self/exe, as browsers and busybox start helpers.
#include "victim.h"
#include <sys/wait.h>

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "--helper")) {
		CHECK(argc == 3 && !strcmp(argv[0], "another name"), "wrong arguments");
		return atoi(argv[2]);
	}
	ready();
	await_verify();
	pid_t helper = MUST(fork());
	if (!helper) {
		execl("/proc/self/exe", "another name", "--helper", "7", NULL);
		_exit(99);
	}
	int status;
	MUST(waitpid(helper, &status, 0));
	SAME(status, W_EXITCODE(7, 0));
	ok();
}
