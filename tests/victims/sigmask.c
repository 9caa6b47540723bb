//#Modes: root user newpid empty leave
// Handlers with flags and masks, ignored signals, the thread's mask, the alternate stack.
#include "victim.h"

static void one(int s) { (void)s; }
static void three(int s, siginfo_t *i, void *c) { (void)s; (void)i; (void)c; }

struct action { void *handler; unsigned long flags; void *restorer; uint64_t mask; };

static struct action get(int s)
{
	struct action a = { 0 };
	if (s != SIGKILL && s != SIGSTOP)
		MUST(syscall(SYS_rt_sigaction, s, NULL, &a, 8));
	return a;
}

int main(void)
{
	struct sigaction a = { .sa_handler = one, .sa_flags = SA_RESTART | SA_NODEFER };
	sigaddset(&a.sa_mask, SIGUSR2);
	sigaddset(&a.sa_mask, SIGRTMAX);
	MUST(sigaction(SIGUSR1, &a, NULL));
	struct sigaction b = { .sa_sigaction = three, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND };
	MUST(sigaction(SIGRTMIN + 3, &b, NULL));
	MUST(sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT | SA_NOCLDSTOP }, NULL));
	signal(SIGPIPE, SIG_IGN);
	signal(SIGRTMAX, SIG_IGN);
	sigset_t mask, now;
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGRTMIN + 7);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	stack_t stack = { .ss_sp = malloc(40000), .ss_size = 40000 }, stack_now;
	MUST(sigaltstack(&stack, NULL));
	struct action then[65];
	for (int s = 1; s <= 64; s++)
		then[s] = get(s);
	ready();
	await_verify();
	for (int s = 1; s <= 64; s++) {
		struct action n = get(s);
		CHECK(!memcmp(&n, &then[s], sizeof n), "the action of signal %d changed", s);
	}
	sigprocmask(SIG_SETMASK, NULL, &now);
	for (int s = 1; s <= 64; s++)
		CHECK(sigismember(&now, s) == sigismember(&mask, s), "signal %d: mask changed", s);
	MUST(sigaltstack(NULL, &stack_now));
	SAME(stack_now.ss_sp, stack.ss_sp);
	SAME(stack_now.ss_size, stack.ss_size);
	SAME(stack_now.ss_flags, 0);
	ok();
}
