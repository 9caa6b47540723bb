//#Modes: none
// Shared memory of hugetlb pages, of parent and child: anonymous, as a file with seals that is mapped at
// two places, and, for root, a segment of System V and a file whose path is the argument.
#include "victim.h"
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/wait.h>

#define HUGE (2ul << 20)
#ifndef SHM_HUGETLB
#define SHM_HUGETLB 04000
#endif

static struct {
	char text[64];
	volatile int asked, answered, line;
} *board;

static void is(const char *at, const char *wanted)
{
	CHECK(!strcmp(at, wanted), "it reads '%.20s', not '%s'", at, wanted);
}

static void *map(int fd, size_t size)
{
	int flags = MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS | MAP_HUGETLB : 0);
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
	CHECK(at != MAP_FAILED, "mmap: %s", strerror(errno));
	return at;
}

static void of_huge_pages(const void *at)
{
	char flags[200] = "";
	CHECK(vm_flags(at, flags, sizeof flags), "no such mapping");
	CHECK(strstr(flags, " ht"), "ordinary pages: %s", flags);
}

int main(int argc, char **argv)
{
	int fd, file, status;
	char *memory, *again, *segment = NULL, *named = NULL;
	board = map(-1, 3 * HUGE);
	strcpy(board->text, "by the parent");
	fd = MUST(memfd_create("huge", MFD_HUGETLB | MFD_ALLOW_SEALING));
	MUST(ftruncate(fd, 3 * HUGE));
	memory = map(fd, 3 * HUGE);
	again = map(fd, 2 * HUGE);
	strcpy(memory + HUGE - 100, "end of the first");
	strcpy(memory + 2 * HUGE + 5000, "in the third");
	MUST(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK));
	if (argc > 1) {
		int id = MUST(shmget(IPC_PRIVATE, HUGE - 5, SHM_HUGETLB | IPC_CREAT | 0600));
		segment = shmat(id, NULL, 0);
		CHECK(segment != (void *)-1, "shmat: %s", strerror(errno));
		MUST(shmctl(id, IPC_RMID, NULL));
		strcpy(segment + HUGE - 50, "in the segment");
		file = MUST(open(argv[1], O_RDWR | O_CREAT, 0600));
		MUST(ftruncate(file, HUGE));
		named = map(file, HUGE);
		MUST(close(file));
		strcpy(named + 77, "in the file");
	}
	pid_t child = MUST(fork());
	if (!child) {
		strcpy((char *)board + HUGE, "by the child");
		board->answered = 1;
		while (board->asked != 1)
			usleep(1000);
		strcpy((char *)board + HUGE, "once more");
		strcpy(again, "by the other view");
		if (segment)
			strcpy(segment, "by the child");
		if (named)
			strcpy(named, "by the child");
		board->answered = 2;
		while (board->asked != 2)
			usleep(1000);
		_exit(3);
	}
	while (board->answered != 1)
		usleep(1000);
	ready();
	await_verify();
	of_huge_pages(board);
	of_huge_pages(memory);
	of_huge_pages(again);
	is(board->text, "by the parent");
	is((char *)board + HUGE, "by the child");
	is(memory + HUGE - 100, "end of the first");
	is(again + HUGE - 100, "end of the first");
	is(memory + 2 * HUGE + 5000, "in the third");
	for (size_t i = 0; i < HUGE; i++)
		SAME(memory[HUGE + i] | ((char *)board)[2 * HUGE + i], 0);
	if (segment) {
		of_huge_pages(segment);
		is(segment + HUGE - 50, "in the segment");
		of_huge_pages(named);
		is(named + 77, "in the file");
	}
	board->asked = 1;
	for (int n = 0; board->answered != 2; n++) {
		CHECK(n < 10000, "the child does not answer");
		usleep(1000);
	}
	is((char *)board + HUGE, "once more");
	is(memory, "by the other view");
	if (segment) {
		is(segment, "by the child");
		is(named, "by the child");
	}
	struct stat st;
	MUST(fstat(fd, &st));
	SAME(st.st_size, 3 * HUGE);
	SAME(st.st_blksize, HUGE);
	SAME(MUST(fcntl(fd, F_GET_SEALS)), F_SEAL_GROW | F_SEAL_SHRINK);
	board->asked = 2;
	SAME(waitpid(child, &status, 0), child);
	SAME(WEXITSTATUS(status), 3);
	ok();
}
