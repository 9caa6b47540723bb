// Locks on files: flock, POSIX, open file description, lease. A child tries whether they hold.
#include "victim.h"
#include <sys/file.h>
#include <sys/wait.h>

static struct flock range(int type, off_t start, off_t len)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };
	return l;
}

/* What another process may lock: 1 if it may. */
static int free_for_others(const char *file, struct flock wanted, int whole)
{
	pid_t child = MUST(fork());
	if (!child) {
		int fd = open(file, O_RDWR);
		if (whole)
			_exit(flock(fd, LOCK_EX | LOCK_NB) == 0);
		_exit(fcntl(fd, F_SETLK, &wanted) == 0);
	}
	int status;
	MUST(waitpid(child, &status, 0));
	return WEXITSTATUS(status);
}

static int make(const char *name)
{
	int fd = MUST(open(name, O_RDWR | O_CREAT, 0644));
	SAME(MUST(pwrite(fd, "0123456789", 10, 0)), 10);
	return fd;
}

int main(void)
{
	signal(SIGIO, SIG_IGN);
	int a = make("flock"), b = make("posix"), c = make("ofd"), d = make("shared"), e = make("lease");
	MUST(close(e));
	e = MUST(open("lease", O_RDONLY));
	int copy = MUST(dup(b));
	MUST(flock(a, LOCK_EX));
	struct flock l = range(F_WRLCK, 2, 3);
	MUST(fcntl(b, F_SETLK, &l));
	l = range(F_RDLCK, 100, 0);
	MUST(fcntl(copy, F_SETLK, &l));
	l = range(F_WRLCK, 5, 5);
	MUST(fcntl(c, F_OFD_SETLK, &l));
	MUST(flock(d, LOCK_SH));
	MUST(fcntl(e, F_SETLEASE, F_RDLCK));
	ready();
	await_verify();
	CHECK(!free_for_others("flock", l, 1), "the flock is lost");
	CHECK(!free_for_others("shared", l, 1), "the shared flock is lost");
	CHECK(!free_for_others("posix", range(F_RDLCK, 3, 1), 0), "the write lock is lost");
	CHECK(free_for_others("posix", range(F_WRLCK, 0, 2), 0), "the write lock is too large");
	CHECK(free_for_others("posix", range(F_RDLCK, 100, 5), 0), "the read lock is a write lock");
	CHECK(!free_for_others("posix", range(F_WRLCK, 1 << 20, 1), 0), "the read lock is too small");
	CHECK(!free_for_others("ofd", range(F_RDLCK, 9, 1), 0), "the description's lock is lost");
	CHECK(free_for_others("ofd", range(F_WRLCK, 10, 1), 0), "the description's lock is too large");
	SAME(MUST(fcntl(e, F_GETLEASE)), F_RDLCK);
	MUST(flock(a, LOCK_UN));
	CHECK(free_for_others("flock", l, 1), "the flock stays");
	ok();
}
