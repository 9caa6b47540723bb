//#Modes: root user newpid empty leave
// Mappings at the bottom, in the middle and at the top of the address space.
#include "victim.h"

int main(void)
{
	const uint64_t wanted[] = { 0x10000, 0x200000, 0x10000000000, 0x3ffffffff000, 0x555000000000,
				    0x7ffffffe0000, 0x7fffffffe000 };
	enum { COUNT = sizeof wanted / sizeof *wanted };
	uint64_t *at[COUNT];
	for (int i = 0; i < COUNT; i++) {
		at[i] = mmap((void *)wanted[i], 4096, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		if (at[i] == MAP_FAILED)
			at[i] = NULL;
		else
			*at[i] = mix(i);
	}
	ready();
	await_verify();
	for (int i = 0; i < COUNT; i++)
		if (at[i]) {
			SAME(*at[i], mix(i));
			*at[i] = 1;
		}
	ok();
}
