/* 64 MiB of memory that 10 processes share. */
#include "bench.h"

enum { SIZE = 64 << 20 };

int main(int argc, char **argv)
{
	char *memory = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int ready[2];

	demand(memory != MAP_FAILED, "mmap");
	for (long i = 0; i < SIZE; i += 8)
		*(long *)(memory + i) = i * 0x9e3779b97f4a7c15;
	demand(!pipe(ready), "pipe");
	for (int i = 1; i < 10; i++) {
		pid_t child = fork();

		demand(child >= 0, "fork");
		if (!child) {
			prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
			demand(write(ready[1], memory + i, 1) == 1, "write");
			while (pause())
				;
		}
	}
	for (int i = 1; i < 10; i++) {
		char byte;

		demand(read(ready[0], &byte, 1) == 1, "read");
	}
	close(ready[0]);
	close(ready[1]);
	watch(argc, argv);
}
