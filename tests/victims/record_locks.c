//#Modes: root user leave
// POSIX locks of two processes on a file that one opened and the other inherited: each sees the
// other's, by its owner.
#include "victim.h"
#include <sys/wait.h>

static int file;

static void lock(int start, int type)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = 10 };
	MUST(fcntl(file, F_SETLK, &l));
}

static int is_locked(int start, int type, pid_t owner)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = 10 };
	MUST(fcntl(file, F_GETLK, &l));
	return l.l_type == type && l.l_pid == owner && l.l_start == start && l.l_len == 10;
}

int main(void)
{
	int question[2], answer[2], status;
	char c;
	MUST(pipe(question));
	MUST(pipe(answer));
	file = MUST(open("locked.txt", O_RDWR | O_CREAT | O_TRUNC, 0600));
	lock(0, F_WRLCK);
	pid_t root = getpid(), child = MUST(fork());
	if (!child) {
		lock(10, F_RDLCK);
		MUST(write(answer[1], "", 1));
		MUST(read(question[0], &c, 1));
		_exit(is_locked(0, F_WRLCK, root) ? 0 : 1);
	}
	MUST(read(answer[0], &c, 1));
	CHECK(is_locked(10, F_RDLCK, child), "the child has no lock");
	ready();
	await_verify();
	CHECK(is_locked(10, F_RDLCK, child), "the child's lock is lost");
	MUST(write(question[1], "", 1));
	SAME(waitpid(child, &status, 0), child);
	CHECK(status == 0, "the root's lock is lost");
	ok();
}
