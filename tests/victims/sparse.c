// Sparse memory stays sparse: a huge mapping with few pages costs nothing, before and after.
#include "victim.h"

static long resident(void)
{
	char text[200];
	long size, rss;
	slurp("/proc/self/statm", text, sizeof text);
	sscanf(text, "%ld %ld", &size, &rss);
	return rss;
}

int main(void)
{
	size_t size = 64ul << 30;
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	for (size_t at = 0; at < size; at += 1ul << 30)
		*(uint64_t *)(p + at + 123 * 4096) = mix(at);
	long before = resident();
	ready();
	await_verify();
	CHECK(resident() < before + 2000, "%ld pages resident, were %ld", resident(), before);
	for (size_t at = 0; at < size; at += 1ul << 30)
		SAME(*(uint64_t *)(p + at + 123 * 4096), mix(at));
	SAME(p[5 << 20], 0);
	ok();
}
