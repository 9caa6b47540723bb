//#Modes: root user leave empty
// Robust locks, held over the dump: their owner's end is noticed by the others afterwards.
#include "victim.h"
#include <linux/futex.h>

static pthread_mutex_t lock;
static int go[2];
static pid_t tid;

static void *holder(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&lock);
	tid = syscall(SYS_gettid);
	MUST(write(go[1], "h", 1));
	char c;
	/* A pipe inside the process, so that the thread sleeps in a read. */
	while (read(go[0], &c, 1) != 1 || c != 'd') {
		if (c == 'h') {
			MUST(write(go[1], "h", 1));
			usleep(1000);
		}
	}
	return NULL;
}

int main(void)
{
	pthread_mutexattr_t a;
	pthread_t t;
	pid_t pid = getpid();
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&lock, &a);
	MUST(pipe(go));
	int back[2];
	MUST(pipe(back));
	pthread_create(&t, NULL, holder, NULL);
	while (!__atomic_load_n(&tid, __ATOMIC_SEQ_CST))
		usleep(1000);
	void *head;
	size_t length;
	MUST(syscall(SYS_get_robust_list, 0, &head, &length));
	ready();
	await_verify();
	void *head_now;
	size_t length_now;
	MUST(syscall(SYS_get_robust_list, 0, &head_now, &length_now));
	SAME(head_now, head);
	SAME(length_now, length);
	if (getpid() == pid) {
		MUST(write(go[1], "d", 1));
		pthread_join(t, NULL);
		int r = pthread_mutex_lock(&lock);
		CHECK(r == EOWNERDEAD, "the lock of a dead thread gives %d, not EOWNERDEAD", r);
	}
	ok();
}
