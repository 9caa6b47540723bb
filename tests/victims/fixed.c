//#Modes: root user newpid leave left empty
//#Flags: -no-pie
// A program at fixed addresses, whose heap follows its data.
#include "victim.h"

static char data[100000] = "initialised";
static char bss[100000];

int main(void)
{
	strcpy(bss, "written");
	char *heap = sbrk(0);
	MUST(sbrk(50000) == (void *)-1 ? -1 : 0);
	memset(heap, 8, 50000);
	ready();
	await_verify();
	CHECK(!strcmp(data, "initialised") && !strcmp(bss, "written"), "data");
	for (int i = 0; i < 50000; i++)
		SAME(heap[i], 8);
	SAME(sbrk(0), heap + 50000);
	ok();
}
