//#Modes: root user newpid leave left empty
// Sparse memory stays sparse: a huge mapping with few pages costs nothing, before and after.
#include "victim.h"

/* Pages of the mapping that are there; /proc, which would tell, is not everywhere. */
static long resident(char *p, size_t size)
{
	static unsigned char there[1 << 18];
	long pages = 0;
	for (size_t at = 0; at < size; at += sizeof there * 4096) {
		MUST(mincore(p + at, sizeof there * 4096, there));
		for (size_t i = 0; i < sizeof there; i++)
			pages += there[i] & 1;
	}
	return pages;
}

int main(void)
{
	size_t size = 64ul << 30;
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	for (size_t at = 0; at < size; at += 1ul << 30)
		*(uint64_t *)(p + at + 123 * 4096) = mix(at);
	SAME(resident(p, size), 64);
	ready();
	await_verify();
	SAME(resident(p, size), 64);
	for (size_t at = 0; at < size; at += 1ul << 30)
		SAME(*(uint64_t *)(p + at + 123 * 4096), mix(at));
	SAME(p[5 << 20], 0);
	ok();
}
