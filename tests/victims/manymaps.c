//#Modes: root user leave empty
// Ten thousand mappings, each with content of its own.
#include "victim.h"

enum { COUNT = 10000, PAGE = 4096 };

int main(void)
{
	char *area = mmap(NULL, 2ul * COUNT * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(area != MAP_FAILED, "mmap");
	for (int i = 0; i < COUNT / 2; i++) {
		char *p = area + 4ul * i * PAGE;
		MUST(mprotect(p, PAGE, PROT_READ | PROT_WRITE));
		*(int *)p = i;
		if (i % 2)
			MUST(mprotect(p, PAGE, PROT_READ));
	}
	ready();
	await_verify();
	for (int i = 0; i < COUNT / 2; i++) {
		char *p = area + 4ul * i * PAGE;
		SAME(*(int *)p, i);
		if (i % 2 == 0)
			*(int *)p = 1;
	}
	ok();
}
