//#Modes: root user newpid
// Memory to be written and executed, as just-in-time compilers have it: below all libraries, and
// more than anyone would search for a system call to borrow.
#include "victim.h"

#define PLACE ((void *)0x10000000)
#define LENGTH (2ul << 30)

int main(void)
{
	int prot = PROT_READ | PROT_WRITE | PROT_EXEC;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
	unsigned char *code = mmap(PLACE, LENGTH, prot, flags, -1, 0);
	CHECK(code == PLACE, "mmap: %s", strerror(errno));
	// mov $42, %eax; ret
	static const unsigned char answer[] = { 0xb8, 42, 0, 0, 0, 0xc3 };
	memcpy(code + LENGTH / 2, answer, sizeof answer);
	ready();
	await_verify();
	SAME(((int (*)(void))(code + LENGTH / 2))(), 42);
	ok();
}
