//#Modes: none
// Semaphores and a message queue under the key argv[1]: the first semaphore is held with SEM_UNDO,
// the second belongs to others; one message waits.
#include "victim.h"
#include <sys/msg.h>
#include <sys/sem.h>

struct message {
	long kind;
	char text[8];
};

int main(int argc, char **argv)
{
	CHECK(argc == 2, "wants a key");
	key_t key = strtol(argv[1], NULL, 0);
	int set = MUST(semget(key, 2, IPC_CREAT | 0666));
	struct sembuf give = { .sem_op = 1 }, take = { .sem_op = -1, .sem_flg = SEM_UNDO };
	MUST(semop(set, &give, 1));
	MUST(semop(set, &take, 1));
	int queue = MUST(msgget(key, IPC_CREAT | 0666));
	struct message m = { 9, "waiting" };
	MUST(msgsnd(queue, &m, sizeof m.text, 0));
	ready();
	await_verify();
	set = MUST(semget(key, 2, 0));
	SAME(MUST(semctl(set, 0, GETVAL)), 0);
	MUST(semop(set, &give, 1));
	queue = MUST(msgget(key, 0));
	m.kind = 0;
	SAME(MUST(msgrcv(queue, &m, sizeof m.text, 0, IPC_NOWAIT)), sizeof m.text);
	CHECK(m.kind == 9 && !strcmp(m.text, "waiting"), "it reads '%s'", m.text);
	ok();
}
