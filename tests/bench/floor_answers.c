/*
 * What the kernel takes for the answers that no dumper of a tree can do without, each asked once, in
 * the leanest way known to one thread. Nothing is parsed, composed or hashed: a dump that asks the
 * same cannot be faster.
 *
 * Everybody stands before anybody is asked: parents are stopped before their children are counted.
 * Pages that are no file's are copied to the file that is named.
 *
 * Left out is what a dumper does besides for good reasons: the look before the stop that finds what
 * stands in the way, the search for code to stand on, the second look at who belongs to the tree,
 * the look for others who hold the same pipes, the some 30 calls that a trip makes inside a process,
 * the order of all descriptions (a sort takes several kcmp each), contents of pipes and sockets, the
 * text of programs, and all work of its own.
 *
 * Prints "stood" with the processor's counter when everybody stood, "total" with the nanoseconds
 * from the start of main to the end, those of each share, and the pages that were stored.
 *
 * usage: floor_answers <pid> <file>
 */
#include "floor_calls.h"
#include "floor_descriptors.h"
#include <elf.h>
#include <linux/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const char *const shares[SHARES] = {
	"stop", "ptrace", "trip", "proc", "smaps", "descriptors", "links", "memory", "release",
};

/* A signal that is ignored by default; a thread under ptrace reports it all the same. */
enum { QUIET = SIGURG };

/* `syscall` in the vdso, which forks have at the same address. */
static uint64_t gate;

/* Looks for a while before it sleeps, as what is waited for takes microseconds. */
static int await(pid_t pid)
{
	int status;
	pid_t found;

	for (int i = 0; i < 1000; i++) {
		found = ask("wait4", SYS_wait4, pid, &status, __WALL | WNOHANG, 0);
		if (found)
			return status;
	}
	ask("wait4", SYS_wait4, pid, &status, __WALL, 0);
	return status;
}

static void add(pid_t pid, const struct process *parent)
{
	struct process *process = &all[count++];
	char path[32];

	demand(count < MOST, "more processes than expected");
	snprintf(path, sizeof path, "/proc/%d", pid);
	process->pid = pid;
	process->parent = parent;
	process->dir = ask(path, SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	trace(PTRACE_SEIZE, pid, 0, 0);
	trace(PTRACE_INTERRUPT, pid, 0, 0);
}

/* Stops everyone, a generation at a time. */
static void stop(pid_t root)
{
	add(root, 0);
	for (int next = 0; next < count;) {
		int end = count;

		for (int i = next; i < end; i++)
			demand(await(all[i].pid) >> 16 == PTRACE_EVENT_STOP, "a stop");
		for (; next < end; next++) {
			struct process *process = &all[next];
			struct stat task;
			char name[40], *at = buffer, *after;

			ask("task", SYS_newfstatat, process->dir, "task", &task, 0);
			demand(task.st_nlink == 3, "a process with one thread");
			snprintf(name, sizeof name, "task/%d/children", process->pid);
			read_record(process->dir, name);
			for (pid_t child; (child = strtol(at, &after, 10)); at = after)
				add(child, process);
		}
	}
	charge(STOP);
}

/* What ptrace(2) and its like tell of a thread that stands. */
static void ask_thread(struct process *process)
{
	struct { uint64_t offset; uint32_t flags; int32_t count; } peek = { 0, 0, 16 };
	struct { uint64_t address; uint32_t size, signature, flags, pad; } rseq;
	struct iovec area = { buffer, 16 << 10 };
	pid_t pid = process->pid;
	uint64_t robust[2];

	trace(PTRACE_GETREGS, pid, 0, &process->regs);
	trace(PTRACE_GETSIGMASK, pid, sizeof process->mask, &process->mask);
	trace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &area);
	trace(PTRACE_PEEKSIGINFO, pid, (uint64_t)&peek, buffer);
	peek.flags = PTRACE_PEEKSIGINFO_SHARED;
	trace(PTRACE_PEEKSIGINFO, pid, (uint64_t)&peek, buffer);
	trace(PTRACE_GET_RSEQ_CONFIGURATION, pid, sizeof rseq, &rseq);
	ask("get_robust_list", SYS_get_robust_list, pid, &robust[0], &robust[1]);
	ask("sched_getattr", SYS_sched_getattr, pid, buffer, 56, 0);
	ask("sched_getaffinity", SYS_sched_getaffinity, pid, 1024, buffer);
	ask("ioprio_get", SYS_ioprio_get, 1, pid);
	charge(PTRACE);
}

static uint64_t copy(int call, pid_t pid, void *here, uint64_t there, size_t length)
{
	struct iovec own = { here, length }, its = { (void *)there, length };

	return ask("its memory", call, pid, &own, 1, &its, 1, 0);
}

/* Looks for `syscall` in the vdso: the tail of every clock in there falls back to one. */
static void find_gate(const struct process *process)
{
	size_t length = read_record(process->dir, "auxv");
	uint64_t vdso = 0;
	char *found;

	for (Elf64_auxv_t *entry = (void *)buffer; (char *)(entry + 1) <= buffer + length; entry++)
		if (entry->a_type == AT_SYSINFO_EHDR)
			vdso = entry->a_un.a_val;
	length = copy(SYS_process_vm_readv, process->pid, buffer, vdso, 4096);
	found = memmem(buffer, length, "\x0f\x05", 2);
	demand(found != 0, "a system call in the vdso");
	gate = vdso + (found - buffer);
}

/*
 * Sends a thread into the kernel and has it come back at once: it makes one call, which sends it a
 * signal that nobody blocks. A chain of calls is written to its stack and its results are read for
 * this; here the bytes that are there already are, so that nothing is lost should this program end.
 */
static void set_out(struct process *process)
{
	struct user_regs_struct regs = process->regs;
	uint64_t mask = ~(1ull << (QUIET - 1));

	process->stack = (regs.rsp - 128 - BORROWED) & -64;
	copy(SYS_process_vm_readv, process->pid, process->bytes, process->stack, BORROWED);
	copy(SYS_process_vm_writev, process->pid, process->bytes, process->stack, BORROWED);
	regs.rax = SYS_tkill;
	regs.rdi = process->pid;
	regs.rsi = QUIET;
	/* No call is being left: keeps the kernel from restarting one. */
	regs.orig_rax = -1;
	regs.rip = gate;
	trace(PTRACE_SETREGS, process->pid, 0, &regs);
	trace(PTRACE_SETSIGMASK, process->pid, sizeof mask, &mask);
	trace(PTRACE_CONT, process->pid, 0, 0);
}

static void come_back(struct process *process)
{
	struct user_regs_struct regs;
	int status = await(process->pid);

	demand(WIFSTOPPED(status) && WSTOPSIG(status) == QUIET, "the stop at the end of a trip");
	trace(PTRACE_GETREGS, process->pid, 0, &regs);
	demand(regs.rip == gate + 2 && !regs.rax, "a trip");
	copy(SYS_process_vm_readv, process->pid, buffer, process->stack, BORROWED);
	trace(PTRACE_SETSIGMASK, process->pid, sizeof process->mask, &process->mask);
	trace(PTRACE_SETREGS, process->pid, 0, &process->regs);
	copy(SYS_process_vm_writev, process->pid, process->bytes, process->stack, BORROWED);
}

/* The files in /proc/PID of which each says something that nothing else does. */
static void ask_files(const struct process *process)
{
	static const char *const names[] = {
		"status", "stat", "timers", "limits", "cgroup", "auxv", "oom_score_adj",
		"personality", "coredump_filter",
	};
	static const char *const of_first[] = { "uid_map", "gid_map" };

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		read_record(process->dir, names[i]);
	for (size_t i = 0; process == all && i < sizeof of_first / sizeof *of_first; i++)
		read_record(process->dir, of_first[i]);
	charge(PROC);
}

static void ask_links(const struct process *process)
{
	static const char *const names[] = {
		"ns/cgroup", "ns/ipc", "ns/mnt", "ns/net", "ns/pid", "ns/pid_for_children",
		"ns/time", "ns/time_for_children", "ns/user", "ns/uts", "cwd", "root", "exe",
	};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		read_link(process->dir, names[i]);
	for (int type = SAME_MEMORY; process->parent && type <= SAME_FS; type++)
		compare(process->parent, process, type, 0, 0);
	charge(LINKS);
}

/*
 * The mappings, by the file that alone tells the flags of madvise(2). The kernel gives a page or so at
 * a time, so that only an empty piece says that it was all.
 */
static void ask_smaps(const struct process *process)
{
	int file = ask("smaps", SYS_openat, process->dir, "smaps", O_RDONLY | O_CLOEXEC);

	while (ask("smaps", SYS_read, file, buffer, sizeof buffer))
		;
	ask("close", SYS_close, file);
	charge(SMAPS);
}

/* struct page_region and struct pm_scan_arg of linux/fs.h, since 6.7. */
struct region { uint64_t start, end, categories; };
struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t inverted, mask, any_of, returned;
};
#define SCAN _IOWR('f', 16, struct scan)
enum { IS_FILE = 1 << 2, IS_PRESENT = 1 << 3, IS_SWAPPED = 1 << 4, IS_PFNZERO = 1 << 5 };

/* The pages that are no file's: found, copied, stored. Gives what was stored so far. */
static uint64_t store_pages(const struct process *process, int image, uint64_t at)
{
	static struct region regions[1024];
	static struct iovec pieces[1024];
	struct scan scan = {
		.size = sizeof scan, .end = (1ul << 47) - 4096,
		.vec = (uint64_t)regions, .vec_len = sizeof regions / sizeof *regions,
		.inverted = IS_FILE | IS_PFNZERO, .mask = IS_FILE | IS_PFNZERO,
		.any_of = IS_PRESENT | IS_SWAPPED, .returned = IS_FILE,
	};
	int pagemap = ask("pagemap", SYS_openat, process->dir, "pagemap", O_RDONLY | O_CLOEXEC);
	long found = ioctl(pagemap, SCAN, &scan);
	struct iovec own = { buffer, 0 };
	size_t done;

	if (found < 0 && (errno == ENOTTY || errno == EINVAL)) {
		/* Whoever stands here goes on by our end. */
		printf("missing PAGEMAP_SCAN\n");
		exit(0);
	}
	demand(found >= 0 && found < (long)scan.vec_len, "PAGEMAP_SCAN");
	for (long i = 0; i < found; i++) {
		pieces[i].iov_base = (void *)regions[i].start;
		pieces[i].iov_len = regions[i].end - regions[i].start;
		own.iov_len += pieces[i].iov_len;
	}
	demand(own.iov_len <= sizeof buffer, "less memory");
	done = ask("its pages", SYS_process_vm_readv, process->pid, &own, 1, pieces, found, 0);
	demand(done == own.iov_len, "all pages");
	ask("pwrite", SYS_pwrite64, image, buffer, own.iov_len, at);
	ask("close", SYS_close, pagemap);
	charge(MEMORY);
	return at + own.iov_len;
}

/* Children first, so that nobody waits for one that stands. */
static void release(void)
{
	while (count--) {
		trace(PTRACE_DETACH, all[count].pid, 0, 0);
		ask("close", SYS_close, all[count].dir);
	}
	charge(RELEASE);
}

int main(int argc, char **argv)
{
	static const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
	uint64_t start = last = now(), stored = 0, stood;

	demand(argc == 3, "usage: floor_answers <pid> <file>");
	int image = ask(argv[2], SYS_openat, AT_FDCWD, argv[2], flags, 0600);

	stop(atoi(argv[1]));
	stood = stamp();
	find_gate(all);
	charge(TRIP);
	for (int i = 0; i < count; i++) {
		ask_thread(&all[i]);
		set_out(&all[i]);
		charge(TRIP);
	}
	for (int i = 0; i < count; i++)
		come_back(&all[i]);
	charge(TRIP);
	for (int i = 0; i < count; i++) {
		ask_files(&all[i]);
		ask_links(&all[i]);
		ask_smaps(&all[i]);
		ask_descriptors(&all[i]);
		charge(DESCRIPTORS);
		stored = store_pages(&all[i], image, stored);
	}
	if (sockets)
		ask_diag();
	charge(DESCRIPTORS);
	release();
	ask("close", SYS_close, image);
	start = now() - start;
	printf("stood %llu\ntotal %llu\n", (unsigned long long)stood, (unsigned long long)start);
	for (int i = 0; i < SHARES; i++)
		printf("%s %llu\n", shares[i], (unsigned long long)spent[i]);
	printf("pages %llu\n", (unsigned long long)(stored / 4096));
	return 0;
}
