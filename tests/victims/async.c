//#Modes: root user newpid leave left
// Who is told by which signal that a descriptor is ready (F_SETOWN, F_SETSIG, O_ASYNC): the process, a
// thread, a child; appending; and how far a directory was read.
#include "victim.h"
#include <dirent.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { FILES = 60 };

struct entry {
	uint64_t inode;
	int64_t next;
	unsigned short length;
	unsigned char kind;
	char name[];
};

static volatile int heard, of, by;

static void hears(int signal, siginfo_t *info, void *context)
{
	(void)context;
	heard = signal;
	of = info->si_fd;
	by = syscall(SYS_gettid);
}

/* Marks the files that some calls of getdents(2) show; a small buffer shows a few at a time. */
static int read_names(int dir, char *seen, int calls)
{
	char buffer[200];
	int count = 0;
	for (; calls; calls--) {
		long n = MUST(syscall(SYS_getdents64, dir, buffer, sizeof buffer));
		if (!n)
			break;
		for (long at = 0; at < n;) {
			struct entry *e = (void *)(buffer + at);
			int number;
			if (sscanf(e->name, "file%d", &number) == 1) {
				CHECK(number < FILES && !seen[number], "%s came twice", e->name);
				seen[number] = 1;
				count++;
			}
			at += e->length;
		}
	}
	return count;
}

static void owner_is(int fd, int type, pid_t pid, int signal)
{
	struct f_owner_ex owner;
	MUST(fcntl(fd, F_GETOWN_EX, &owner));
	SAME(owner.type, type);
	SAME(owner.pid, pid);
	SAME(fcntl(fd, F_GETSIG), signal);
	CHECK(fcntl(fd, F_GETFL) & O_ASYNC, "not O_ASYNC: %x", fcntl(fd, F_GETFL));
}

static void own(int fd, int type, pid_t pid, int signal)
{
	struct f_owner_ex owner = { type, pid };
	MUST(fcntl(fd, F_SETOWN_EX, &owner));
	MUST(fcntl(fd, F_SETSIG, signal));
	MUST(fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK));
}

static void expect(int signal, int fd)
{
	for (int n = 0; !heard; n++) {
		CHECK(n < 10000, "signal %d does not come", signal);
		usleep(1000);
	}
	SAME(heard, signal);
	SAME(of, fd);
	heard = 0;
}

static pthread_t thread;
static volatile pid_t tid;

static void *other(void *unused)
{
	tid = syscall(SYS_gettid);
	for (;;)
		pause();
	return unused;
}

int main(void)
{
	int ends[2], pair[2], low = SIGRTMIN + 3, high = SIGRTMIN + 5;
	char seen[FILES] = "", name[40], text[40];
	struct sigaction action = { .sa_sigaction = hears, .sa_flags = SA_SIGINFO | SA_RESTART };
	MUST(sigaction(low, &action, NULL));
	MUST(sigaction(high, &action, NULL));
	SAME(pthread_create(&thread, NULL, other, NULL), 0);
	while (!tid)
		usleep(100);
	pid_t self = getpid(), was = tid;
	MUST(pipe(ends));
	own(ends[0], F_OWNER_PID, self, low);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	own(pair[0], F_OWNER_TID, tid, high);
	snprintf(name, sizeof name, "async-%d", self);
	MUST(mkdir(name, 0700));
	int dir = MUST(open(name, O_RDONLY | O_DIRECTORY));
	for (int i = 0; i < FILES; i++) {
		snprintf(text, sizeof text, "file%d", i);
		MUST(close(MUST(openat(dir, text, O_WRONLY | O_CREAT, 0600))));
	}
	int log = MUST(openat(dir, "log", O_RDWR | O_CREAT | O_APPEND, 0600));
	MUST(write(log, "begin", 5));
	int some = read_names(dir, seen, 3);
	CHECK(some > 3 && some < FILES - 3, "%d names at first", some);
	ready();
	await_verify();
	if (getpid() == self) {
		owner_is(ends[0], F_OWNER_PID, self, low);
		owner_is(pair[0], F_OWNER_TID, was, high);
	}
	MUST(write(ends[1], "x", 1));
	expect(low, ends[0]);
	MUST(write(pair[1], "x", 1));
	expect(high, pair[0]);
	CHECK(by != getpid(), "the first thread was told");
	SAME(read_names(dir, seen, -1), FILES - some);
	MUST(lseek(log, 0, SEEK_SET));
	MUST(write(log, "end", 3));
	SAME(pread(log, text, sizeof text, 0), 8);
	CHECK(!memcmp(text, "beginend", 8), "it reads %.8s", text);
	ok();
}
