/* 64 GiB of addresses with one touched page in each of them. */
#include "bench.h"

int main(int argc, char **argv)
{
	size_t gib = 1ul << 30, count = 64;
	char *area = mmap(0, count * gib, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	demand(area != MAP_FAILED, "mmap");
	for (size_t i = 0; i < count; i++)
		area[i * gib] = 1;
	watch(argc, argv);
}
