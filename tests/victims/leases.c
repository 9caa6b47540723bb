//#Modes: root user newpid leave left
// A write lease and a read lease with a signal of its own: nobody opens the file for the dump in a way
// that breaks them; afterwards a conflicting open is told, waits, and goes on.
#include "victim.h"
#include <sys/wait.h>

static volatile sig_atomic_t heard, of;

static void hears(int signal, siginfo_t *info, void *context)
{
	(void)context;
	of = info->si_fd;
	heard = signal;
}

static void breaks(const char *name, int flags, int lease, int signal)
{
	pid_t child = MUST(fork());
	if (!child) {
		int fd = open(name, flags);
		_exit(fd >= 0 ? 7 : 1);
	}
	for (int n = 0; !heard; n++) {
		CHECK(n < 5000, "no signal of the lease on %s", name);
		usleep(1000);
	}
	SAME(heard, signal);
	SAME(of, lease);
	int status;
	usleep(10000);
	SAME(waitpid(child, &status, WNOHANG), 0);
	MUST(fcntl(lease, F_SETLEASE, F_UNLCK));
	MUST(waitpid(child, &status, 0));
	SAME(WEXITSTATUS(status), 7);
	heard = 0;
}

static void make(const char *name)
{
	int fd = MUST(open(name, O_RDWR | O_CREAT | O_TRUNC, 0600));
	MUST(write(fd, "contents", 8));
	MUST(close(fd));
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = hears, .sa_flags = SA_SIGINFO | SA_RESTART };
	int low = SIGRTMIN + 3, high = SIGRTMIN + 4;
	MUST(sigaction(low, &action, NULL));
	MUST(sigaction(high, &action, NULL));
	make("write");
	make("blind");
	make("read");
	int w = MUST(open("write", O_RDWR)), b = MUST(open("blind", O_WRONLY)), r = MUST(open("read", O_RDONLY));
	MUST(fcntl(w, F_SETLEASE, F_WRLCK));
	MUST(fcntl(w, F_SETSIG, low));
	MUST(fcntl(b, F_SETLEASE, F_WRLCK));
	MUST(fcntl(b, F_SETSIG, low));
	MUST(fcntl(r, F_SETLEASE, F_RDLCK));
	MUST(fcntl(r, F_SETSIG, high));
	ready();
	await_verify();
	SAME(heard, 0);
	SAME(MUST(fcntl(w, F_GETLEASE)), F_WRLCK);
	SAME(MUST(fcntl(b, F_GETLEASE)), F_WRLCK);
	SAME(MUST(fcntl(r, F_GETLEASE)), F_RDLCK);
	breaks("write", O_RDONLY, w, low);
	breaks("blind", O_RDONLY, b, low);
	breaks("read", O_WRONLY, r, high);
	char text[16] = "";
	SAME(pread(w, text, 16, 0), 8);
	CHECK(!strcmp(text, "contents"), "it reads '%s'", text);
	ok();
}
