// A program that counts single instructions, asked by its own handler, by callbacks in the handler or on
// the library's thread: of the thread that was asked not one runs between its consent and the
// first instruction of its resume callback. Other threads run on until they are stopped.
//#Library: suspend
//#Modes: none
#include "consent.h"
#include <ucontext.h>

static volatile uint64_t turns, beside, at_suspend;
static volatile int suspended, wrong, direct;
static gregset_t registers;
static const ucontext_t *frame;

/* General registers, flags and all; what describes a fault is none of the program's. */
static int same_registers(const greg_t *a, const greg_t *b)
{
	for (int i = 0; i < REG_CR2; i++) {
		if (i != REG_ERR && i != REG_TRAPNO && i != REG_OLDMASK && a[i] != b[i])
			return 0;
	}
	return 1;
}

static void own_suspend(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)info;
	frame = context;
	memcpy(registers, frame->uc_mcontext.gregs, sizeof registers);
	at_suspend = turns;
	suspended++;
}

static void own_resume(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)info;
	const ucontext_t *now = context;
	const greg_t *r = now->uc_mcontext.gregs;
	if (!same_registers(registers, frame->uc_mcontext.gregs) || turns != at_suspend)
		wrong |= 1;
	if (direct) {
		/* It comes before the rt_sigreturn of the handler, whose frame is at the stack's top. */
		const uint8_t *at = (const uint8_t *)r[REG_RIP];
		if (at[0] != 0x0f || at[1] != 0x05 || r[REG_RAX] != SYS_rt_sigreturn)
			wrong |= 2;
		if (r[REG_RSP] != (greg_t)frame)
			wrong |= 4;
	} else if (!same_registers(registers, r)) {
		/* It comes after it, where the program was interrupted. */
		wrong |= 8;
	}
}

static int still_suspend(void *nothing, struct suspend_request *request)
{
	(void)nothing, (void)request;
	at_suspend = turns;
	suspended++;
	return 0;
}

static void still_resume(void *handler, const struct suspend_outcome *outcome)
{
	(void)outcome;
	if (handler && turns != at_suspend)
		wrong |= 1;
}

static void *count_beside(void *nothing)
{
	for (;;)
		__asm__ volatile("incq %0" : "+m"(beside));
	return nothing;
}

/* Sixty-four instructions that count themselves. */
static void count(void)
{
	__asm__ volatile(".rept 64\n incq %0\n .endr" : "+m"(turns));
}

int main(int argc, char **argv)
{
	CHECK(argc >= 2, "which way?");
	int own = !strcmp(argv[1], "direct") || !strcmp(argv[1], "masked");
	direct = !strcmp(argv[1], "direct");
	if (own) {
		struct sigaction action = {.sa_sigaction = own_suspend, .sa_flags = SA_SIGINFO};
		if (!direct)
			sigaddset(&action.sa_mask, SIGUSR2);
		MUST(sigaction(SIGUSR1, &action, NULL));
		action.sa_sigaction = own_resume;
		MUST(sigaction(SIGUSR2, &action, NULL));
	} else {
		int handler = !strcmp(argv[1], "handler");
		struct suspend_options options = {0, 0, handler ? SUSPEND_IN_HANDLER : 0};
		CHECK(suspend_init(&options) == 0, "suspend_init: %s", strerror(errno));
		suspend_register(still_suspend, still_resume, handler ? argv[1] : NULL);
	}
	if (argc > 2) {
		sigset_t set, before;
		pthread_t thread;
		sigfillset(&set);
		pthread_sigmask(SIG_SETMASK, &set, &before);
		SAME(pthread_create(&thread, NULL, count_beside, NULL), 0);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	fcntl(0, F_SETFL, O_NONBLOCK);
	ready();
	char line[64];
	size_t length = 0;
	for (unsigned round = 1;; round++) {
		count();
		char c;
		if (round % 1024 || read(0, &c, 1) != 1)
			continue;
		if (c != '\n') {
			if (length < sizeof line - 1)
				line[length++] = c;
			continue;
		}
		line[length] = 0;
		length = 0;
		if (!strcmp(line, "ping"))
			say("PONG\n");
		else if (!strcmp(line, "log"))
			say("LOG suspended %d wrong %d.\n", suspended, wrong);
		else if (!strcmp(line, "verify"))
			break;
	}
	SAME(wrong, 0);
	CHECK(suspended > 0, "was not asked");
	ok();
}
