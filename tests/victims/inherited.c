//#Modes: root user
// What children have from their parent leads to the same descriptions, and is closed on exec, or not, by
// each process's own choice. A lock of fcntl(2) on something that is no file of a file system is the
// child's own as well.
#include "victim.h"
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { MANY = 48 };

static int all[MANY];

static int is_closed(int who, int i)
{
	return (i + who) % 3 == 0;
}

/* An odd number of descriptors of each kind, and one in a row that is its own. */
static void make(void)
{
	for (int i = 0; i < MANY; i += 4) {
		int pair[2];
		MUST(pipe(pair));
		all[i] = pair[0];
		all[i + 1] = MUST(eventfd(i, 0));
		all[i + 2] = MUST(open("/dev/null", O_RDWR));
		MUST(close(pair[1]));
		MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
		all[i + 3] = pair[1];
		MUST(close(pair[0]));
	}
}

static void choose(int who)
{
	for (int i = 0; i < MANY; i++)
		MUST(fcntl(all[i], F_SETFD, is_closed(who, i) ? FD_CLOEXEC : 0));
}

static void verify(int who)
{
	for (int i = 0; i < MANY; i++)
		CHECK(MUST(fcntl(all[i], F_GETFD)) == (is_closed(who, i) ? FD_CLOEXEC : 0),
		      "descriptor %d of process %d is %d", i, who, fcntl(all[i], F_GETFD));
	for (int i = 1; i < MANY; i += 4) {
		uint64_t value = 1;
		if (who)
			MUST(write(all[i], &value, 8));
	}
}

int main(void)
{
	int go[2], up[2], null = MUST(open("/dev/null", O_RDWR));
	char byte;
	pid_t children[3];
	// Of this machine's programs, no other locks these bytes.
	struct flock lock = { .l_type = F_WRLCK, .l_start = (off_t)getpid() << 20, .l_len = 100 };
	struct flock asked = lock;

	MUST(pipe(go));
	MUST(pipe(up));
	make();
	for (int who = 1; who <= 3; who++) {
		children[who - 1] = MUST(fork());
		if (children[who - 1])
			continue;
		choose(who);
		if (who == 2)
			MUST(fcntl(null, F_SETLK, &lock));
		if (who == 3) {
			// Then it has no signal to spare, and can only be asked one thing at a time.
			sigset_t every;
			sigfillset(&every);
			MUST(sigprocmask(SIG_SETMASK, &every, 0));
		}
		MUST(close(go[1]));
		MUST(write(up[1], "x", 1));
		MUST(read(go[0], &byte, 1) + 1);
		verify(who);
		_exit(0);
	}
	choose(0);
	for (int i = 0; i < 3; i++)
		SAME(read(up[0], &byte, 1), 1);
	ready();
	await_verify();

	verify(0);
	MUST(fcntl(null, F_GETLK, &asked));
	CHECK(asked.l_type == F_WRLCK && asked.l_pid == children[1], "the lock is %d, of %d", asked.l_type,
	      asked.l_pid);
	SAME(asked.l_len, 100);
	MUST(close(go[1]));
	for (int i = 0; i < 3; i++) {
		int status;
		SAME(waitpid(children[i], &status, 0), children[i]);
		SAME(status, 0);
	}
	for (int i = 1; i < MANY; i += 4) {
		uint64_t value;
		SAME(read(all[i], &value, 8), 8);
		SAME(value, i - 1 + 3);
	}
	ok();
}
