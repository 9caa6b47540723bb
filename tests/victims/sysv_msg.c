// System V message queues: what waits in them, types and order, with a key and without.
#include "victim.h"
#include <sys/ipc.h>
#include <sys/msg.h>

struct message {
	long kind;
	char text[4000];
};

static void send(int id, long kind, const char *text, size_t length)
{
	struct message m = { .kind = kind };
	snprintf(m.text, sizeof m.text, "%s", text);
	MUST(msgsnd(id, &m, length, 0));
}

static void next_is(int id, long which, long kind, const char *text, size_t length)
{
	struct message m;
	SAME(MUST(msgrcv(id, &m, sizeof m.text, which, IPC_NOWAIT)), length);
	SAME(m.kind, kind);
	CHECK(!strcmp(m.text, text), "it reads '%.20s', not '%s'", m.text, text);
}

int main(void)
{
	key_t key = 0x5e6b0000 ^ getpid();
	int named = MUST(msgget(key, IPC_CREAT | IPC_EXCL | 0620));
	send(named, 3, "first", 4000);
	send(named, 0x100000001, "second", 7);
	send(named, 3, "third", 3000);
	send(named, 1, "", 1);
	int private = MUST(msgget(IPC_PRIVATE, 0600));
	send(private, 1, "x", 2);
	next_is(private, 0, 1, "x", 2);
	ready();
	await_verify();
	int id = MUST(msgget(key, 0));
	SAME(id, named);
	struct msqid_ds ds;
	MUST(msgctl(id, IPC_STAT, &ds));
	SAME(ds.msg_qnum, 4);
	SAME(ds.msg_perm.mode, 0620);
	next_is(id, 3, 3, "first", 4000);
	next_is(id, 0, 0x100000001, "second", 7);
	next_is(id, 0, 3, "third", 3000);
	next_is(id, 0, 1, "", 1);
	send(private, 5, "y", 2);
	next_is(private, 5, 5, "y", 2);
	MUST(msgctl(id, IPC_RMID, NULL));
	MUST(msgctl(private, IPC_RMID, NULL));
	ok();
}
