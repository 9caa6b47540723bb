//#Modes: root user newpid leave left empty
// Private file mappings with own changes, beyond the end of the file too; a read-only shared one.
// The file is removed after the mapping was made, so the contents must travel.
#include "victim.h"

int main(void)
{
	enum { PAGE = 4096 };
	int fd = MUST(open("mapped.dat", O_RDWR | O_CREAT | O_TRUNC, 0600));
	uint64_t line[512];
	for (int p = 0; p < 50; p++) {
		for (int i = 0; i < 512; i++)
			line[i] = mix(p * 512 + i);
		MUST(write(fd, line, p == 49 ? 100 : PAGE));
	}
	char *private = mmap(NULL, 60 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	char *reading = mmap(NULL, 50 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	char *code = mmap(NULL, 20 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 10 * PAGE);
	CHECK(private != MAP_FAILED && reading != MAP_FAILED && code != MAP_FAILED, "mmap");
	int reader = MUST(open("mapped.dat", O_RDONLY));
	char *shared = mmap(NULL, 50 * PAGE, PROT_READ, MAP_SHARED, reader, 0);
	CHECK(shared != MAP_FAILED, "mmap shared");
	// Written to in a few places, then for reading only, as relocated data is.
	char *settled = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(settled != MAP_FAILED, "mmap settled");
	settled[3 * PAGE + 5] = 'z';
	memset(settled + 9 * PAGE, 0, PAGE);
	MUST(mprotect(settled, 16 * PAGE, PROT_READ));
	close(fd);
	close(reader);
	MUST(unlink("mapped.dat"));
	private[5 * PAGE + 1] = 'x';
	private[30 * PAGE + 17] = 'y';
	MUST(mprotect(private + 30 * PAGE, PAGE, PROT_READ));
	ready();
	await_verify();
	for (int p = 0; p < 49; p++) {
		for (int i = 0; i < 512; i++)
			line[i] = mix(p * 512 + i);
		CHECK(!memcmp(reading + p * PAGE, line, PAGE), "page %d read privately differs", p);
		CHECK(!memcmp(shared + p * PAGE, line, PAGE), "page %d read shared differs", p);
		if (p >= 10 && p < 30)
			CHECK(!memcmp(code + (p - 10) * PAGE, line, PAGE), "code page %d differs", p);
		if (p == 3)
			((char *)line)[5] = 'z';
		if (p == 9)
			memset(line, 0, PAGE);
		if (p < 16)
			CHECK(!memcmp(settled + p * PAGE, line, PAGE), "settled page %d differs", p);
		if (p == 3 || p == 9)
			for (int i = 0; i < 512; i++)
				line[i] = mix(p * 512 + i);
		if (p == 5)
			((char *)line)[1] = 'x';
		if (p == 30)
			((char *)line)[17] = 'y';
		CHECK(!memcmp(private + p * PAGE, line, PAGE), "own page %d differs", p);
	}
	for (int i = 100; i < PAGE; i++)
		CHECK(private[49 * PAGE + i] == 0, "the rest of the last page is not zero");
	private[7 * PAGE] = 1;
	ok();
}
