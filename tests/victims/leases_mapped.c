//#Modes: root user newpid leave left
// Files that are mapped, privately, and have write leases: nobody opens them for the dump in a way that
// breaks those.
#include "victim.h"

static volatile sig_atomic_t heard;

static void hears(int signal)
{
	heard = signal;
}

static int make(const char *name, int prot, char **at)
{
	int fd = MUST(open(name, O_RDWR | O_CREAT | O_TRUNC, 0600));
	MUST(ftruncate(fd, 8192));
	MUST(pwrite(fd, "contents", 8, 0));
	MUST(pwrite(fd, "more", 4, 4096));
	*at = mmap(NULL, 8192, prot, MAP_PRIVATE, fd, 0);
	CHECK(*at != MAP_FAILED && !strcmp(*at, "contents"), "not mapped");
	MUST(fcntl(fd, F_SETLEASE, F_WRLCK));
	return fd;
}

int main(void)
{
	char *written, *read;
	signal(SIGIO, hears);
	int a = make("written", PROT_READ | PROT_WRITE, &written), b = make("read", PROT_READ, &read);
	memcpy(written + 100, "own", 4);
	ready();
	await_verify();
	SAME(heard, 0);
	SAME(fcntl(a, F_GETLEASE), F_WRLCK);
	SAME(fcntl(b, F_GETLEASE), F_WRLCK);
	CHECK(!strcmp(written, "contents") && !strcmp(written + 100, "own"), "what was written to differs");
	CHECK(!strcmp(written + 4096, "more") && !strcmp(read + 4096, "more"), "the second pages differ");
	CHECK(!strcmp(read, "contents"), "what was only read differs");
	ok();
}
