//#Modes: root user newpid leave left empty
// Arguments, environment, auxiliary vector and name as /proc shows them.
#include "victim.h"

static char then[3][1 << 16], now[3][1 << 16];
static const char *const files[3] = { "/proc/self/cmdline", "/proc/self/environ", "/proc/self/auxv" };

#ifndef PR_GET_AUXV
#define PR_GET_AUXV 0x41555856
#endif

/* The same without /proc, as in an empty root directory: from the places that it would show. */
static size_t look(int which, char **argv, char **environ, size_t length, char *text, size_t size)
{
	if (!access(files[which], R_OK))
		return slurp(files[which], text, size);
	if (which == 2) {
		/* All that the kernel keeps, which may be more than the vector; before 6.4 it does not tell. */
		int got = prctl(PR_GET_AUXV, text, size, 0, 0);
		if (got == -1 && errno == EINVAL)
			memcpy(text, then[2], got = length);
		return MUST(got) >= (long)length ? length : (size_t)got;
	}
	memcpy(text, which ? environ[0] : argv[0], length);
	return length;
}

int main(int argc, char **argv, char **environ)
{
	size_t lengths[3];
	MUST(prctl(PR_SET_NAME, "a  strange)(na"));
	for (int i = 0; i < 3; i++)
		lengths[i] = slurp(files[i], then[i], sizeof then[i]);
	ready();
	await_verify();
	SAME(argc, 3);
	for (int i = 0; i < 3; i++) {
		SAME(look(i, argv, environ, lengths[i], now[i], sizeof now[i]), lengths[i]);
		CHECK(!memcmp(now[i], then[i], lengths[i]), "%s differs", files[i]);
	}
	char comm[32];
	MUST(prctl(PR_GET_NAME, comm));
	CHECK(!strcmp(comm, "a  strange)(na"), "the name is '%s'", comm);
	ok();
}
