//#Modes: root user newpid leave left empty
// A pipe whose writers are all gone still holds its rest; one whose reader is gone still breaks.
#include "victim.h"

int main(void)
{
	int half[2], broken[2];
	signal(SIGPIPE, SIG_IGN);
	MUST(pipe(half));
	MUST(write(half[1], "rest", 4));
	close(half[1]);
	MUST(pipe(broken));
	close(broken[0]);
	ready();
	await_verify();
	char text[8];
	SAME(read(half[0], text, sizeof text), 4);
	SAME(read(half[0], text, sizeof text), 0);
	SAME(write(broken[1], "x", 1), -1);
	SAME(errno, EPIPE);
	ok();
}
