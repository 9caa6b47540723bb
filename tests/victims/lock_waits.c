//#Modes: root user leave left
// Processes of a tree that wait for locks (flock, fcntl, of open file descriptions) which others of
// the tree hold: parents of children and children of parents. They wait still, and get them in turn.
#include "victim.h"
#include <sys/file.h>
#include <sys/wait.h>

enum { FLOCK, POSIX, OFD, KINDS };

/* One for each kind and order: the child waits, the parent waits. */
static struct state {
	volatile int held, got;
} (*board)[KINDS][2];

static struct flock all_of_it(int type)
{
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET };
}

static void set(int fd, int kind, int type)
{
	struct flock l = all_of_it(type);
	if (kind == FLOCK)
		MUST(flock(fd, type == F_UNLCK ? LOCK_UN : LOCK_EX));
	else
		MUST(fcntl(fd, kind == POSIX ? F_SETLKW : F_OFD_SETLKW, &l));
}

static int file(int kind, int order)
{
	char name[32];
	snprintf(name, sizeof name, "lock%d%d", kind, order);
	return MUST(open(name, O_RDWR | O_CREAT, 0600));
}

static void hold(int kind, int order, int until)
{
	int fd = file(kind, order);
	set(fd, kind, F_WRLCK);
	(*board)[kind][order].held = 1;
	char c;
	SAME(read(until, &c, 1), 0);
	CHECK(!(*board)[kind][order].got, "two have the lock %d", kind);
	(*board)[kind][order].held = 2;
	set(fd, kind, F_UNLCK);
}

static void want(int kind, int order)
{
	int fd = file(kind, order);
	while (!(*board)[kind][order].held)
		usleep(500);
	set(fd, kind, F_WRLCK);
	SAME((*board)[kind][order].held, 2);
	(*board)[kind][order].got = 1;
}

int main(void)
{
	int release[2], status;
	board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(pipe(release));
	for (int kind = 0; kind < KINDS; kind++)
		for (int order = 0; order < 2; order++) {
			/* The middle one starts the other, whose pid is higher. */
			if (MUST(fork()))
				continue;
			close(release[1]);
			pid_t child = MUST(fork());
			if ((child == 0) != order)
				want(kind, order);
			else
				hold(kind, order, release[0]);
			if (!child)
				_exit(0);
			MUST(waitpid(child, &status, 0));
			_exit(WEXITSTATUS(status));
		}
	for (int kind = 0; kind < KINDS; kind++)
		for (int order = 0; order < 2; order++)
			while (!(*board)[kind][order].held)
				usleep(500);
	usleep(30000);
	ready();
	await_verify();
	usleep(30000);
	for (int kind = 0; kind < KINDS; kind++)
		for (int order = 0; order < 2; order++) {
			SAME((*board)[kind][order].held, 1);
			SAME((*board)[kind][order].got, 0);
		}
	close(release[1]);
	for (int i = 0; i < KINDS * 2; i++) {
		MUST(wait(&status));
		SAME(status, 0);
	}
	for (int kind = 0; kind < KINDS; kind++)
		for (int order = 0; order < 2; order++)
			SAME((*board)[kind][order].got, 1);
	ok();
}
