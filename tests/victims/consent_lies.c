// A program whose control block lies, in a way that its argument names.
//#Modes: none
#include "victim.h"

static void nothing(int signal)
{
	(void)signal;
}

static volatile uint32_t *words;

static void go_mad(int signal)
{
	(void)signal;
	words[16] = 0xffffffff;
}

int main(int argc, char **argv)
{
	const char *lie = argc > 1 ? argv[1] : "";
	int fd = MUST(memfd_create("suspend-control", MFD_CLOEXEC));
	MUST(ftruncate(fd, 4096));
	char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(at != MAP_FAILED, "mmap: %s", strerror(errno));
	MUST(close(fd));
	static uint64_t cookie = 0x1234567;
	signal(SIGUSR1, strcmp(lie, "mad") ? nothing : go_mad);
	signal(SIGUSR2, nothing);
	words = (volatile uint32_t *)at;
	words[4] = strcmp(lie, "version") ? 1 : 77;
	words[5] = 768;
	*(volatile uint64_t *)(at + 24) = strcmp(lie, "cookie") ? cookie : 99;
	*(volatile uint64_t *)(at + 32) =
		strcmp(lie, "nowhere") ? (uint64_t)(uintptr_t)&cookie : 0xfffffffffffff000;
	words[10] = strcmp(lie, "signal") ? SIGUSR1 : SIGKILL;
	words[10] = strcmp(lie, "unhandled") ? words[10] : SIGHUP;
	words[11] = SIGUSR2;
	words[12] = strcmp(lie, "tid") ? 1 : 2;
	words[13] = strcmp(lie, "tid") ? 0 : 1;
	if (!strcmp(lie, "answer"))
		words[16] = 0xff;
	/* At READY of a suspension that it was told the end of. */
	if (!strcmp(lie, "behind"))
		words[16] = 7 << 8 | 4, words[32] = 7 << 8, words[33] = 7 << 8 | 2;
	memcpy(at, strcmp(lie, "magic") ? "suspend control" : "sUspend control", 16);
	ready();
	await_verify();
	if (!strcmp(lie, "behind"))
		SAME(words[33], 7 << 8 | 2);
	ok();
}
