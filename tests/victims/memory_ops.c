//#Modes: root user newpid empty leave
// What a program does with its memory afterwards: grow, move, split, protect, give back.
#include "victim.h"

int main(void)
{
	enum { PAGE = 4096 };
	char *a = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(a != MAP_FAILED, "mmap");
	for (int i = 0; i < 64; i++)
		memset(a + i * PAGE, i, PAGE);
	ready();
	await_verify();
	char *b = mremap(a, 64 * PAGE, 4096 * PAGE, MREMAP_MAYMOVE);
	CHECK(b != MAP_FAILED, "mremap: %s", strerror(errno));
	for (int i = 0; i < 64; i++)
		SAME(b[i * PAGE + 5], i);
	SAME(b[100 * PAGE], 0);
	MUST(munmap(b + 10 * PAGE, PAGE));
	MUST(mprotect(b + 20 * PAGE, PAGE, PROT_READ));
	MUST(madvise(b + 30 * PAGE, PAGE, MADV_DONTNEED));
	SAME(b[30 * PAGE], 0);
	SAME(b[31 * PAGE], 31);
	MUST(madvise(b, PAGE, MADV_FREE));
	MUST(madvise(b, 4 * PAGE, MADV_WIPEONFORK));
	SAME(madvise(b + 10 * PAGE, PAGE, MADV_DONTNEED), -1);
	ok();
}
