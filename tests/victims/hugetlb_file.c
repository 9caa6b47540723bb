//#Modes: none
// A file of hugetlb pages that a dump refuses: mapped privately, or removed.
#include "victim.h"

#define HUGE (2ul << 20)

int main(int argc, char **argv)
{
	CHECK(argc == 3, "a path and how");
	int fd = MUST(open(argv[1], O_RDWR | O_CREAT, 0600));
	MUST(ftruncate(fd, HUGE));
	if (!strcmp(argv[2], "removed")) {
		MUST(unlink(argv[1]));
	} else {
		char *at = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
		CHECK(at != MAP_FAILED, "mmap: %s", strerror(errno));
		at[0] = 1;
		MUST(close(fd));
	}
	ready();
	await_verify();
	ok();
}
