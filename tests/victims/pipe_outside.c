//#Modes: root user newpid
//#Dump: --external-pipes close
// Pipes of which another process has an end: what was written there is read, then the end; writing
// fails; and one of which both ends are here as well (as make's jobserver has it) goes on within.
#include "victim.h"
#include <fcntl.h>
#include <sys/wait.h>

/* Holds three descriptors, and nothing else, until something comes from the first, or its end. */
static void outsider(int reads, int writes, int shared)
{
	if (!fork()) {
		if (fork())
			_exit(0);
		for (int fd = 0; fd < 100; fd++)
			if (fd != reads && fd != writes && fd != shared)
				close(fd);
		prctl(PR_SET_NAME, "outsider");
		char c;
		_exit(read(reads, &c, 1) < 0);
	}
	wait(NULL);
	close(reads);
	close(writes);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	int in[2], out[2], both[2];
	MUST(pipe(in));
	MUST(pipe(out));
	MUST(pipe(both));
	MUST(write(in[1], "last words", 10));
	MUST(write(both[1], "++", 2));
	outsider(out[0], in[1], both[0]);
	ready();
	await_verify();
	char text[64];
	/* Nobody but the outsider of a program that was never dumped is there to take it. */
	(void)!write(out[1], "x", 1);
	CHECK(read(in[0], text, sizeof text) == 10, "the data is not there");
	CHECK(!memcmp(text, "last words", 10), "the data is wrong");
	CHECK(read(in[0], text, sizeof text) == 0, "no end");
	CHECK(write(out[1], "x", 1) == -1 && errno == EPIPE, "the reader is there");
	CHECK(read(both[0], text, 1) == 1 && *text == '+', "a token is lost");
	CHECK(write(both[1], "-", 1) == 1, "no token can be put back");
	CHECK(read(both[0], text, sizeof text) == 2 && !memcmp(text, "+-", 2), "the tokens are wrong");
	ok();
}
