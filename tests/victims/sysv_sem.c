//#Modes: root user newpid leave
// System V semaphores: values stay as they are, although the end of a process undoes what it did
// with SEM_UNDO, and its end is part of a dump; with a key and without.
#include "victim.h"
#include <sys/sem.h>

union argument {
	int value;
	struct semid_ds *ds;
	unsigned short *array;
};

static void operate(int id, int number, int by, int flags)
{
	struct sembuf s = { .sem_num = number, .sem_op = by, .sem_flg = flags };
	MUST(semop(id, &s, 1));
}

static void values_are(int id, int a, int b, int c)
{
	unsigned short now[3];
	MUST(semctl(id, 0, GETALL, (union argument){ .array = now }));
	SAME(now[0], a);
	SAME(now[1], b);
	SAME(now[2], c);
}

int main(void)
{
	key_t key = 0x5e680000 ^ getpid();
	int named = MUST(semget(key, 3, IPC_CREAT | IPC_EXCL | 0640));
	unsigned short first[3] = { 1, 5, 0 };
	MUST(semctl(named, 0, SETALL, (union argument){ .array = first }));
	/* A lock that is held, one of several taken, one given. */
	operate(named, 0, -1, SEM_UNDO);
	operate(named, 1, -2, SEM_UNDO);
	operate(named, 2, 4, SEM_UNDO);
	int private = MUST(semget(IPC_PRIVATE, 1, 0600));
	operate(private, 0, 7, 0);
	values_are(named, 0, 3, 4);
	ready();
	await_verify();
	int id = MUST(semget(key, 3, 0));
	/* On one machine it is the same all the time. */
	SAME(id, named);
	values_are(id, 0, 3, 4);
	SAME(semctl(private, 0, GETVAL), 7);
	struct semid_ds ds;
	MUST(semctl(id, 0, IPC_STAT, (union argument){ .ds = &ds }));
	SAME(ds.sem_perm.mode, 0640);
	SAME(ds.sem_perm.uid, geteuid());
	operate(id, 0, 1, 0);
	values_are(id, 1, 3, 4);
	MUST(semctl(id, 0, IPC_RMID));
	MUST(semctl(private, 0, IPC_RMID));
	ok();
}
