//#Dump: --embed-files 1M
// Regular files with path, flags, offset, append and close-on-exec; directories, O_PATH, devices;
// duplicates that share one offset, separate openings that do not.
#include "victim.h"

static int flags(int fd) { return MUST(fcntl(fd, F_GETFL)); }

static void link_is(int fd, const char *wanted)
{
	char path[64], target[4096];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	ssize_t n = MUST(readlink(path, target, sizeof target - 1));
	target[n] = 0;
	CHECK(strstr(target, wanted), "descriptor %d leads to %s, not %s", fd, target, wanted);
}

int main(void)
{
	int a = MUST(open("a.txt", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
	MUST(write(a, "0123456789abcdef", 16));
	MUST(lseek(a, 5, SEEK_SET));
	int copy = MUST(dup(a)), other = MUST(dup2(a, 77));
	int again = MUST(open("a.txt", O_RDONLY | O_NONBLOCK));
	int append = MUST(open("log.txt", O_WRONLY | O_CREAT | O_APPEND, 0600));
	MUST(write(append, "first\n", 6));
	int beyond = MUST(open("log.txt", O_RDONLY));
	MUST(lseek(beyond, 1 << 20, SEEK_SET));
	MUST(mkdir("d", 0755) == 0 || errno == EEXIST ? 0 : -1);
	int dir = MUST(open("d", O_RDONLY | O_DIRECTORY));
	int path = MUST(open("a.txt", O_PATH | O_CLOEXEC));
	int dirpath = MUST(open("d", O_PATH));
	int null = MUST(open("/dev/null", O_WRONLY));
	int zero = MUST(open("/dev/zero", O_RDONLY));
	int random = MUST(open("/dev/urandom", O_RDONLY | O_CLOEXEC));
	int high = MUST(fcntl(null, F_DUPFD_CLOEXEC, 900));
	int a_flags = flags(a), again_flags = flags(again), append_flags = flags(append), path_flags = flags(path);
	ready();
	await_verify();
	SAME(flags(a), a_flags);
	SAME(flags(again), again_flags);
	SAME(flags(append), append_flags);
	SAME(flags(path), path_flags);
	SAME(fcntl(a, F_GETFD), FD_CLOEXEC);
	SAME(fcntl(copy, F_GETFD), 0);
	SAME(fcntl(high, F_GETFD), FD_CLOEXEC);
	SAME(lseek(a, 0, SEEK_CUR), 5);
	SAME(lseek(beyond, 0, SEEK_CUR), 1 << 20);
	SAME(lseek(again, 0, SEEK_CUR), 0);
	MUST(lseek(other, 9, SEEK_SET));
	SAME(lseek(a, 0, SEEK_CUR), 9);
	SAME(lseek(copy, 0, SEEK_CUR), 9);
	SAME(lseek(again, 0, SEEK_CUR), 0);
	char text[8];
	MUST(read(a, text, 4));
	CHECK(!memcmp(text, "9abc", 4), "the content differs");
	MUST(write(append, "second\n", 7));
	char all[64];
	size_t n = slurp("log.txt", all, sizeof all);
	CHECK(n >= 13 && !strcmp(all + n - 13, "first\nsecond\n"), "the log reads '%s'", all);
	link_is(a, "/a.txt");
	link_is(dir, "/d");
	link_is(path, "/a.txt");
	link_is(dirpath, "/d");
	int inside = openat(dirpath, "new", O_CREAT | O_RDWR, 0600);
	CHECK(inside >= 0, "openat through a path descriptor: %s", strerror(errno));
	SAME(write(null, "x", 1), 1);
	SAME(write(high, "x", 1), 1);
	uint64_t r = 1, z = 1;
	SAME(read(zero, &z, 8), 8);
	SAME(z, 0);
	SAME(read(random, &r, 8), 8);
	CHECK(r, "/dev/urandom gives zero");
	ok();
}
