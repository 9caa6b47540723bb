// Arguments, environment, auxiliary vector and name as /proc shows them.
#include "victim.h"

static char then[3][1 << 16], now[3][1 << 16];
static const char *const files[3] = { "/proc/self/cmdline", "/proc/self/environ", "/proc/self/auxv" };

int main(int argc, char **argv)
{
	size_t lengths[3];
	(void)argv;
	MUST(prctl(PR_SET_NAME, "a  strange)(na"));
	for (int i = 0; i < 3; i++)
		lengths[i] = slurp(files[i], then[i], sizeof then[i]);
	ready();
	await_verify();
	SAME(argc, 3);
	for (int i = 0; i < 3; i++) {
		SAME(slurp(files[i], now[i], sizeof now[i]), lengths[i]);
		CHECK(!memcmp(now[i], then[i], lengths[i]), "%s differs", files[i]);
	}
	char comm[32];
	slurp("/proc/self/comm", comm, sizeof comm);
	CHECK(!strcmp(comm, "a  strange)(na\n"), "the name is '%s'", comm);
	ok();
}
