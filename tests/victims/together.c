//#Modes: root user leave left
// Processes that never rest and of which each one's memory says something about another's: whoever ran on
// while another was being read would be found out. In pairs over shared memory, pipes and signals, and a
// counter that all of them have.
#include "victim.h"
#include <sys/wait.h>

enum { PAIRS = 6 };

/* Of two processes, one goes ahead by one, and the other follows. */
struct pair {
	volatile uint64_t ahead, behind;
};

static struct board {
	struct pair pairs[PAIRS];
	volatile uint64_t total, over, wrong;
} *board;

static void fails(int line) { __sync_bool_compare_and_swap(&board->wrong, 0, line); }

/* What each has counted for itself, in memory that is its own alone. */
static void __attribute__((noreturn)) leads(struct pair *p, int to, int from)
{
	uint64_t mine = 0, word;
	while (!board->over) {
		mine++;
		p->ahead = mine;
		if (to >= 0) {
			if (write(to, &mine, 8) != 8 || read(from, &word, 8) != 8 || word != mine)
				fails(__LINE__);
		} else
			while (p->behind != mine && !board->over)
				if (p->behind > mine || p->behind + 1 < mine)
					fails(__LINE__);
		if (p->ahead != mine)
			fails(__LINE__);
		__sync_fetch_and_add(&board->total, 1);
	}
	_exit(mine == p->ahead ? 0 : 1);
}

static void __attribute__((noreturn)) follows(struct pair *p, int to, int from)
{
	uint64_t mine = 0, word;
	for (;;) {
		if (from >= 0) {
			ssize_t n = read(from, &word, 8);
			if (n == 0)
				break;
			if (n != 8 || word != mine + 1)
				fails(__LINE__);
		} else {
			while (p->ahead == mine && !board->over)
				;
			if (p->ahead == mine)
				break;
			if (p->ahead != mine + 1)
				fails(__LINE__);
		}
		mine++;
		p->behind = mine;
		if (to >= 0 && write(to, &mine, 8) != 8)
			fails(__LINE__);
	}
	_exit(mine == p->behind ? 0 : 1);
}

int main(void)
{
	board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t children[2 * PAIRS];
	for (int i = 0; i < PAIRS; i++) {
		/* Half of them talk by pipes, one pair alone by memory, as that takes a processor each. */
		int there[2] = { -1, -1 }, back[2] = { -1, -1 };
		if (i > 0) {
			MUST(pipe(there));
			MUST(pipe(back));
		}
		if (!(children[2 * i] = MUST(fork()))) {
			close(there[0]);
			close(back[1]);
			leads(&board->pairs[i], there[1], back[0]);
		}
		if (!(children[2 * i + 1] = MUST(fork()))) {
			close(there[1]);
			close(back[0]);
			follows(&board->pairs[i], back[1], there[0]);
		}
		for (int k = 0; k < 2 && i > 0; k++) {
			close(there[k]);
			close(back[k]);
		}
	}
	ready();
	await_verify();
	uint64_t before = board->total;
	for (int n = 0; board->total < before + 1000; n++) {
		CHECK(n < 20000 && !board->wrong, "%llu steps, wrong in line %llu",
		      (unsigned long long)(board->total - before), (unsigned long long)board->wrong);
		usleep(1000);
	}
	board->over = 1;
	for (int i = 0; i < 2 * PAIRS; i++) {
		int status;
		SAME(waitpid(children[i], &status, 0), children[i]);
		SAME(status, 0);
	}
	CHECK(!board->wrong, "wrong in line %llu", (unsigned long long)board->wrong);
	ok();
}
