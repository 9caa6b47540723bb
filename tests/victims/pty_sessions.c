//#Modes: root user leave
// Sessions with terminals of their own, whose masters the parent has: a leader with jobs in the
// foreground and in the background, keys that become signals, a hang-up at the end.
#include "victim.h"
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

struct board {
	pid_t leader, front, back;
	volatile unsigned ready, interrupted, resized, hung_up;
};

static struct board *board;

static void on_signal(int signal)
{
	if (signal == SIGINT)
		board->interrupted = getpid();
	else if (signal == SIGWINCH)
		board->resized = getpid();
	else
		board->hung_up = getpid();
}

static pid_t job(int front)
{
	pid_t pid = MUST(fork());
	if (!pid) {
		setpgid(0, 0);
		signal(SIGINT, on_signal);
		signal(SIGWINCH, on_signal);
		if (front) {
			signal(SIGTTOU, SIG_IGN);
			tcsetpgrp(0, getpid());
			signal(SIGTTOU, SIG_DFL);
		}
		__sync_fetch_and_add(&board->ready, 1);
		for (;;) {
			char line[16];
			/* Only the foreground may read. */
			if (!front)
				pause();
			else if (read(0, line, sizeof line) > 0)
				write(1, tcgetpgrp(0) == getpgrp() ? "front\n" : "wrong\n", 6);
			else
				usleep(1000);
		}
	}
	return pid;
}

static void await(volatile unsigned *word, unsigned value, const char *what)
{
	for (int i = 0; *word != value; i++) {
		CHECK(i < 10000, "no %s: %u, not %u", what, *word, value);
		usleep(1000);
	}
}

int main(void)
{
	board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int master;
	struct termios modes;
	pid_t leader = forkpty(&master, NULL, NULL, NULL);
	if (!leader) {
		board->back = job(0);
		board->front = job(1);
		/* Without descriptors of it, the terminal is still the session's. */
		close(0);
		close(1);
		close(2);
		signal(SIGHUP, on_signal);
		__sync_fetch_and_add(&board->ready, 1);
		for (;;)
			pause();
	}
	MUST(leader);
	board->leader = leader;
	MUST(tcgetattr(master, &modes));
	modes.c_lflag &= ~ECHO;
	modes.c_oflag &= ~ONLCR;
	MUST(tcsetattr(master, TCSANOW, &modes));
	await(&board->ready, 3, "readiness");
	ready();
	await_verify();

	pid_t group = 0, session = 0;
	MUST(ioctl(master, TIOCGPGRP, &group));
	SAME(group, board->front);
	MUST(ioctl(master, TIOCGSID, &session));
	SAME(session, board->leader);
	char text[64] = "";
	SAME(write(master, "?\n", 2), 2);
	struct pollfd asked = { .fd = master, .events = POLLIN };
	SAME(poll(&asked, 1, 5000), 1);
	MUST(read(master, text, sizeof text - 1));
	CHECK(!strcmp(text, "front\n"), "the job says '%s'", text);
	SAME(write(master, "\x03", 1), 1);
	await(&board->interrupted, board->front, "interrupt");
	struct winsize size = { 10, 20, 0, 0 };
	MUST(ioctl(master, TIOCSWINSZ, &size));
	await(&board->resized, board->front, "new size");
	/* Without its terminal's master, the leader hears of it. */
	close(master);
	await(&board->hung_up, board->leader, "hang-up");
	MUST(kill(board->front, SIGKILL));
	MUST(kill(board->back, SIGKILL));
	MUST(kill(board->leader, SIGKILL));
	MUST(waitpid(board->leader, NULL, 0));
	ok();
}
