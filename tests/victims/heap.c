//#Modes: root user newpid leave empty
// The heap with its contents; brk and malloc go on growing, and fresh memory is zero.
#include "victim.h"

int main(void)
{
	char *start = sbrk(0);
	uint64_t *blocks[200];
	for (int i = 0; i < 200; i++) {
		blocks[i] = malloc(8000 + i * 8);
		for (int j = 0; j < 1000; j++)
			blocks[i][j] = mix(i * 1000 + j);
	}
	char *end = sbrk(0);
	ready();
	await_verify();
	SAME(sbrk(0), end);
	for (int i = 0; i < 200; i++)
		for (int j = 0; j < 1000; j++)
			SAME(blocks[i][j], mix(i * 1000 + j));
	char *more = sbrk(5 << 20);
	SAME(more, end);
	for (int i = 0; i < 5 << 20; i++)
		CHECK(more[i] == 0, "fresh heap is not zero");
	memset(more, 5, 5 << 20);
	SAME(sbrk(-(5 << 20)), end + (5 << 20));
	SAME(sbrk(0), end);
	CHECK(end > start, "the heap did not grow");
	for (int i = 0; i < 200; i++)
		free(blocks[i]);
	char *again = malloc(3 << 20);
	memset(again, 1, 3 << 20);
	free(again);
	free(malloc(100));
	CHECK(strstr(getenv("VICTIM"), "heap"), "environment");
	char text[1 << 16];
	/* There is none in an empty root directory. */
	if (access("/proc/self/maps", R_OK))
		ok();
	slurp("/proc/self/maps", text, sizeof text);
	CHECK(strstr(text, "[heap]"), "no [heap] in the memory map");
	CHECK(strstr(text, "[stack]"), "no [stack] in the memory map");
	ok();
}
