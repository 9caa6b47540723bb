//#Before: stop
//#Modes: root user newpid leave left
// A process stopped by job control stays stopped over dump and resume, and goes on with SIGCONT.
#include "victim.h"

int main(void)
{
	ready();
	await_verify();
	ok();
}
