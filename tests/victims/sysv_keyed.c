//#Modes: none
// A segment of System V shared memory under the key argv[1]; at the end it must read argv[2].
#include "victim.h"
#include <sys/shm.h>

int main(int argc, char **argv)
{
	CHECK(argc == 3, "wants a key and a text");
	key_t key = strtol(argv[1], NULL, 0);
	int id = MUST(shmget(key, 8192, IPC_CREAT | 0600));
	char *at = shmat(id, NULL, 0);
	CHECK(at != (void *)-1, "shmat: %s", strerror(errno));
	strcpy(at, "kept");
	ready();
	await_verify();
	CHECK(!strcmp(at, argv[2]), "it reads '%.20s', not '%s'", at, argv[2]);
	struct shmid_ds ds;
	MUST(shmctl(MUST(shmget(key, 8192, 0)), IPC_STAT, &ds));
	CHECK(ds.shm_nattch >= 1 && ds.shm_perm.mode == 0600, "it is another one");
	strcpy(at + 100, "by the program");
	ok();
}
