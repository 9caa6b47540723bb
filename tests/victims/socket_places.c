//#Modes: root user leave
// Relative names of Unix sockets: each process of a tree has a working directory of its own, and all of
// them bind the same name there.
#include "victim.h"
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define PLACES 3

static const struct sockaddr_un name = { AF_UNIX, "door" };
static int door, client, server, waits;

static int visitor(void)
{
	int s = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	MUST(connect(s, (void *)&name, sizeof name));
	return s;
}

static void make(int mine)
{
	door = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	MUST(bind(door, (void *)&name, sizeof name));
	MUST(listen(door, 4));
	client = visitor();
	server = MUST(accept(door, NULL, NULL));
	waits = visitor();
	SAME(write(client, &mine, sizeof mine), sizeof mine);
}

static void says(int from, int to, int wanted)
{
	int found = -1;
	if (from >= 0)
		SAME(write(from, &wanted, sizeof wanted), sizeof wanted);
	SAME(recv(to, &found, sizeof found, MSG_DONTWAIT), sizeof found);
	SAME(found, wanted);
}

static void verify(int mine)
{
	says(-1, server, mine);
	says(server, client, mine + 10);
	says(waits, MUST(accept(door, NULL, NULL)), mine + 20);
	/* The name leads to the own door, not to that of another. */
	int fresh = visitor();
	says(fresh, MUST(accept(door, NULL, NULL)), mine + 30);
}

int main(void)
{
	pid_t children[PLACES];
	int go[PLACES][2], made[2];
	char c;
	MUST(pipe(made));
	for (int i = 0; i < PLACES; i++) {
		MUST(pipe(go[i]));
		children[i] = MUST(fork());
		if (children[i])
			continue;
		char directory[20];
		snprintf(directory, sizeof directory, "place%d", i);
		MUST(mkdir(directory, 0700));
		MUST(chdir(directory));
		make(i + 1);
		MUST(write(made[1], "x", 1));
		SAME(read(go[i][0], &c, 1), 1);
		verify(i + 1);
		_exit(0);
	}
	make(0);
	for (int i = 0; i < PLACES; i++)
		SAME(read(made[0], &c, 1), 1);
	ready();
	await_verify();
	verify(0);
	for (int i = 0; i < PLACES; i++) {
		int status;
		MUST(write(go[i][1], "x", 1));
		MUST(waitpid(children[i], &status, 0));
		SAME(status, 0);
	}
	ok();
}
