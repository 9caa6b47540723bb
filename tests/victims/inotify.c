// Watches come back under their numbers, also with gaps between them, with their masks.
#include "victim.h"
#include <sys/inotify.h>

static const struct inotify_event *next(int fd)
{
	static char text[4096] __attribute__((aligned(8)));
	ssize_t n = read(fd, text, sizeof text);
	if (n < 0 && errno == EAGAIN)
		return NULL;
	CHECK(n > 0, "reading events: %s", strerror(errno));
	return (const struct inotify_event *)text;
}

int main(void)
{
	MUST(mkdir("watched", 0755) == 0 || errno == EEXIST ? 0 : -1);
	MUST(mkdir("other", 0755) == 0 || errno == EEXIST ? 0 : -1);
	int file = MUST(open("watched/file", O_RDWR | O_CREAT, 0644));
	int fd = MUST(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)), bare = MUST(inotify_init());
	int first = MUST(inotify_add_watch(fd, "other", IN_DELETE));
	int dir = MUST(inotify_add_watch(fd, "watched", IN_CREATE | IN_MOVED_TO));
	for (int i = 0; i < 5; i++) {
		int wd = MUST(inotify_add_watch(fd, "watched/file", IN_ATTRIB));
		MUST(inotify_rm_watch(fd, wd));
	}
	int mine = MUST(inotify_add_watch(fd, "watched/file", IN_MODIFY | IN_ONESHOT));
	while (next(fd))
		;
	ready();
	await_verify();
	SAME(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK(!next(fd), "an event out of nothing");
	MUST(pwrite(file, "x", 1, 0));
	const struct inotify_event *e = next(fd);
	CHECK(e, "no event");
	SAME(e->wd, mine);
	SAME(e->mask, IN_MODIFY);
	MUST(close(MUST(open("watched/new", O_CREAT | O_EXCL, 0600))));
	e = next(fd);
	CHECK(e, "no event of the directory");
	SAME(e->wd, dir);
	CHECK(!strcmp(e->name, "new"), "it is '%s'", e->name);
	MUST(unlink("watched/new"));
	MUST(inotify_rm_watch(fd, first));
	SAME(MUST(inotify_add_watch(bare, "other", IN_CREATE)), 1);
	ok();
}
