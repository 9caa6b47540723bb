//#Modes: root user leave
// A tree: children and grandchildren with their pids, groups and sessions, a zombie, a stopped child,
// a pipe between siblings, one offset shared by two, memory shared by all, a group without its leader.
#include "victim.h"
#include <sys/wait.h>

struct board {
	pid_t root, worker, writer, reader, grand, leader, stopped, zombie, lost, member;
	volatile unsigned asked, answered, failed;
};

static struct board *board;
static int channel[2], file;

static void answer(int good, int line)
{
	if (!good) {
		__sync_bool_compare_and_swap(&board->failed, 0, line);
	}
	__sync_fetch_and_add(&board->answered, 1);
}
#define TEST(condition) answer(!!(condition), __LINE__)

/* Waits until the test asks to verify. */
static void wait_for_question(void)
{
	while (!board->asked)
		usleep(1000);
}

static void worker(void)
{
	wait_for_question();
	TEST(getppid() == board->root && getpid() == board->worker);
	TEST(getpgrp() == board->root || getpgrp() == getpgid(board->root));
	/* One offset for all. */
	TEST(lseek(file, 0, SEEK_CUR) == 5);
	exit(3);
}

static void writer(void)
{
	close(channel[0]);
	wait_for_question();
	TEST(write(channel[1], "through the pipe", 16) == 16);
	for (;;)
		pause();
}

static void reader(void)
{
	close(channel[1]);
	board->grand = 0;
	pid_t grand = fork();
	if (!grand) {
		setpgid(0, 0);
		wait_for_question();
		TEST(getppid() == board->reader && getpgrp() == getpid());
		TEST(getsid(0) == getsid(board->root));
		_exit(9);
	}
	board->grand = grand;
	wait_for_question();
	char text[64] = "";
	size_t n = 0;
	while (n < 22) {
		ssize_t got = read(channel[0], text + n, sizeof text - n);
		if (got <= 0)
			break;
		n += got;
	}
	TEST(!strcmp(text, "before" "through the pipe"));
	int status;
	TEST(waitpid(grand, &status, 0) == grand && WEXITSTATUS(status) == 9);
	for (;;)
		pause();
}

static void leader(void)
{
	setsid();
	board->leader = getpid();
	wait_for_question();
	TEST(getsid(0) == getpid() && getpgrp() == getpid());
	exit(0);
}

static pid_t start(void (*what)(void))
{
	pid_t pid = MUST(fork());
	if (!pid) {
		what();
		_exit(0);
	}
	return pid;
}

static void stopped(void)
{
	board->stopped = getpid();
	raise(SIGSTOP);
	TEST(board->asked == 2);
	exit(4);
}

/* A group whose leader has ended and was collected, with a member that lives on. */
static void member(void)
{
	wait_for_question();
	TEST(getpgrp() == board->lost);
	exit(0);
}

static void expect(pid_t pid, int code)
{
	int status = 0;
	pid_t got = waitpid(pid, &status, 0);
	CHECK(got == pid && WIFEXITED(status) && WEXITSTATUS(status) == code, "process %d: got %d (%s), status %x",
	      pid, got, got < 0 ? strerror(errno) : "", status);
}

int main(void)
{
	board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	board->root = getpid();
	MUST(pipe(channel));
	file = MUST(open("shared.txt", O_RDWR | O_CREAT | O_TRUNC, 0600));
	MUST(write(file, "0123456789", 10));
	MUST(write(channel[1], "before", 6));
	board->worker = start(worker);
	board->writer = start(writer);
	board->reader = start(reader);
	start(leader);
	start(stopped);
	pid_t lost = MUST(fork());
	if (!lost) {
		pause();
		_exit(0);
	}
	board->lost = lost;
	MUST(setpgid(board->lost, board->lost));
	pid_t joined = MUST(fork());
	if (!joined) {
		while (getpgrp() != board->lost)
			usleep(100);
		member();
	}
	board->member = joined;
	MUST(setpgid(board->member, board->lost));
	MUST(kill(board->lost, SIGKILL));
	MUST(waitpid(board->lost, NULL, 0));
	pid_t zombie = MUST(fork());
	if (!zombie)
		_exit(77);
	board->zombie = zombie;
	siginfo_t info;
	MUST(waitid(P_PID, board->zombie, &info, WEXITED | WNOWAIT));
	while (!board->leader || !board->stopped || !board->grand)
		usleep(100);
	MUST(waitid(P_PID, board->stopped, &info, WSTOPPED | WNOWAIT));
	MUST(lseek(file, 5, SEEK_SET));
	ready();
	await_verify();
	SAME(getpid(), board->root);
	int status;
	SAME(waitpid(board->zombie, &status, WNOHANG), board->zombie);
	SAME(WEXITSTATUS(status), 77);
	board->asked = 1;
	for (int i = 0; board->answered < 10 && i < 20000 && !board->failed; i++)
		usleep(1000);
	CHECK(!board->failed, "a child says no in line %d", board->failed);
	CHECK(board->answered >= 10, "only %u answers", board->answered);
	expect(board->worker, 3);
	expect(board->leader, 0);
	expect(board->member, 0);
	board->asked = 2;
	MUST(kill(board->stopped, SIGCONT));
	expect(board->stopped, 4);
	for (int i = 0; i < 2; i++) {
		pid_t pid = i ? board->writer : board->reader;
		MUST(kill(pid, SIGTERM));
		SAME(waitpid(pid, &status, 0), pid);
		SAME(WTERMSIG(status), SIGTERM);
	}
	CHECK(!board->failed, "a child says no in line %d", board->failed);
	SAME(waitpid(-1, NULL, WNOHANG), -1);
	SAME(errno, ECHILD);
	ok();
}
