//#Modes: root user leave
// Memory that ten processes share: anonymous, a memfd, a file in /dev/shm, a plain file, a segment.
#include "victim.h"
#include <sys/shm.h>
#include <sys/wait.h>

#define SIZE (4 << 20)
#define OTHERS 9
#define KINDS 5

static uint64_t *at[KINDS];
static volatile int *board;

static void *map(int fd)
{
	int flags = MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0);
	void *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, flags, fd, 0);
	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	return p;
}

static void fill(int kind)
{
	for (size_t i = 0; i < SIZE / 8; i++)
		at[kind][i] = mix(i + kind * SIZE);
}

static int good(int kind)
{
	for (size_t i = 1; i < SIZE / 8; i++)
		if (at[kind][i] != mix(i + kind * SIZE))
			return 0;
	return 1;
}

int main(void)
{
	char path[64];
	board = map(-1);
	at[0] = map(-1);
	int fd = MUST(memfd_create("ten", 0));
	MUST(ftruncate(fd, SIZE));
	at[1] = map(fd);
	snprintf(path, sizeof path, "/dev/shm/victim-ten-%d", getpid());
	int shm = MUST(open(path, O_RDWR | O_CREAT | O_EXCL, 0600));
	MUST(ftruncate(shm, SIZE));
	at[2] = map(shm);
	int file = MUST(open("ten.bin", O_RDWR | O_CREAT | O_TRUNC, 0600));
	MUST(ftruncate(file, SIZE));
	at[3] = map(file);
	int id = MUST(shmget(IPC_PRIVATE, SIZE, 0600));
	at[4] = shmat(id, NULL, 0);
	CHECK(at[4] != (void *)-1, "shmat: %s", strerror(errno));
	MUST(shmctl(id, IPC_RMID, NULL));
	for (int kind = 0; kind < KINDS; kind++)
		fill(kind);
	pid_t all[OTHERS];
	for (int i = 0; i < OTHERS; i++) {
		all[i] = MUST(fork());
		if (all[i])
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (int kind = 0; kind < KINDS; kind++)
			good(kind);
		__sync_fetch_and_add(board, 1);
		while (board[1] != i + 1)
			usleep(1000);
		int fine = 1;
		for (int kind = 0; kind < KINDS; kind++)
			fine &= good(kind) && at[kind][0] == (uint64_t)i;
		for (int kind = 0; kind < KINDS; kind++)
			at[kind][0] = i + 1;
		_exit(fine ? 5 : 1);
	}
	while (*board < OTHERS)
		usleep(1000);
	ready();
	await_verify();
	for (int kind = 0; kind < KINDS; kind++) {
		CHECK(good(kind), "memory of kind %d differs", kind);
		at[kind][0] = 0;
	}
	for (int i = 0; i < OTHERS; i++) {
		board[1] = i + 1;
		int status;
		SAME(waitpid(all[i], &status, 0), all[i]);
		SAME(WEXITSTATUS(status), 5);
		for (int kind = 0; kind < KINDS; kind++)
			SAME(at[kind][0], i + 1);
	}
	MUST(unlink(path));
	ok();
}
