//#Modes: root user newpid empty leave
// General registers, x87, MXCSR, SSE, AVX and AVX-512 with its masks, each with a value that is
// looked at again in a loop, without any call in between. The flag that ends the loop is set by
// another thread.
//#Flags: -mno-red-zone
#include "victim.h"

static volatile int stop;

struct set {
	uint64_t zmm[32][8];
	uint64_t mask[8];
};

static struct set before __attribute__((aligned(64))), after __attribute__((aligned(64)));

__attribute__((target("avx512f,avx512bw"))) static void *avx512(void *unused)
{
	(void)unused;
	for (int i = 0; i < 32; i++)
		for (int j = 0; j < 8; j++)
			before.zmm[i][j] = mix(i * 8 + j);
	for (int i = 1; i < 8; i++)
		before.mask[i] = mix(1000 + i);
	asm volatile(
#define LOAD(n) "vmovdqu64 " #n "*64(%0), %%zmm" #n "\n"
		LOAD(0) LOAD(1) LOAD(2) LOAD(3) LOAD(4) LOAD(5) LOAD(6) LOAD(7)
		LOAD(8) LOAD(9) LOAD(10) LOAD(11) LOAD(12) LOAD(13) LOAD(14) LOAD(15)
		LOAD(16) LOAD(17) LOAD(18) LOAD(19) LOAD(20) LOAD(21) LOAD(22) LOAD(23)
		LOAD(24) LOAD(25) LOAD(26) LOAD(27) LOAD(28) LOAD(29) LOAD(30) LOAD(31)
#define LOADK(n) "kmovq 2048+" #n "*8(%0), %%k" #n "\n"
		LOADK(1) LOADK(2) LOADK(3) LOADK(4) LOADK(5) LOADK(6) LOADK(7)
		"1: cmpl $0, (%2)\n je 1b\n"
#define STORE(n) "vmovdqu64 %%zmm" #n ", " #n "*64(%1)\n"
		STORE(0) STORE(1) STORE(2) STORE(3) STORE(4) STORE(5) STORE(6) STORE(7)
		STORE(8) STORE(9) STORE(10) STORE(11) STORE(12) STORE(13) STORE(14) STORE(15)
		STORE(16) STORE(17) STORE(18) STORE(19) STORE(20) STORE(21) STORE(22) STORE(23)
		STORE(24) STORE(25) STORE(26) STORE(27) STORE(28) STORE(29) STORE(30) STORE(31)
#define STOREK(n) "kmovq %%k" #n ", 2048+" #n "*8(%1)\n"
		STOREK(1) STOREK(2) STOREK(3) STOREK(4) STOREK(5) STOREK(6) STOREK(7)
		:: "r"(&before), "r"(&after), "r"(&stop)
		: "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
		  "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16",
		  "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",
		  "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5",
		  "k6", "k7");
	return NULL;
}

__attribute__((target("avx"))) static void *avx(void *unused)
{
	(void)unused;
	for (int i = 0; i < 16; i++)
		for (int j = 0; j < 4; j++)
			before.zmm[i][j] = mix(i * 8 + j);
	asm volatile(
#define LOADY(n) "vmovdqu " #n "*64(%0), %%ymm" #n "\n"
		LOADY(0) LOADY(1) LOADY(2) LOADY(3) LOADY(4) LOADY(5) LOADY(6) LOADY(7)
		LOADY(8) LOADY(9) LOADY(10) LOADY(11) LOADY(12) LOADY(13) LOADY(14) LOADY(15)
		"1: cmpl $0, (%2)\n je 1b\n"
#define STOREY(n) "vmovdqu %%ymm" #n ", " #n "*64(%1)\n"
		STOREY(0) STOREY(1) STOREY(2) STOREY(3) STOREY(4) STOREY(5) STOREY(6) STOREY(7)
		STOREY(8) STOREY(9) STOREY(10) STOREY(11) STOREY(12) STOREY(13) STOREY(14) STOREY(15)
		:: "r"(&before), "r"(&after), "r"(&stop)
		: "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
		  "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	return NULL;
}

/* General registers: all but rsp hold a known value while the loop runs. */
static void *general(void *unused)
{
	(void)unused;
	static uint64_t out[16];
	static volatile int *flag = &stop;
	(void)flag;
	asm volatile(
		"push %%rbp\n push %%rbx\n"
		"mov $0x1111111111111111, %%rax\n mov $0x2222222222222222, %%rbx\n"
		"mov $0x3333333333333333, %%rcx\n mov $0x4444444444444444, %%rdx\n"
		"mov $0x5555555555555555, %%rsi\n mov $0x6666666666666666, %%rdi\n"
		"mov $0x7777777777777777, %%rbp\n mov $0x8888888888888888, %%r8\n"
		"mov $0x9999999999999999, %%r9\n mov $0xaaaaaaaaaaaaaaaa, %%r10\n"
		"mov $0xbbbbbbbbbbbbbbbb, %%r11\n mov $0xcccccccccccccccc, %%r12\n"
		"mov $0xdddddddddddddddd, %%r13\n mov $0xeeeeeeeeeeeeeeee, %%r14\n"
		"mov $0xf0f0f0f0f0f0f0f0, %%r15\n"
		"std\n"
		"1: cmpl $0, %1\n je 1b\n"
		"mov %%rax, 0+%0\n mov %%rbx, 8+%0\n mov %%rcx, 16+%0\n mov %%rdx, 24+%0\n"
		"mov %%rsi, 32+%0\n mov %%rdi, 40+%0\n mov %%rbp, 48+%0\n mov %%r8, 56+%0\n"
		"mov %%r9, 64+%0\n mov %%r10, 72+%0\n mov %%r11, 80+%0\n mov %%r12, 88+%0\n"
		"mov %%r13, 96+%0\n mov %%r14, 104+%0\n mov %%r15, 112+%0\n"
		"pushf\n pop %%rax\n mov %%rax, 120+%0\n"
		"cld\n pop %%rbx\n pop %%rbp\n"
		: "=m"(out) : "m"(stop)
		: "memory", "cc", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
		  "r13", "r14", "r15");
	for (int i = 0; i < 14; i++)
		SAME(out[i], 0x1111111111111111ull * (i + 1));
	SAME(out[14], 0xf0f0f0f0f0f0f0f0ull);
	CHECK(out[15] & 0x400, "the direction flag is clear, was set");
	return NULL;
}

/* x87 stack, control words and the sticky flags of SSE. */
static void *floating(void *unused)
{
	(void)unused;
	static long double values[4];
	unsigned short control = 0x0f7f, control_now = 0, status = 0;
	unsigned mxcsr = 0x7fa4, mxcsr_now = 0;
	asm volatile(
		"fninit\n fldcw %3\n fld1\n fldpi\n fldl2e\n fldlg2\n ldmxcsr %5\n"
		"1: cmpl $0, %6\n je 1b\n"
		"stmxcsr %4\n fnstsw %2\n fnstcw %1\n"
		"fstpt 0+%0\n fstpt 16+%0\n fstpt 32+%0\n fstpt 48+%0\n"
		: "=m"(values), "=m"(control_now), "=m"(status), "+m"(control), "=m"(mxcsr_now)
		: "m"(mxcsr), "m"(stop) : "memory", "cc");
	unsigned usual = 0x1f80;
	asm volatile("ldmxcsr %0\n fninit" : : "m"(usual));
	SAME(control_now, control);
	SAME(mxcsr_now, mxcsr);
	SAME((status >> 11) & 7, 4);
	CHECK(values[1] > 1.4426L && values[1] < 1.4427L, "log2(e) changed");
	CHECK(values[0] > 0.3010L && values[0] < 0.3011L,
	      "log10(2) changed");
	CHECK(values[3] == 1.0L, "the bottom of the x87 stack changed");
	CHECK(values[2] > 3.14159L && values[2] < 3.1416L, "pi changed");
	return NULL;
}

int main(void)
{
	static void *(*const kinds[])(void *) = { general, floating };
	int has512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
	int has_avx = __builtin_cpu_supports("avx");
	pthread_t threads[3];
	int n = 0;
	for (int i = 0; i < 2; i++)
		MUST(pthread_create(&threads[n++], NULL, kinds[i], NULL));
	if (has512 || has_avx)
		MUST(pthread_create(&threads[n++], NULL, has512 ? avx512 : avx, NULL));
	ready();
	await_verify();
	stop = 1;
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	if (has512)
		CHECK(!memcmp(&before, &after, sizeof before), "an AVX-512 register changed");
	else if (has_avx)
		for (int i = 0; i < 16; i++)
			CHECK(!memcmp(before.zmm[i], after.zmm[i], 32), "ymm%d changed", i);
	ok();
}
