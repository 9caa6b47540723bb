//#Modes: none
// Much memory, all of it different; the argument says how many MiB.
#include "victim.h"

int main(int argc, char **argv)
{
	size_t size = (argc > 1 ? atol(argv[1]) : 64) << 20;
	uint64_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != (void *)-1, "mmap");
	for (size_t i = 0; i < size / 8; i++)
		p[i] = mix(i);
	ready();
	await_verify();
	for (size_t i = 0; i < size / 8; i++)
		SAME(p[i], mix(i));
	ok();
}
