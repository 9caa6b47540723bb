// Files deleted while open, small and large: contents travel whatever the size; an unlinked
// temporary file too. What was opened more than once before is one file afterwards.
#include "victim.h"

enum { BIG = 20 << 20 };

int main(void)
{
	int small = MUST(open("small.tmp", O_RDWR | O_CREAT | O_TRUNC, 0600));
	MUST(write(small, "small content", 13));
	MUST(lseek(small, 6, SEEK_SET));
	int apart = MUST(open("small.tmp", O_RDONLY));
	MUST(lseek(apart, 2, SEEK_SET));
	int append = MUST(open("small.tmp", O_WRONLY | O_APPEND));
	MUST(unlink("small.tmp"));
	int big = MUST(open("big.tmp", O_RDWR | O_CREAT | O_TRUNC, 0600));
	static uint64_t block[8192];
	for (int i = 0; i < BIG; i += sizeof block) {
		for (unsigned j = 0; j < 8192; j++)
			block[j] = mix(i + j);
		MUST(write(big, block, sizeof block));
	}
	MUST(unlink("big.tmp"));
	int reading = MUST(open("/proc/self/fd", O_RDONLY | O_DIRECTORY));
	close(reading);
	int nameless = open(".", O_TMPFILE | O_RDWR, 0600);
	if (nameless >= 0)
		MUST(write(nameless, "no name", 7));
	int twice = MUST(dup(small));
	int empty = MUST(open("empty.tmp", O_RDWR | O_CREAT | O_TRUNC, 0600));
	MUST(unlink("empty.tmp"));
	ready();
	await_verify();
	char text[32] = { 0 };
	SAME(lseek(twice, 0, SEEK_CUR), 6);
	SAME(pread(small, text, 32, 0), 13);
	CHECK(!memcmp(text, "small content", 13), "the small file has other content");
	SAME(lseek(big, 0, SEEK_CUR), BIG);
	SAME(lseek(big, 0, SEEK_END), BIG);
	MUST(lseek(big, 0, SEEK_SET));
	for (int i = 0; i < BIG; i += sizeof block) {
		SAME(read(big, block, sizeof block), sizeof block);
		for (unsigned j = 0; j < 8192; j++)
			SAME(block[j], mix(i + j));
	}
	if (nameless >= 0) {
		SAME(pread(nameless, text, 32, 0), 7);
		CHECK(!memcmp(text, "no name", 7), "the nameless file has other content");
	}
	struct stat st;
	MUST(fstat(empty, &st));
	SAME(st.st_size, 0);
	SAME(st.st_mode & 0777, 0600);
	MUST(fstat(small, &st));
	SAME(st.st_nlink, 0);
	SAME(write(empty, "x", 1), 1);
	SAME(lseek(apart, 0, SEEK_CUR), 2);
	SAME(write(append, "!", 1), 1);
	SAME(pread(apart, text, 32, 0), 14);
	CHECK(!memcmp(text, "small content!", 14), "what was opened apart is another file");
	SAME(pread(small, text, 32, 0), 14);
	SAME(write(apart, "x", 1), -1);
	ok();
}
