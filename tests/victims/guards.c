//#Modes: root user newpid leave left empty
// Guard regions inside one mapping (kernel 6.13), and pages that may be dropped (6.11).
#include "victim.h"

#define GUARD_INSTALL 102
#define DROPPABLE 8

static int readable(const void *p)
{
	int ends[2];
	MUST(pipe(ends));
	int good = write(ends[1], p, 1) == 1;
	close(ends[0]);
	close(ends[1]);
	return good;
}

int main(void)
{
	enum { PAGE = 4096, PAGES = 64 };
	char *p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED, "mmap");
	memset(p, 6, PAGES * PAGE);
	int guards = madvise(p + 10 * PAGE, 3 * PAGE, GUARD_INSTALL) == 0;
	char *drop = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, DROPPABLE | MAP_ANONYMOUS, -1, 0);
	if (drop != MAP_FAILED)
		memset(drop, 1, 16 * PAGE);
	ready();
	await_verify();
	for (int i = 0; i < PAGES; i++)
		if (guards && i >= 10 && i < 13)
			CHECK(!readable(p + i * PAGE), "guard page %d can be read", i);
		else
			SAME(p[i * PAGE + 7], 6);
	if (drop != MAP_FAILED) {
		for (int i = 0; i < 16; i++)
			CHECK(drop[i * PAGE] == 1 || drop[i * PAGE] == 0, "a droppable page has other content");
		memset(drop, 2, 16 * PAGE);
	}
	ok();
}
