//#Modes: none
// An allocator that gives pages back by MADV_DONTNEED and relies on their being zero afterwards.
#include "victim.h"

enum { BLOCKS = 60, SIZE = 3 << 20 };

int main(void)
{
	char *blocks[BLOCKS];
	for (int i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(SIZE);
		memset(blocks[i], i + 1, SIZE);
	}
	ready();
	await_verify();
	for (int i = 0; i < BLOCKS; i++)
		for (int j = 0; j < SIZE; j += 61)
			SAME(blocks[i][j], i + 1);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < BLOCKS; i++)
			free(blocks[i]);
		for (int i = 0; i < BLOCKS; i++) {
			blocks[i] = calloc(1, SIZE);
			for (int j = 0; j < SIZE; j++)
				CHECK(blocks[i][j] == 0, "calloc gave a byte that is not zero");
			memset(blocks[i], 77, SIZE);
		}
	}
	ok();
}
