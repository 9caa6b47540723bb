//#Modes: root user newpid leave left
// Descriptors that nobody holds but messages: an eventfd with a count, timerfds that run and one with
// expirations, a signalfd with its signal pending, a sealed memfd, an inotify, pipe ends whose other
// end is held or in flight as well, an O_PATH, a removed file, a socket with a message of its own.
#include "flights.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#ifdef TREE
#include <sys/wait.h>
#endif

enum { SEALS = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE };

static void reads(int fd, const char *wanted)
{
	char text[64] = "";
	SAME(MUST(read(fd, text, sizeof text)), strlen(wanted));
	CHECK(!strcmp(text, wanted), "'%s' came, not '%s'", text, wanted);
}

static void nothing(int fd)
{
	struct pollfd asked = { .fd = fd, .events = POLLIN };
	SAME(MUST(poll(&asked, 1, 0)), 0);
}

int main(void)
{
	int way[2], held[2], flying[2], half[2], inner[2];
	struct itimerspec late = { { 0, 0 }, { 1000, 0 } }, soon = { { 3600, 0 }, { 0, 1000 } }, left;
	uint64_t count;
	sigset_t set;

	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, way));
	int event = MUST(eventfd(41, EFD_NONBLOCK | EFD_SEMAPHORE));
	give_away(way[0], event);
	int timer = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	MUST(timerfd_settime(timer, 0, &late, NULL));
	give_away(way[0], timer);
	int over = MUST(timerfd_create(CLOCK_MONOTONIC, 0));
	MUST(timerfd_settime(over, 0, &soon, NULL));
	usleep(2000);
	give_away(way[0], over);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL));
	MUST(raise(SIGUSR1));
	give_away(way[0], MUST(signalfd(-1, &set, SFD_NONBLOCK)));
	int memory = MUST(memfd_create("in flight", MFD_ALLOW_SEALING));
	SAME(MUST(write(memory, "sealed contents", 15)), 15);
	MUST(fcntl(memory, F_ADD_SEALS, SEALS));
	give_away(way[0], memory);
	MUST(mkdir("watched", 0755) == 0 || errno == EEXIST ? 0 : -1);
	int watcher = MUST(inotify_init1(IN_NONBLOCK));
	MUST(inotify_add_watch(watcher, "watched", IN_CREATE));
	give_away(way[0], watcher);
	MUST(pipe(held));
	MUST(write(held[1], "half of it flies", 16));
	give_away(way[0], held[0]);
	MUST(pipe2(flying, O_NONBLOCK));
	MUST(write(flying[1], "both fly", 8));
	give_away(way[0], flying[1]);
	give_away(way[0], flying[0]);
	MUST(pipe(half));
	MUST(write(half[1], "no other end", 12));
	MUST(close(half[1]));
	give_away(way[0], half[0]);
	int path = MUST(open("watched", O_PATH | O_DIRECTORY));
	give_away(way[0], path);
	int gone = MUST(open("gone", O_RDWR | O_CREAT, 0600));
	MUST(write(gone, "removed contents", 16));
	MUST(lseek(gone, 8, SEEK_SET));
	MUST(unlink("gone"));
	give_away(way[0], gone);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, inner));
	int deep = MUST(eventfd(5, 0));
	give_away(inner[0], deep);
	give_away(way[0], inner[1]);
#ifdef TREE
	/* Who receives it all is not who made it, nor the first process. */
	pid_t child = MUST(fork());
	if (child) {
		int status;
		/* Its own end would keep the pipe open. */
		close(held[1]);
		MUST(waitpid(child, &status, 0));
		return WEXITSTATUS(status);
	}
	MUST(raise(SIGUSR1));
#endif
	ready();
	await_verify();

	event = take(way[1]);
	SAME(fcntl(event, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	for (int i = 0; i < 41; i++) {
		MUST(read(event, &count, 8));
		SAME(count, 1);
	}
	nothing(event);
	timer = take(way[1]);
	MUST(timerfd_gettime(timer, &left));
	CHECK(left.it_value.tv_sec > 900 && left.it_value.tv_sec < 1000, "%ld s remain", left.it_value.tv_sec);
	SAME(read(timer, &count, 8), -1);
	SAME(errno, EAGAIN);
	over = take(way[1]);
	SAME(MUST(read(over, &count, 8)), 8);
	SAME(count, 1);
	MUST(timerfd_gettime(over, &left));
	SAME(left.it_interval.tv_sec, 3600);
	CHECK(left.it_value.tv_sec > 3500, "%ld s of the interval remain", left.it_value.tv_sec);
	int signals = take(way[1]);
	struct signalfd_siginfo info;
	SAME(MUST(read(signals, &info, sizeof info)), sizeof info);
	SAME(info.ssi_signo, SIGUSR1);
	memory = take(way[1]);
	SAME(MUST(fcntl(memory, F_GET_SEALS)), SEALS);
	char text[64] = "";
	SAME(MUST(pread(memory, text, sizeof text, 0)), 15);
	CHECK(!strcmp(text, "sealed contents"), "the memory reads '%s'", text);
	SAME(lseek(memory, 0, SEEK_CUR), 15);
	SAME(write(memory, "x", 1), -1);
	SAME(errno, EPERM);
	watcher = take(way[1]);
	nothing(watcher);
	MUST(close(MUST(open("watched/new", O_WRONLY | O_CREAT, 0600))));
	union {
		struct inotify_event event;
		char room[512];
	} told;
	MUST(read(watcher, &told, sizeof told));
	CHECK(told.event.mask == IN_CREATE && !strcmp(told.event.name, "new"), "event %x", told.event.mask);
	MUST(unlink("watched/new"));
	held[0] = take(way[1]);
	reads(held[0], "half of it flies");
	MUST(write(held[1], "and goes on", 11));
	reads(held[0], "and goes on");
	MUST(close(held[1]));
	reads(held[0], "");
	flying[1] = take(way[1]);
	flying[0] = take(way[1]);
	reads(flying[0], "both fly");
	SAME(read(flying[0], text, 1), -1);
	SAME(errno, EAGAIN);
	MUST(write(flying[1], "!", 1));
	reads(flying[0], "!");
	MUST(close(flying[1]));
	reads(flying[0], "");
	half[0] = take(way[1]);
	reads(half[0], "no other end");
	reads(half[0], "");
	path = take(way[1]);
	CHECK(fcntl(path, F_GETFL) & O_PATH, "not O_PATH: %x", fcntl(path, F_GETFL));
	MUST(close(MUST(openat(path, "below", O_WRONLY | O_CREAT, 0600))));
	MUST(unlinkat(path, "below", 0));
	gone = take(way[1]);
	reads(gone, "contents");
	struct stat stat;
	MUST(fstat(gone, &stat));
	SAME(stat.st_nlink, 0);
	SAME(stat.st_size, 16);
	inner[1] = take(way[1]);
	deep = take(inner[1]);
	SAME(MUST(read(deep, &count, 8)), 8);
	SAME(count, 5);
	MUST(write(inner[0], "end", 3));
	reads(inner[1], "end");
	nothing(way[1]);
	ok();
}
