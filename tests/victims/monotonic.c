//#Modes: root user newpid leave empty
// CLOCK_MONOTONIC and CLOCK_BOOTTIME go on without a jump. With `pause`, a second and more passes
// between dump and resume, which they do not count.
#include "victim.h"

int main(int argc, char **argv)
{
	uint64_t mono = now_ns(CLOCK_MONOTONIC), boot = now_ns(CLOCK_BOOTTIME), real = now_ns(CLOCK_REALTIME);
	uint64_t pause = argc > 1 && !strcmp(argv[1], "pause") ? 1000000000 : 0;
	ready();
	await_verify();
	uint64_t passed = now_ns(CLOCK_REALTIME) - real;
	uint64_t mono_passed = now_ns(CLOCK_MONOTONIC) - mono, boot_passed = now_ns(CLOCK_BOOTTIME) - boot;
	CHECK(mono_passed + pause <= passed + 100000000, "monotonic: %lu ns, real: %lu ns", mono_passed, passed);
	CHECK(boot_passed + pause <= passed + 100000000, "boot: %lu ns, real: %lu ns", boot_passed, passed);
	ok();
}
