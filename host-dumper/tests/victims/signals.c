/* Counts queued signals until a line comes, then tells how many there were. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static volatile sig_atomic_t count;

static void handler(int s)
{
	(void)s;
	count++;
}

int main(void)
{
	struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_RESTART };
	char c;

	sigaction(SIGRTMIN + 1, &sa, NULL);
	puts("READY");
	fflush(stdout);
	if (read(0, &c, 1) != 1)
		puts("read failed");
	printf("%d\n", (int)count);
	return 0;
}
