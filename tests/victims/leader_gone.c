//#Modes: none
// The first thread has ended; another one carries on, and the process ends with its status.
#include "victim.h"

static void *body(void *unused)
{
	(void)unused;
	usleep(20000);
	ready();
	await_verify();
	ok();
	return NULL;
}

int main(void)
{
	pthread_t t;
	MUST(-pthread_create(&t, NULL, body, NULL));
	pthread_exit(NULL);
}
