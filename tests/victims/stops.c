//#Modes: root user leave
// Stopped children: one of several threads whose group is an orphan, in a session of its own, one
// whose parent was told, one whose parent was not; nobody is told twice, and nobody runs.
#include "victim.h"
#include <sys/wait.h>

enum { ALONE, TOLD, UNTOLD, KINDS, SPINNERS = 2 };

static pid_t children[KINDS];
static volatile int signals, *ran;

static void on_child(int signal)
{
	(void)signal;
	signals++;
}

static void *spin(void *turns)
{
	for (;;) {
		++*(volatile int *)turns;
		usleep(200);
	}
	return NULL;
}

static void child(int kind)
{
	signal(SIGCHLD, SIG_DFL);
	if (kind == ALONE) {
		pthread_t threads[SPINNERS];
		setsid();
		for (int i = 0; i < SPINNERS; i++)
			pthread_create(&threads[i], NULL, spin, (void *)&ran[KINDS + i]);
		while (!ran[KINDS] || !ran[KINDS + 1])
			usleep(100);
	} else {
		setpgid(0, 0);
	}
	raise(kind == ALONE ? SIGSTOP : SIGTSTP);
	ran[kind]++;
	_exit(10 + kind);
}

static char state(pid_t pid)
{
	char path[32], text[400];
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	slurp(path, text, sizeof text);
	return strrchr(text, ')')[2];
}

int main(void)
{
	int status;
	siginfo_t info;
	struct sigaction a = { .sa_handler = on_child, .sa_flags = SA_RESTART };
	ran = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(sigaction(SIGCHLD, &a, NULL));
	for (int i = 0; i < KINDS; i++) {
		children[i] = MUST(fork());
		if (!children[i])
			child(i);
		if (i == UNTOLD)
			MUST(waitid(P_PID, children[i], &info, WSTOPPED | WNOWAIT));
		else
			SAME(waitpid(children[i], &status, WUNTRACED), children[i]);
	}
	/* The last signal may come after the wait. */
	while (signals < KINDS)
		usleep(100);
	int turns[SPINNERS];
	for (int i = 0; i < SPINNERS; i++)
		turns[i] = ran[KINDS + i];
	ready();
	await_verify();
	/* One more signal may come for a stop that nobody is told of any more. */
	CHECK(signals >= KINDS, "only %d signals", signals);
	for (int i = 0; i < KINDS; i++) {
		SAME(state(children[i]), 'T');
		SAME(ran[i], 0);
		pid_t got = waitpid(children[i], &status, WUNTRACED | WNOHANG);
		SAME(got, i == UNTOLD ? children[i] : 0);
		if (i == UNTOLD)
			SAME(WSTOPSIG(status), SIGTSTP);
	}
	for (int i = 0; i < SPINNERS; i++)
		SAME(ran[KINDS + i], turns[i]);
	for (int i = 0; i < KINDS; i++) {
		MUST(kill(children[i], SIGCONT));
		SAME(waitpid(children[i], &status, 0), children[i]);
		SAME(WEXITSTATUS(status), 10 + i);
	}
	ok();
}
