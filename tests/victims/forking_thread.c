//#Modes: root user leave
// The first thread has no child; another one has made a child, with which it shares a pipe. The kernel
// lists children by the thread that made them.
#include "victim.h"
#include <sys/wait.h>

static int channel[2];
static volatile pid_t child;

static void *parent(void *unused UNUSED)
{
	pid_t pid = MUST(fork());
	if (!pid) {
		char c;
		close(channel[1]);
		_exit(read(channel[0], &c, 1) == 1 ? c : 99);
	}
	child = pid;
	for (;;)
		pause();
}

int main(void)
{
	pthread_t thread;
	int status;
	MUST(pipe(channel));
	CHECK(!pthread_create(&thread, NULL, parent, NULL), "pthread_create");
	while (!child)
		usleep(100);
	ready();
	await_verify();
	MUST(write(channel[1], "\7", 1));
	SAME(waitpid(child, &status, 0), child);
	SAME(status, 7 << 8);
	ok();
}
