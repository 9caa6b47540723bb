// A program whose control block lies, in a way that its argument names.
//#Modes: none
#include "victim.h"
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

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

static void give_up(int signal)
{
	(void)signal;
	MUST(munmap((void *)words, 4096));
}

/* Says no, in a way that shall mislead who reads it. */
static void mislead(int signal)
{
	(void)signal;
	strcpy((char *)words + 256, "done\x1b[2J \xe2\x80\xaeon");
	words[16] = (words[32] & ~255u) | 5;
}

/* Nobody but this process could fill the page, and it does not. */
static void withhold(char *page)
{
	int fd = MUST(syscall(SYS_userfaultfd, O_CLOEXEC));
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {.range = {(uintptr_t)page, 4096},
					.mode = UFFDIO_REGISTER_MODE_MISSING};
	MUST(ioctl(fd, UFFDIO_API, &api));
	MUST(ioctl(fd, UFFDIO_REGISTER, &range));
}

int main(int argc, char **argv)
{
	const char *lie = argc > 1 ? argv[1] : "";
	int fd = MUST(memfd_create("suspend-control", MFD_CLOEXEC));
	MUST(ftruncate(fd, 4096));
	char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(at != MAP_FAILED, "mmap: %s", strerror(errno));
	if (!strcmp(lie, "withheld")) {
		withhold(at);
		ready();
		await_verify();
		ok();
	}
	static uint64_t cookie = 0x1234567;
	signal(SIGUSR1, !strcmp(lie, "mad")	  ? go_mad
			: !strcmp(lie, "unmaps")   ? give_up
			: !strcmp(lie, "misleads") ? mislead
						   : nothing);
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
	if (!strcmp(lie, "many")) {
		/* All say that another dumper, which lives, is at it. */
		words[32] = words[33] = 7 << 8;
		words[36] = 1;
		for (int i = 0; i < 1000; i++) {
			int more = MUST(memfd_create("suspend-control", MFD_CLOEXEC));
			MUST(ftruncate(more, 4096));
			char *other = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, more, 0);
			CHECK(other != MAP_FAILED, "mmap: %s", strerror(errno));
			memcpy(other, at, 4096);
			MUST(close(more));
		}
	}
	if (!strcmp(lie, "name")) {
		words[4] = 77;
		prctl(PR_SET_NAME, "a\x1b[2Jb");
	}
	if (!strcmp(lie, "cut"))
		MUST(ftruncate(fd, 0));
	MUST(close(fd));
	if (!strcmp(lie, "aside")) {
		char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		*(volatile uint64_t *)(at + 32) = (uint64_t)(uintptr_t)page;
		withhold(page);
	}
	ready();
	await_verify();
	if (!strcmp(lie, "behind"))
		SAME(words[33], 7 << 8 | 2);
	ok();
}
