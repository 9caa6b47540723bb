//#Modes: root user leave
//#Dumps: 5
// Processes that are born and end all the time, also while the tree is stopped: each parent must find
// every child of its own again, and collect it with the status that it ended by.
#include "victim.h"
#include <sys/wait.h>

#define BREEDERS 4
#define AT_ONCE 3

static volatile struct {
	unsigned over;
	unsigned rounds[BREEDERS];
} *board;

/* Lives for a moment; every other one has a child of its own meanwhile. */
static void live(uint64_t seed)
{
	int status;
	pid_t child = seed & 1 ? fork() : 0;
	if (child == -1)
		_exit(50);
	if (seed & 1 && !child)
		_exit(9);
	usleep(seed / 2 % 400);
	if (child && (waitpid(child, &status, 0) != child || status != 9 << 8))
		_exit(51);
	_exit(seed % 50);
}

static void breed(int which)
{
	uint64_t seed = which;
	while (!board->over) {
		pid_t born[AT_ONCE];
		uint64_t seeds[AT_ONCE];
		int status;
		for (int i = 0; i < AT_ONCE; i++) {
			seeds[i] = seed = mix(seed);
			born[i] = fork();
			if (born[i] == -1)
				_exit(60);
			if (!born[i])
				live(seed);
		}
		for (int i = 0; i < AT_ONCE; i++) {
			if (waitpid(born[i], &status, 0) != born[i])
				_exit(61);
			if (!WIFEXITED(status) || WEXITSTATUS(status) != (int)(seeds[i] % 50))
				_exit(62);
		}
		board->rounds[which]++;
	}
	_exit(waitpid(-1, NULL, WNOHANG) == -1 ? 0 : 63);
}

/* Not collected by that. */
static int ended(pid_t pid)
{
	siginfo_t info = { 0 };
	MUST(waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT));
	return info.si_pid == pid;
}

int main(void)
{
	pid_t breeders[BREEDERS];
	board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < BREEDERS; i++) {
		breeders[i] = MUST(fork());
		if (!breeders[i])
			breed(i);
	}
	for (int i = 0; i < BREEDERS; i++)
		while (board->rounds[i] < 3)
			usleep(1000);
	ready();
	await_verify();
	for (int i = 0; i < BREEDERS; i++) {
		unsigned before = board->rounds[i];
		while (board->rounds[i] < before + 3 && !ended(breeders[i]))
			usleep(1000);
	}
	board->over = 1;
	for (int i = 0; i < BREEDERS; i++) {
		int status;
		SAME(waitpid(breeders[i], &status, 0), breeders[i]);
		CHECK(status == 0, "breeder %d ended by %#x", i, status);
	}
	SAME(waitpid(-1, NULL, WNOHANG), -1);
	ok();
}
