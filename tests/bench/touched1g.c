/* 1 GiB of memory in one mapping, every page different and none of them zero. */
#include "bench.h"

int main(int argc, char **argv)
{
	size_t size = 1ul << 30;
	uint64_t *words = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t x = 88172645463325252ull;

	demand(words != MAP_FAILED, "mmap");
	for (size_t i = 0; i < size / sizeof *words; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		words[i] = x;
	}
	watch(argc, argv);
}
