//#Modes: root user newpid leave left empty
// A process that registered for expedited memory barriers may go on using them; those that it did not
// register for fail as before.
#include "victim.h"
#include <linux/membarrier.h>

static const int registered[][2] = {
	{ MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, MEMBARRIER_CMD_PRIVATE_EXPEDITED },
	{ MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE },
};

#define CMD_GET_REGISTRATIONS (1 << 9)

static long barrier(int command) { return syscall(SYS_membarrier, command, 0, 0); }

int main(void)
{
	int known = barrier(MEMBARRIER_CMD_QUERY);
	for (int i = 0; i < 2; i++)
		if (known & registered[i][0])
			MUST(barrier(registered[i][0]));
	if (known & MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED)
		MUST(barrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED));
	/* Told since Linux 6.3. */
	long all = known & CMD_GET_REGISTRATIONS ? MUST(barrier(CMD_GET_REGISTRATIONS)) : 0;
	ready();
	await_verify();
	for (int i = 0; i < 2; i++)
		if (known & registered[i][0])
			CHECK(barrier(registered[i][1]) == 0, "barrier %d: %s", i, strerror(errno));
	if (known & MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ) {
		SAME(barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ), -1);
		SAME(errno, EPERM);
	}
	if (known & CMD_GET_REGISTRATIONS)
		SAME(barrier(CMD_GET_REGISTRATIONS), all);
	ok();
}
