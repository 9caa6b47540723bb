// A directory that was read to its middle: the rest comes afterwards, nothing is left out or comes twice.
#include "victim.h"
#include <dirent.h>

enum { FILES = 400 };
static int seen[FILES];

static int take(int fd, int most)
{
	char block[512];
	long n;
	int count = 0;
	while (count < most && (n = MUST(syscall(SYS_getdents64, fd, block, sizeof block))) > 0)
		for (long at = 0; at < n;) {
			struct dirent64 *entry = (struct dirent64 *)(block + at);
			int number;
			if (sscanf(entry->d_name, "file%d", &number) == 1) {
				CHECK(!seen[number]++, "%s comes twice", entry->d_name);
				count++;
			}
			at += entry->d_reclen;
		}
	return count;
}

int main(void)
{
	MUST(mkdir("many", 0755));
	for (int i = 0; i < FILES; i++) {
		char name[32];
		snprintf(name, sizeof name, "many/file%d", i);
		close(MUST(open(name, O_WRONLY | O_CREAT | O_EXCL, 0644)));
	}
	int fd = MUST(open("many", O_RDONLY | O_DIRECTORY));
	int first = take(fd, 100);
	CHECK(first < FILES, "all of %d were read at once", first);
	ready();
	await_verify();
	SAME(first + take(fd, FILES), FILES);
	ok();
}
