//#Modes: root user newpid leave left empty
// Dumped while a handler runs on the alternate stack; it returns to where the signal came.
#include "victim.h"

static volatile int in_handler, after;
static stack_t stack;

static void handler(int s, siginfo_t *info, void *context)
{
	(void)s;
	(void)context;
	int here;
	in_handler = 1;
	SAME(info->si_value.sival_int, 4711);
	ready();
	await_verify();
	CHECK((char *)&here > (char *)stack.ss_sp && (char *)&here < (char *)stack.ss_sp + stack.ss_size,
	      "not on the alternate stack");
	stack_t now;
	MUST(sigaltstack(NULL, &now));
	SAME(now.ss_flags, SS_ONSTACK);
}

int main(void)
{
	stack.ss_size = 128 * 1024;
	stack.ss_sp = malloc(stack.ss_size);
	MUST(sigaltstack(&stack, NULL));
	struct sigaction a = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	sigaddset(&a.sa_mask, SIGUSR2);
	MUST(sigaction(SIGUSR1, &a, NULL));
	double kept = 1.0 / (in_handler + 3);
	union sigval v = { .sival_int = 4711 };
	MUST(sigqueue(getpid(), SIGUSR1, v));
	CHECK(kept == 1.0 / 3, "a floating-point register changed over the handler");
	stack_t now;
	MUST(sigaltstack(NULL, &now));
	SAME(now.ss_flags, 0);
	sigset_t mask;
	sigprocmask(SIG_SETMASK, NULL, &mask);
	SAME(sigismember(&mask, SIGUSR1), 0);
	SAME(sigismember(&mask, SIGUSR2), 0);
	ok();
}
