/* A program that opted in, with empty callbacks, and sleeps. */
#include <stdio.h>
#include <suspend.h>
#include <unistd.h>

static int agree(void *nothing, struct suspend_request *request)
{
	(void)nothing, (void)request;
	return 0;
}

static void go_on(void *nothing, const struct suspend_outcome *outcome)
{
	(void)nothing, (void)outcome;
}

int main(void)
{
	if (suspend_init(NULL) != 0 || suspend_register(agree, go_on, NULL) < 0)
		return 1;
	if (write(1, "READY\n", 6) != 6)
		return 1;
	for (;;)
		pause();
}
