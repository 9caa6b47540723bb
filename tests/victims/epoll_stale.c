//#Stdio: pty
// An epoll set knows what it watches by numbers at which nothing is open any more, and which a resume
// would choose for what it holds meanwhile: shared memory, pairs of terminals, sockets, messages, the
// terminal whose modes it sets at the end.
#include "victim.h"
#include <pty.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <termios.h>

#define MANY 200

int main(void)
{
	int pipes[2], pair[2], master, slave;
	static struct termios modes, now;
	MUST(tcgetattr(0, &modes));
	modes.c_lflag &= ~(ECHO | ECHOE);
	modes.c_cc[VKILL] = 5;
	MUST(tcsetattr(0, TCSANOW, &modes));
	int set = MUST(epoll_create1(0));
	MUST(pipe(pipes));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	MUST(openpty(&master, &slave, NULL, NULL, NULL));
	int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	*shared = 7;
	MUST(send(pair[0], "waits", 5, 0));
	for (int i = 1; i <= MANY; i++) {
		struct epoll_event wanted = { .events = EPOLLIN, .data.u32 = i };
		int number = MUST(dup2(pipes[0], slave + i));
		MUST(epoll_ctl(set, EPOLL_CTL_ADD, number, &wanted));
		MUST(close(number));
	}
	ready();
	await_verify();

	struct epoll_event events[MANY + 1];
	char text[8];
	SAME(epoll_wait(set, events, MANY + 1, 0), 0);
	MUST(write(pipes[1], "x", 1));
	SAME(epoll_wait(set, events, MANY + 1, 0), MANY);
	SAME(*shared, 7);
	MUST(tcgetattr(0, &now));
	CHECK(!memcmp(&now, &modes, sizeof now), "the modes of the terminal differ");
	SAME(recv(pair[1], text, sizeof text, MSG_DONTWAIT), 5);
	MUST(write(master, "line\n", 5));
	SAME(read(slave, text, sizeof text), 5);
	ok();
}
