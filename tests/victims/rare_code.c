//#Modes: none
// Has an instruction of SSE4a, which it executes only where the processor knows it.
#include "victim.h"
#include <cpuid.h>

static void store(double *to, double value)
{
	/* movntsd %xmm0,(%rdi), by its bytes: whatever the compiler's options. */
	__asm__ volatile(".byte 0xf2, 0x0f, 0x2b, 0x07" : : "D"(to), "Yz"(value) : "memory");
}

int main(void)
{
	static double kept;
	unsigned a, b, c = 0, d;
	__get_cpuid(0x80000001, &a, &b, &c, &d);
	ready();
	await_verify();
	if (c & 1 << 6) {
		store(&kept, 2.5);
		CHECK(kept == 2.5, "the store gave %g", kept);
	}
	ok();
}
