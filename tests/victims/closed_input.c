//#Modes: root user leave
// Processes whose standard input is a pipe that nobody writes to any more, and whose output one that
// nobody reads: make(1) gives the former to all of its jobs but one.
#include "victim.h"
#include <sys/wait.h>

int main(void)
{
	int go[2];
	MUST(pipe(go));
	pid_t child = MUST(fork());
	if (!child) {
		int in[2], out[2];
		MUST(prctl(PR_SET_PDEATHSIG, SIGKILL));
		MUST(pipe(in));
		MUST(pipe(out));
		MUST(dup2(in[0], 0));
		MUST(dup2(out[1], 1));
		close(in[0]);
		close(in[1]);
		close(out[0]);
		close(out[1]);
		close(go[1]);
		signal(SIGPIPE, SIG_IGN);
		char c;
		MUST(read(go[0], &c, 1));
		if (read(0, &c, 1) != 0)
			_exit(1);
		_exit(write(1, "x", 1) == -1 && errno == EPIPE ? 7 : 2);
	}
	ready();
	await_verify();
	int status;
	MUST(write(go[1], "x", 1));
	MUST(waitpid(child, &status, 0));
	SAME(status, 7 << 8);
	ok();
}
