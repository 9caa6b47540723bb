//#Before: stop
//#Modes: root user newpid leave left empty
// A process stopped by job control stays stopped over dump and resume, and goes on with SIGCONT.
#include "victim.h"

int main(void)
{
	ready();
	await_verify();
	ok();
}
