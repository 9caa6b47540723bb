//#Modes: root user leave left
// System V shared memory: removed while attached, private, with a key; attached twice, read-only,
// in part, with other protections; shared with a child that attached it by itself; modes and ids.
#include "victim.h"
#include <sys/shm.h>
#include <sys/wait.h>

#define KIB 1024

static char *attach(int id, void *at, int flags)
{
	char *p = shmat(id, at, flags);
	CHECK(p != (void *)-1, "shmat %d: %s", id, strerror(errno));
	return p;
}

static void is(const char *at, const char *wanted)
{
	CHECK(!strcmp(at, wanted), "it reads '%.20s', not '%s'", at, wanted);
}

static struct shmid_ds look(int id)
{
	struct shmid_ds ds;
	MUST(shmctl(id, IPC_STAT, &ds));
	return ds;
}

/* The ids may be others; what is mapped tells (the kernel shows the id as inode). */
static int id_at(const void *address)
{
	FILE *f = fopen("/proc/self/maps", "re");
	CHECK(f, "maps");
	char line[600];
	unsigned long from, to, inode;
	int id = -1;
	while (id < 0 && fgets(line, sizeof line, f))
		if (sscanf(line, "%lx-%lx %*s %*s %*s %lu", &from, &to, &inode) == 3 &&
		    (unsigned long)address >= from && (unsigned long)address < to && strstr(line, "/SYSV"))
			id = inode;
	fclose(f);
	return id;
}

/* A child that shares two segments: one by fork, one attached by itself. */
static void child(char *forked, int id)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	char *own = attach(id, NULL, 0);
	strcpy(own + 100, "child is ready");
	while (strcmp(own + 200, "go on"))
		usleep(1000);
	strcpy(own + 300, forked);
	strcpy(forked, "by the child");
	_exit(7);
}

int main(void)
{
	int gone = MUST(shmget(IPC_PRIVATE, 3 << 20, IPC_CREAT | 0640));
	char *one = attach(gone, NULL, 0);
	char *two = attach(gone, NULL, SHM_RDONLY);
	MUST(shmctl(gone, IPC_RMID, NULL));
	strcpy(one, "removed");
	strcpy(one + (2 << 20), "far behind");
	key_t key = 0x5e570000 ^ getpid();
	int named = MUST(shmget(key, 5000, IPC_CREAT | IPC_EXCL | 0600));
	char *whole = attach(named, NULL, 0);
	strcpy(whole, "named");
	strcpy(whole + 6000, "behind the end, in the last page");
	int private = MUST(shmget(IPC_PRIVATE, 64 * KIB, 0600));
	char *parts = attach(private, NULL, 0);
	for (int i = 0; i < 16; i++)
		sprintf(parts + i * 4 * KIB, "page %d", i);
	MUST(munmap(parts, 4 * KIB));
	MUST(munmap(parts + 16 * KIB, 8 * KIB));
	MUST(munmap(parts + 60 * KIB, 4 * KIB));
	MUST(mprotect(parts + 32 * KIB, 4 * KIB, PROT_READ));
	/* Anonymous memory may have the inode that a segment has as its id. */
	char *anonymous[8];
	for (int i = 0; i < 8; i++) {
		anonymous[i] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		sprintf(anonymous[i], "anonymous %d", i);
	}
	strcpy(one + 1000, "for the child");
	pid_t pid = MUST(fork());
	if (!pid)
		child(one + 1000, named);
	while (strcmp(whole + 100, "child is ready"))
		usleep(1000);
	ready();
	await_verify();
	is(one, "removed");
	is(one + (2 << 20), "far behind");
	is(two, "removed");
	strcpy(one + 50, "through one");
	is(two + 50, "through one");
	SAME(mprotect(two, 4096, PROT_READ | PROT_WRITE), -1);
	SAME(errno, EACCES);
	SAME(id_at(one), id_at(two));
	struct shmid_ds ds = look(id_at(one));
	SAME(ds.shm_perm.mode & 0777, 0640);
	CHECK(ds.shm_perm.mode & SHM_DEST, "the mark of removal is gone");
	SAME(ds.shm_segsz, 3 << 20);
	is(whole, "named");
	is(whole + 6000, "behind the end, in the last page");
	SAME(shmget(key, 5000, 0), id_at(whole));
	ds = look(id_at(whole));
	SAME(ds.shm_segsz, 5000);
	SAME(ds.shm_perm.mode, 0600);
	SAME(ds.shm_perm.uid, geteuid());
	SAME(ds.shm_nattch, 3);
	strcpy(whole + 200, "go on");
	int status;
	SAME(waitpid(pid, &status, 0), pid);
	SAME(WEXITSTATUS(status), 7);
	is(whole + 300, "for the child");
	is(one + 1000, "by the child");
	int other = id_at(parts + 4 * KIB);
	for (int i = 0; i < 16; i++) {
		int gap = i == 0 || i == 4 || i == 5 || i == 15;
		char text[16];
		sprintf(text, "page %d", i);
		/* What was unmapped is other memory by now. */
		if (gap)
			CHECK(id_at(parts + i * 4 * KIB) != other, "%s is there again", text);
		else
			is(parts + i * 4 * KIB, text);
	}
	char *again = attach(other, NULL, 0);
	is(again, "page 0");
	is(again + 16 * KIB, "page 4");
	strcpy(parts + 24 * KIB, "new");
	is(again + 24 * KIB, "new");
	char flags[200] = "";
	CHECK(vm_flags(parts + 32 * KIB, flags, sizeof flags), "no such mapping");
	CHECK(!strstr(flags, " wr "), "it can be written: %s", flags);
	SAME(mprotect(parts + 32 * KIB, 4 * KIB, PROT_READ | PROT_WRITE), 0);
	for (int i = 0; i < 8; i++) {
		char text[16];
		sprintf(text, "anonymous %d", i);
		is(anonymous[i], text);
	}
	MUST(shmctl(id_at(whole), IPC_RMID, NULL));
	MUST(shmctl(other, IPC_RMID, NULL));
	MUST(shmdt(one));
	MUST(shmdt(two));
	ok();
}
