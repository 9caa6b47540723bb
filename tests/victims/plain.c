//#Modes: root user newpid empty leave
//#Dumps: 3
// The least there is: a program that waits for a line.
#include "victim.h"

int main(void)
{
	pid_t pid = getpid();
	ready();
	await_verify();
	// With --new-pid the number is another one, and that is the only permitted difference.
	if (!getenv("VICTIM"))
		FAIL("the environment is gone");
	(void)pid;
	ok();
}
