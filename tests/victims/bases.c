//#Modes: root user newpid leave left empty
// The bases of FS and GS, of the main thread and of another one.
#include "victim.h"
#include <asm/prctl.h>

static uint64_t base(int code)
{
	uint64_t value = 0;
	MUST(syscall(SYS_arch_prctl, code, &value));
	return value;
}

static volatile int stop;
static uint64_t marks[2];

static void *thread(void *unused)
{
	(void)unused;
	MUST(syscall(SYS_arch_prctl, ARCH_SET_GS, &marks[1]));
	uint64_t fs = base(ARCH_GET_FS);
	__sync_fetch_and_add(&stop, 1);
	while (stop != 2)
		;
	SAME(base(ARCH_GET_FS), fs);
	SAME(base(ARCH_GET_GS), (uint64_t)&marks[1]);
	return NULL;
}

int main(void)
{
	pthread_t t;
	MUST(syscall(SYS_arch_prctl, ARCH_SET_GS, &marks[0]));
	uint64_t fs = base(ARCH_GET_FS);
	pthread_create(&t, NULL, thread, NULL);
	while (!stop)
		;
	ready();
	await_verify();
	SAME(base(ARCH_GET_FS), fs);
	SAME(base(ARCH_GET_GS), (uint64_t)&marks[0]);
	marks[0] = 77;
	uint64_t through = 0;
	asm volatile("mov %%gs:0, %0" : "=r"(through));
	SAME(through, 77);
	stop = 2;
	pthread_join(t, NULL);
	ok();
}
