//#Modes: root user newpid leave left empty
// A zoo of mappings: kinds, protections, advice, holes, growing down, each as it was.
#include "victim.h"

struct zoo {
	const char *what;
	char *at;
	size_t size;
	char flags[200];
};

static struct zoo all[64];
static int count;

static char *put(const char *what, size_t size, int prot, int kind)
{
	char *p = mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | kind, -1, 0);
	if (p == MAP_FAILED)
		FAIL("mmap for %s: %s", what, strerror(errno));
	all[count].what = what;
	all[count].at = p;
	all[count++].size = size;
	return p;
}

/*
 * A mapping that grows down needs room to grow, and what lies in its way must not be accessible for
 * stack_guard_gap (256 pages) further down (mm/mmap.c, expand_downwards). So the room is as large as
 * that gap, into which the kernel places nothing by itself (vm_start_gap), and what is below cannot be
 * accessed.
 */
static char *put_growing(size_t size)
{
	enum { GAP = 256 * 4096 };
	char *below = mmap(NULL, 2 * GAP + size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (below == MAP_FAILED)
		FAIL("mmap of room to grow: %s", strerror(errno));
	char *p = below + 2 * GAP;
	MUST(munmap(below + GAP, GAP + size));
	int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE;
	if (mmap(p, size, PROT_READ | PROT_WRITE, kind, -1, 0) != p)
		FAIL("mmap of what grows down: %s", strerror(errno));
	all[count].what = "growing down";
	all[count].at = p;
	all[count++].size = size;
	return p;
}

/* Whether an address can be read, asked of the kernel. */
static int readable(const void *p)
{
	int ends[2];
	MUST(pipe(ends));
	int good = write(ends[1], p, 1) == 1;
	close(ends[0]);
	close(ends[1]);
	return good;
}

int main(void)
{
	enum { SIZE = 1 << 20, PAGE = 4096 };
	char *down = put_growing(16 * PAGE);
	memset(down, 7, 16 * PAGE);
	put("no access", SIZE, PROT_NONE, 0);
	char *guarded = put("guarded", 8 * PAGE, PROT_READ | PROT_WRITE, 0);
	memset(guarded, 9, 8 * PAGE);
	MUST(mprotect(guarded, PAGE, PROT_NONE));
	char *huge = put("huge pages wanted", 4 << 20, PROT_READ | PROT_WRITE, 0);
	MUST(madvise(huge, 4 << 20, MADV_HUGEPAGE));
	memset(huge, 3, 4 << 20);
	char *small = put("huge pages unwanted", 2 << 20, PROT_READ | PROT_WRITE, 0);
	MUST(madvise(small, 2 << 20, MADV_NOHUGEPAGE));
	char *fork = put("not for children", SIZE, PROT_READ | PROT_WRITE, 0);
	MUST(madvise(fork, SIZE, MADV_DONTFORK));
	memset(fork, 4, SIZE);
	char *wipe = put("wiped on fork", SIZE, PROT_READ | PROT_WRITE, 0);
	MUST(madvise(wipe, SIZE, MADV_WIPEONFORK));
	memset(wipe, 5, SIZE);
	char *nodump = put("not in cores", SIZE, PROT_READ | PROT_WRITE, 0);
	MUST(madvise(nodump, SIZE, MADV_DONTDUMP));
	char *locked = put("locked", 4 * PAGE, PROT_READ | PROT_WRITE, 0);
	MUST(mlock(locked, 4 * PAGE));
	char *onfault = put("locked when touched", 64 * PAGE, PROT_READ | PROT_WRITE, 0);
	MUST(syscall(SYS_mlock2, onfault, 64 * PAGE, 1));
	char *reserve = put("not reserved", 1ul << 30, PROT_READ | PROT_WRITE, MAP_NORESERVE);
	reserve[500 << 20] = 1;
	char *readonly = put("read only", SIZE, PROT_READ | PROT_WRITE, 0);
	for (int i = 0; i < SIZE / 8; i++)
		((uint64_t *)readonly)[i] = mix(i);
	MUST(mprotect(readonly, SIZE, PROT_READ));
	char *code = put("code", PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, 0);
	memcpy(code, "\xb8\x2a\0\0\0\xc3", 6);
	MUST(mprotect(code, PAGE, PROT_READ | PROT_EXEC));
	char *sequential = put("sequential", SIZE, PROT_READ | PROT_WRITE, 0);
	MUST(madvise(sequential, SIZE, MADV_SEQUENTIAL));
	char *secret = put("written, then closed", SIZE, PROT_READ | PROT_WRITE, 0);
	for (int i = 0; i < SIZE; i++)
		secret[i] = i * 7;
	MUST(mprotect(secret, SIZE, PROT_NONE));
	char *holes = put("holes", SIZE, PROT_READ | PROT_WRITE, 0);
	for (int i = 0; i < SIZE / PAGE; i += 3)
		memset(holes + i * PAGE, i + 1, PAGE);
	for (int i = 0; i < count; i++)
		CHECK(vm_flags(all[i].at, all[i].flags, sizeof all[i].flags), "no flags for %s", all[i].what);
	ready();
	await_verify();
	/* There is no /proc in an empty root directory. */
	for (int i = 0; i < count && !access("/proc/self/smaps", R_OK); i++) {
		char now[200];
		CHECK(vm_flags(all[i].at, now, sizeof now), "%s is gone", all[i].what);
		CHECK(!strcmp(now, all[i].flags), "%s: flags are '%s', were '%s'", all[i].what, now, all[i].flags);
	}
	for (int i = 0; i < 16 * PAGE; i++)
		SAME(down[i], 7);
	down[-10 * PAGE] = 1;
	down[-200 * PAGE] = 1;
	CHECK(!readable(guarded), "the guard page can be read");
	for (int i = PAGE; i < 8 * PAGE; i++)
		SAME(guarded[i], 9);
	for (int i = 0; i < 4 << 20; i++)
		SAME(huge[i], 3);
	for (int i = 0; i < SIZE; i++)
		CHECK(fork[i] == 4 && wipe[i] == 5, "content at %d changed", i);
	SAME(reserve[500 << 20], 1);
	SAME(reserve[400 << 20], 0);
	for (int i = 0; i < SIZE / 8; i++)
		SAME(((uint64_t *)readonly)[i], mix(i));
	SAME(((int (*)(void))code)(), 42);
	MUST(mprotect(secret, SIZE, PROT_READ));
	for (int i = 0; i < SIZE; i++)
		SAME((unsigned char)secret[i], (unsigned char)(i * 7));
	for (int i = 0; i < SIZE / PAGE; i++)
		SAME((unsigned char)holes[i * PAGE], i % 3 ? 0 : (unsigned char)(i + 1));
	/* Anonymous memory is anonymous: thrown away it is zero, not what it was. */
	MUST(madvise(holes, SIZE, MADV_DONTNEED));
	for (int i = 0; i < SIZE; i++)
		SAME(holes[i], 0);
	MUST(madvise(nodump, SIZE, MADV_FREE));
	ok();
}
