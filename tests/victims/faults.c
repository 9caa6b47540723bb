//#Modes: root user newpid empty leave
// Faults after a resume arrive at the old handlers, with the address, on the alternate stack.
#include "victim.h"
#include <setjmp.h>

static sigjmp_buf back;
static void *volatile where;
static volatile int code, number;

static void handler(int s, siginfo_t *info, void *context)
{
	(void)context;
	number = s;
	where = info->si_addr;
	code = info->si_code;
	siglongjmp(back, 1);
}

int main(void)
{
	stack_t stack = { .ss_sp = malloc(65536), .ss_size = 65536, .ss_flags = 1 << 31 };
	MUST(sigaltstack(&stack, NULL));
	struct sigaction a = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	MUST(sigaction(SIGSEGV, &a, NULL));
	MUST(sigaction(SIGFPE, &a, NULL));
	char *closed = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ready();
	await_verify();
	for (int i = 0; i < 3; i++) {
		where = NULL;
		if (!sigsetjmp(back, 1))
			*(volatile char *)(closed + 123) = 1;
		SAME(number, SIGSEGV);
		SAME(where, closed + 123);
		SAME(code, SEGV_ACCERR);
		MUST(sigaltstack(&stack, NULL));
	}
	volatile int zero = 0, one = 1;
	if (!sigsetjmp(back, 1))
		one /= zero;
	SAME(number, SIGFPE);
	MUST(sigaltstack(&stack, NULL));
	stack_t now;
	MUST(sigaltstack(NULL, &now));
	SAME((unsigned)now.ss_flags, 1u << 31);
	ok();
}
