//#Modes: root user newpid empty leave
//#Flags: -static -no-pie
// A static program at fixed addresses.
#include "victim.h"

static int value = 5;

int main(void)
{
	value = 17;
	char *p = strdup("on the heap");
	ready();
	await_verify();
	SAME(value, 17);
	CHECK(!strcmp(p, "on the heap"), "heap");
	ok();
}
