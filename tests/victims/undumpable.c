//#Modes: root left
// A process that made itself undumpable; only root may look at it, and it stays undumpable.
#include "victim.h"

int main(void)
{
	MUST(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
	ready();
	await_verify();
	SAME(prctl(PR_GET_DUMPABLE), 0);
	ok();
}
