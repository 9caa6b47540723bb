//#Modes: root user newpid leave empty
// CLOCK_MONOTONIC and CLOCK_BOOTTIME go on without a jump, in both directions.
#include "victim.h"

int main(void)
{
	uint64_t mono = now_ns(CLOCK_MONOTONIC), boot = now_ns(CLOCK_BOOTTIME), real = now_ns(CLOCK_REALTIME);
	ready();
	await_verify();
	uint64_t passed = now_ns(CLOCK_REALTIME) - real;
	uint64_t mono_passed = now_ns(CLOCK_MONOTONIC) - mono, boot_passed = now_ns(CLOCK_BOOTTIME) - boot;
	CHECK(mono_passed <= passed + 100000000, "monotonic: %lu ns, real: %lu ns", mono_passed, passed);
	CHECK(boot_passed <= passed + 100000000, "boot: %lu ns, real: %lu ns", boot_passed, passed);
	ok();
}
