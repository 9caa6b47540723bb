//#Before: stop
//#Modes: root user leave empty
// Several threads, stopped by SIGSTOP while the other stop signals are handled: nobody runs before
// SIGCONT, over dump and resume and over another dump.
#include "victim.h"

enum { THREADS = 4 };
static volatile unsigned turns[THREADS];
static volatile int over;

static void ignore(int signal) { (void)signal; }

static void *work(void *data)
{
	volatile unsigned *mine = data;
	while (!over) {
		++*mine;
		usleep(500);
	}
	return NULL;
}

int main(void)
{
	pthread_t threads[THREADS];
	signal(SIGTSTP, ignore);
	signal(SIGTTIN, ignore);
	signal(SIGTTOU, SIG_IGN);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, work, (void *)&turns[i]);
	ready();
	await_verify();
	for (int i = 0; i < THREADS; i++) {
		unsigned before = turns[i];
		for (int n = 0; turns[i] == before; n++) {
			CHECK(n < 5000, "thread %d does not go on", i);
			usleep(1000);
		}
	}
	over = 1;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ok();
}
