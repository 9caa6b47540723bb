//#Modes: root
// Seccomp: the strict mode in a thread and in a process, filters one on top of the other, with and
// without no_new_privs, on all threads at once, and inherited by a child that adds its own.
#include "victim.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/wait.h>

struct board {
	volatile int ready, asked, answered, failed;
};

static struct board *board;
static int root, to_thread[2], from_thread[2], to_child[2], from_child[2];
static volatile int filters_then[2];

#define TEST(condition)                                                                   \
	do {                                                                              \
		if (!(condition))                                                         \
			__sync_bool_compare_and_swap(&board->failed, 0, __LINE__);        \
	} while (0)

static void wait_for(volatile int *what, int least)
{
	while (*what < least)
		usleep(1000);
}

/* Installs a filter that answers one call by `action`, if its first argument is `argument`. */
static void forbid(long nr, unsigned argument, unsigned action, int flags, int by_prctl)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, argument, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof code / sizeof *code, code };
	if (by_prctl)
		MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
	else
		MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program));
}

static int error_of(long nr, long argument)
{
	errno = 0;
	syscall(nr, argument);
	return errno;
}

static long of_thread(const char *field)
{
	char path[64], text[4096];
	snprintf(path, sizeof path, "/proc/thread-self/status");
	slurp(path, text, sizeof text);
	char *at = strstr(text, field);
	return at ? atol(at + strlen(field)) : -1;
}

static void no_new_privs(void)
{
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

/* Three filters: the second logs and forbids to install more by seccomp(2). */
static void *layers(void *unused)
{
	(void)unused;
	if (!root)
		no_new_privs();
	forbid(SYS_alarm, 1000, SECCOMP_RET_ERRNO | 71, 0, 0);
	forbid(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_RET_ERRNO | 72, SECCOMP_FILTER_FLAG_LOG, 0);
	forbid(SYS_alarm, 2000, SECCOMP_RET_ERRNO | 73, 0, 1);
	filters_then[0] = of_thread("Seccomp_filters:\t");
	__sync_fetch_and_add(&board->ready, 1);
	wait_for(&board->asked, 1);
	TEST(error_of(SYS_alarm, 1000) == 71);
	TEST(error_of(SYS_alarm, 2000) == 73);
	TEST(error_of(SYS_alarm, 0) == 0);
	TEST(error_of(SYS_seccomp, SECCOMP_SET_MODE_FILTER) == 72);
	TEST(of_thread("Seccomp_filters:\t") == filters_then[0]);
	TEST(of_thread("NoNewPrivs:\t") == !root);
	__sync_fetch_and_add(&board->answered, 1);
	return NULL;
}

/* The strict mode: nothing but read, write, exit and rt_sigreturn. */
static void *strict(void *unused)
{
	char c;
	(void)unused;
	MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
	write(from_thread[1], "r", 1);
	for (;;) {
		if (read(to_thread[0], &c, 1) != 1 || c == 'k')
			syscall(SYS_getpid);
		write(from_thread[1], &c, 1);
	}
	return NULL;
}

static void strict_process(void)
{
	char c;
	MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
	write(from_child[1], "r", 1);
	for (;;) {
		if (read(to_child[0], &c, 1) != 1 || c == 'q')
			syscall(SYS_exit, 7);
		write(from_child[1], &c, 1);
	}
}

static void *follower(void *unused)
{
	(void)unused;
	wait_for(&board->asked, 1);
	TEST(error_of(SYS_alarm, 3000) == 74);
	TEST(of_thread("NoNewPrivs:\t") == 1);
	TEST(of_thread("Seccomp_filters:\t") == filters_then[1]);
	__sync_fetch_and_add(&board->answered, 1);
	return NULL;
}

static void grandchild(void)
{
	forbid(SYS_alarm, 4000, SECCOMP_RET_KILL_PROCESS, 0, 0);
	__sync_fetch_and_add(&board->ready, 1);
	wait_for(&board->asked, 1);
	TEST(error_of(SYS_alarm, 3000) == 74);
	TEST(of_thread("Seccomp_filters:\t") == filters_then[1] + 1);
	__sync_fetch_and_add(&board->answered, 1);
	wait_for(&board->asked, 2);
	syscall(SYS_alarm, 4000);
	_exit(1);
}

/* One filter on all threads at once, inherited by a child. */
static void synced(void)
{
	pthread_t threads[2];
	int status;
	for (int i = 0; i < 2; i++)
		MUST(pthread_create(&threads[i], NULL, follower, NULL));
	no_new_privs();
	forbid(SYS_alarm, 3000, SECCOMP_RET_ERRNO | 74, SECCOMP_FILTER_FLAG_TSYNC, 0);
	filters_then[1] = of_thread("Seccomp_filters:\t");
	pid_t grand = MUST(fork());
	if (!grand)
		grandchild();
	__sync_fetch_and_add(&board->ready, 1);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	wait_for(&board->asked, 2);
	TEST(waitpid(grand, &status, 0) == grand && WTERMSIG(status) == SIGSYS);
	_exit(5);
}

static void echo(int to, int from, char c)
{
	char got = 0;
	MUST(write(to, &c, 1));
	MUST(read(from, &got, 1));
	SAME(got, c);
}

int main(void)
{
	pthread_t a, b;
	char c;
	int status;
	root = getuid() == 0;
	board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(pipe(to_thread));
	MUST(pipe(from_thread));
	MUST(pipe(to_child));
	MUST(pipe(from_child));
	pid_t tree = MUST(fork());
	if (!tree)
		synced();
	pid_t child = MUST(fork());
	if (!child)
		strict_process();
	MUST(pthread_create(&a, NULL, layers, NULL));
	MUST(pthread_create(&b, NULL, strict, NULL));
	MUST(read(from_thread[0], &c, 1));
	MUST(read(from_child[0], &c, 1));
	wait_for(&board->ready, 3);
	ready();
	await_verify();
	SAME(of_thread("Seccomp:\t"), 0);
	echo(to_thread[1], from_thread[0], 'x');
	echo(to_child[1], from_child[0], 'y');
	board->asked = 1;
	for (int i = 0; i < 20000 && board->answered < 4 && !board->failed; i++)
		usleep(1000);
	CHECK(!board->failed, "no in line %d", board->failed);
	SAME(board->answered, 4);
	board->asked = 2;
	/* What is not allowed ends the thread alone. */
	MUST(write(to_thread[1], "k", 1));
	pthread_join(b, NULL);
	pthread_join(a, NULL);
	MUST(write(to_child[1], "q", 1));
	SAME(waitpid(child, &status, 0), child);
	SAME(WEXITSTATUS(status), 7);
	SAME(waitpid(tree, &status, 0), tree);
	SAME(status, 5 << 8);
	CHECK(!board->failed, "no in line %d", board->failed);
	ok();
}
