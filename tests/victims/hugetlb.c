//#Modes: none
// Private memory of hugetlb pages: some touched, some not, one read-only. With an argument they may
// have become ordinary pages.
#include "victim.h"

#define HUGE (2ul << 20)

static void is(const char *at, const char *wanted)
{
	CHECK(!strcmp(at, wanted), "it reads '%.20s', not '%s'", at, wanted);
}

int main(int argc, char **argv)
{
	(void)argv;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
	char *p = mmap(NULL, 3 * HUGE, PROT_READ | PROT_WRITE, flags, -1, 0);
	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	strcpy(p, "first");
	strcpy(p + HUGE - 100, "end of the first");
	strcpy(p + 2 * HUGE, "third");
	MUST(mprotect(p + 2 * HUGE, HUGE, PROT_READ));
	ready();
	await_verify();
	char flag_names[200] = "";
	CHECK(vm_flags(p, flag_names, sizeof flag_names), "no such mapping");
	CHECK(argc > 1 || strstr(flag_names, " ht"), "ordinary pages: %s", flag_names);
	is(p, "first");
	is(p + HUGE - 100, "end of the first");
	is(p + 2 * HUGE, "third");
	CHECK(vm_flags(p + 2 * HUGE, flag_names, sizeof flag_names), "no such mapping");
	CHECK(!strstr(flag_names, " wr "), "it can be written: %s", flag_names);
	SAME(mprotect(p + 2 * HUGE, HUGE, PROT_READ | PROT_WRITE), 0);
	for (size_t i = 0; i < HUGE; i++)
		SAME(p[HUGE + i], 0);
	strcpy(p + 2 * HUGE, "written");
	SAME(munmap(p, 3 * HUGE), 0);
	ok();
}
