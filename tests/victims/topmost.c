//#Modes: root user newpid leave
// Descriptors up to the limit of open files, where valgrind hides its own: above them there are no
// numbers for what is open only while a process is resumed.
#include "victim.h"

#define COUNT 6

int main(void)
{
	struct rlimit limit;
	int top[COUNT];
	MUST(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = limit.rlim_max < 20000 ? limit.rlim_max : 20000;
	limit.rlim_max = limit.rlim_cur;
	MUST(setrlimit(RLIMIT_NOFILE, &limit));
	for (int i = 0; i < COUNT; i += 2) {
		int ends[2];
		MUST(pipe(ends));
		for (int j = 0; j < 2; j++) {
			top[i + j] = (int)limit.rlim_cur - 1 - i - j;
			MUST(dup3(ends[j], top[i + j], O_CLOEXEC));
			MUST(close(ends[j]));
		}
		MUST(write(top[i + 1], &i, sizeof i));
	}
	ready();
	await_verify();
	for (int i = 0; i < COUNT; i += 2) {
		int got = -1;
		MUST(read(top[i], &got, sizeof got));
		SAME(got, i);
		SAME(fcntl(top[i], F_GETFD), FD_CLOEXEC);
		SAME(fcntl(top[i + 1], F_GETFD), FD_CLOEXEC);
	}
	// Nothing else is open.
	for (int fd = 3; fd < top[COUNT - 1]; fd++)
		CHECK(fcntl(fd, F_GETFD) < 0, "descriptor %d is open", fd);
	ok();
}
