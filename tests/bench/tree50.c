/* A tree of 50 small processes: the one that watches, and 49 that wait. */
#include "bench.h"
#include <sys/wait.h>

int main(int argc, char **argv)
{
	int ready[2];

	demand(!pipe(ready), "pipe");
	for (int i = 1; i < 50; i++) {
		pid_t child = fork();

		demand(child >= 0, "fork");
		if (!child) {
			prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
			demand(write(ready[1], "x", 1) == 1, "write");
			while (pause())
				;
		}
	}
	for (int i = 1; i < 50; i++) {
		char byte;

		demand(read(ready[0], &byte, 1) == 1, "read");
	}
	close(ready[0]);
	close(ready[1]);
	watch(argc, argv);
}
