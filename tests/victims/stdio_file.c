//#Stdio: file
// Standard output and error are one file opened for appending.
#include "victim.h"

int main(void)
{
	ready();
	await_verify();
	CHECK(fcntl(1, F_GETFL) & O_APPEND, "standard output does not append any more");
	ok();
}
