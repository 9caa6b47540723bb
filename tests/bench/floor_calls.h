/* What the parts of floor_answers.c share: processes, the one buffer, calls and their time. */
#ifndef FLOOR_CALLS_H
#define FLOOR_CALLS_H
#include "bench.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <time.h>

#ifndef __x86_64__
#error "the registers and the trip are those of x86-64"
#endif

enum {
	MOST = 256,
	/* Bytes of a stack that a trip borrows: a signal frame, a chain of calls, results. */
	BORROWED = 4096,
	/* kcmp(2) types. */
	SAME_FILE = 0,
	SAME_MEMORY = 1,
	SAME_FILES = 2,
	SAME_FS = 3,
};

/* What the time went to. */
enum share { STOP, PTRACE, TRIP, PROC, SMAPS, DESCRIPTORS, LINKS, MEMORY, RELEASE, SHARES };

/* A process of the tree. */
struct process {
	pid_t pid;
	const struct process *parent;
	/* /proc/PID, by which everything below it is opened. */
	int dir;
	/* With which it stopped, and goes on. */
	struct user_regs_struct regs;
	uint64_t mask;
	/* Where the borrowed bytes of its stack begin, and the bytes. */
	uint64_t stack;
	char bytes[BORROWED];
};

static struct process all[MOST];
static int count;
/* Every answer goes here and is forgotten. */
static char buffer[8 << 20];
static uint64_t spent[SHARES], last;

static inline uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* What passed since the last time goes to this share. */
static inline void charge(enum share share)
{
	uint64_t then = last;

	last = now();
	spent[share] += last - then;
}

/* A call that must succeed. */
#define ask(what, ...) asked(syscall(__VA_ARGS__), what)

static inline long asked(long result, const char *what)
{
	demand(result != -1, what);
	return result;
}

/* The raw request: the C library's would read the result of a peek from memory. */
static inline long trace(int request, pid_t pid, uint64_t address, void *data)
{
	return ask("ptrace", SYS_ptrace, request, pid, address, data);
}

/* Such files are one record, of which one read tells all. Gives its length. */
static inline size_t read_record(int dir, const char *name)
{
	int file = ask(name, SYS_openat, dir, name, O_RDONLY | O_CLOEXEC);
	size_t length = ask(name, SYS_read, file, buffer, sizeof buffer - 1);

	buffer[length] = 0;
	ask("close", SYS_close, file);
	return length;
}

static inline void read_link(int dir, const char *name)
{
	ask(name, SYS_readlinkat, dir, name, buffer, sizeof buffer);
}

/* Whether two processes have the same, or two descriptors lead to the same. */
static inline int compare(const struct process *a, const struct process *b, int type, int fd_a,
			  int fd_b)
{
	return ask("kcmp", SYS_kcmp, a->pid, b->pid, type, fd_a, fd_b);
}
#endif
