/* 10,000 mappings of one touched page each, with a hole after each so that none can be merged. */
#include "bench.h"

enum { COUNT = 10000, PAGE = 4096 };

int main(int argc, char **argv)
{
	char *area = mmap(0, 2ul * COUNT * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	demand(area != MAP_FAILED, "mmap");
	demand(!munmap(area, 2ul * COUNT * PAGE), "munmap");
	for (int i = 0; i < COUNT; i++) {
		char *page = mmap(area + 2ul * i * PAGE, PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

		demand(page != MAP_FAILED, "mmap");
		*page = (char)(i | 1);
	}
	watch(argc, argv);
}
