/* What all victims share: the talk with the test, and checks that name themselves. */
#ifndef VICTIM_H
#define VICTIM_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

static void say(const char *format, ...)
{
	char text[1024];
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	if (length > (int)sizeof text - 1)
		length = sizeof text - 1;
	for (int done = 0; done < length;) {
		int n = write(1, text + done, length - done);
		if (n <= 0)
			_exit(99);
		done += n;
	}
}

#define FAIL(...)                                                      \
	do {                                                           \
		char text_[700];                                       \
		snprintf(text_, sizeof text_, __VA_ARGS__);            \
		say("FAIL: line %d: %s\n", __LINE__, text_);           \
		_exit(1);                                              \
	} while (0)

#define CHECK(condition, ...)                                          \
	do {                                                           \
		if (!(condition))                                      \
			FAIL(__VA_ARGS__);                             \
	} while (0)

/* A call that must succeed while the state is made. */
#define MUST(call)                                                     \
	({                                                             \
		long r_ = (long)(call);                                \
		if (r_ == -1)                                          \
			FAIL("%s: %s", #call, strerror(errno));        \
		r_;                                                    \
	})

/* A number that must be what it was. */
#define SAME(now, then)                                                \
	do {                                                           \
		unsigned long long now_ = (unsigned long long)(now);   \
		unsigned long long then_ = (unsigned long long)(then); \
		if (now_ != then_)                                     \
			FAIL("%s is 0x%llx, was 0x%llx", #now, now_, then_); \
	} while (0)

static UNUSED void ready(void)
{
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
	say("READY\n");
}

/* Reads a line; a read that fails is the very thing a victim is there to notice. */
static UNUSED void read_line(char *line, size_t size)
{
	size_t length = 0;
	for (;;) {
		char c;
		ssize_t n = read(0, &c, 1);
		if (n != 1)
			FAIL("read on standard input gave %zd: %s", n, strerror(errno));
		if (c == '\n')
			break;
		if (length + 1 < size)
			line[length++] = c;
	}
	line[length] = 0;
}

/* Answers pings until the test asks to verify. */
static UNUSED void await_verify(void)
{
	for (;;) {
		char line[64];
		read_line(line, sizeof line);
		if (!strcmp(line, "ping"))
			say("PONG\n");
		else if (!strcmp(line, "verify"))
			return;
		else
			FAIL("asked for '%s'", line);
	}
}

static UNUSED void ok(void)
{
	say("OK\n");
	exit(0);
}

static UNUSED uint64_t now_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* Reads a small file, of /proc mostly; the length is returned. */
static UNUSED size_t slurp(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		FAIL("open %s: %s", path, strerror(errno));
	size_t length = 0;
	ssize_t n;
	while (length < size - 1 && (n = read(fd, text + length, size - 1 - length)) > 0)
		length += n;
	close(fd);
	text[length] = 0;
	return length;
}

/* The line of /proc/self/maps (or smaps) that covers an address, with its VmFlags. */
static UNUSED int vm_flags(const void *address, char *flags, size_t size)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	if (!f)
		return 0;
	char line[600];
	int inside = 0, found = 0;
	while (fgets(line, sizeof line, f)) {
		unsigned long from, to;
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2 && strchr(line, '-') < line + 17)
			inside = (unsigned long)address >= from && (unsigned long)address < to;
		if (inside && !strncmp(line, "VmFlags:", 8)) {
			snprintf(flags, size, "%s", line + 8);
			found = 1;
			break;
		}
	}
	fclose(f);
	return found;
}

/* A cheap sequence of numbers to fill memory with. */
static UNUSED uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}
#endif
