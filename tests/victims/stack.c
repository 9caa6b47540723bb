//#Modes: root user newpid leave left empty
// A deep stack keeps its content and goes on growing down.
#include "victim.h"

__attribute__((noinline)) static uint64_t deep(int depth, int turn)
{
	volatile uint64_t block[512];
	for (int i = 0; i < 512; i++)
		block[i] = mix(depth * 512 + i);
	uint64_t sum = 0;
	if (depth == turn) {
		ready();
		await_verify();
	}
	if (depth < 1400)
		sum = deep(depth + 1, turn);
	for (int i = 0; i < 512; i++) {
		SAME(block[i], mix(depth * 512 + i));
		sum += block[i];
	}
	return sum;
}

int main(void)
{
	uint64_t sum = deep(0, 700), again = deep(0, -1);
	SAME(sum, again);
	ok();
}
