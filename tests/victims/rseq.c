//#Modes: root user newpid leave left empty
// A thread inside an rseq critical section goes to its abort handler, and the registration lasts.
#include "victim.h"
#include <linux/rseq.h>
#include <sys/rseq.h>

static volatile int stop, aborted;

/* Loops inside a critical section until it is aborted; the abort handler counts and starts anew. */
static void *looping(void *unused)
{
	(void)unused;
	struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	asm volatile(
		".pushsection __rseq_cs, \"aw\"\n .balign 32\n"
		"7: .long 0, 0\n .quad 1f, 2f-1f, 4f\n .popsection\n"
		"5: lea 7b(%%rip), %%rax\n mov %%rax, %0\n"
		"1: cmpl $0, %1\n jne 2f\n jmp 1b\n"
		"2: jmp 6f\n"
		".long 0x53053053\n"
		"4: lock incl %2\n jmp 5b\n"
		"6: movq $0, %0\n"
		: "+m"(area->rseq_cs), "+m"(stop), "+m"(aborted) : : "rax", "memory", "cc");
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
	struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	/* Registering anew must say busy: it is registered with this very area. */
	errno = 0;
	long r = syscall(SYS_rseq, area, 32, 0, RSEQ_SIG);
	CHECK(r == -1 && errno == EBUSY, "rseq gives %ld (%s), should be busy", r, strerror(errno));
	ok();
}
