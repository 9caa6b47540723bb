//#Modes: root user newpid leave left empty
// A thread inside an rseq critical section goes to its abort handler, and the registration lasts. The
// section reads the time-stamp counter: a second without a turn must have ended in the abort handler.
#include "victim.h"
#include <linux/rseq.h>
#include <sys/rseq.h>

static volatile int stop, aborted, overlooked;

/* Turns of the counter in a second, on a processor of 2 GHz; less on a faster one. */
static const uint64_t PAUSE = 2000000000;

/* Loops inside a critical section until it is aborted; the abort handler counts and starts anew. */
static void *looping(void *unused)
{
	(void)unused;
	struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	asm volatile(
		".pushsection __rseq_cs, \"aw\"\n .balign 32\n"
		"7: .long 0, 0\n .quad 1f, 2f-1f, 4f\n .popsection\n"
		"5: lea 7b(%%rip), %%rax\n mov %%rax, %0\n"
		"rdtsc\n shl $32, %%rdx\n lea (%%rdx, %%rax), %%r8\n"
		"1: rdtsc\n shl $32, %%rdx\n add %%rdx, %%rax\n"
		"mov %%rax, %%rcx\n sub %%r8, %%rcx\n mov %%rax, %%r8\n"
		"cmp %4, %%rcx\n ja 3f\n"
		"cmpl $0, %1\n jne 2f\n jmp 1b\n"
		"3: movl $1, %3\n"
		"2: jmp 6f\n"
		".long 0x53053053\n"
		"4: lock incl %2\n jmp 5b\n"
		"6: movq $0, %0\n"
		: "+m"(area->rseq_cs), "+m"(stop), "+m"(aborted), "+m"(overlooked) : "r"(PAUSE)
		: "rax", "rcx", "rdx", "r8", "memory", "cc");
	CHECK(area->cpu_id < 4096, "rseq is not registered any more: cpu_id %d", (int)area->cpu_id);
	return NULL;
}

int main(void)
{
	pthread_t t;
	if (!__rseq_size) {
		ready();
		await_verify();
		ok();
	}
	pthread_create(&t, NULL, looping, NULL);
	ready();
	await_verify();
	stop = 1;
	pthread_join(t, NULL);
	CHECK(!overlooked, "the section went on after a pause, without its abort handler");
	struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	/* Registering anew must say busy: it is registered with this very area. */
	errno = 0;
	long r = syscall(SYS_rseq, area, 32, 0, RSEQ_SIG);
	CHECK(r == -1 && errno == EBUSY, "rseq gives %ld (%s), should be busy", r, strerror(errno));
	ok();
}
