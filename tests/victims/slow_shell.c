//#Modes: none
// A job-control shell that is slow: it gives its job the terminal a second time, when a process of
// the job has passed it on already. Ends as the job does, with 100 where the job stopped.
#include "victim.h"
#include <sys/wait.h>

int main(int argc, char **argv)
{
	CHECK(argc == 3, "usage: slow_shell PROGRAM late|once");
	int late = !strcmp(argv[2], "late");
	sigset_t output;
	sigemptyset(&output);
	sigaddset(&output, SIGTTOU);
	MUST(sigprocmask(SIG_BLOCK, &output, NULL));
	pid_t job = MUST(fork());
	if (job == 0) {
		MUST(setpgid(0, 0));
		MUST(tcsetpgrp(0, getpid()));
		MUST(sigprocmask(SIG_UNBLOCK, &output, NULL));
		execl(argv[1], argv[1], (char *)NULL);
		FAIL("%s: %s", argv[1], strerror(errno));
	}
	if (late) {
		pid_t own = getpgrp(), now;
		while ((now = MUST(tcgetpgrp(0))) == job || now == own)
			usleep(100);
		MUST(tcsetpgrp(0, job));
		say("LATE\n");
	}
	int status;
	MUST(waitpid(job, &status, WUNTRACED));
	if (WIFSTOPPED(status)) {
		say("STOPPED by %d\n", WSTOPSIG(status));
		MUST(kill(-job, SIGKILL));
		return 100;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
