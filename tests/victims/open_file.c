//#Modes: none
// Holds `data.txt` open and tells its content when asked to verify.
#include "victim.h"

int main(void)
{
	int fd = MUST(open("data.txt", O_RDONLY));
	MUST(lseek(fd, 3, SEEK_SET));
	ready();
	await_verify();
	char text[100] = { 0 };
	SAME(lseek(fd, 0, SEEK_CUR), 3);
	MUST(pread(fd, text, sizeof text - 1, 0));
	say("CONTENT %s\n", text);
	ok();
}
