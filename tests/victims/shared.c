// Shared memory: anonymous, memfd mapped twice (also with its descriptor closed), a file in
// /dev/shm, a plain file; protections, sealed against writing; what one mapping writes, the others see.
#include "victim.h"

static char *map(int fd, size_t size, int prot, off_t at)
{
	char *p = mmap(NULL, size, prot, fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, at);
	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	return p;
}

static void is(const char *at, const char *wanted)
{
	CHECK(!strcmp(at, wanted), "it reads '%.20s', not '%s'", at, wanted);
}

#define RW (PROT_READ | PROT_WRITE)
#define MIB (1 << 20)

int main(void)
{
	char *anonymous = map(-1, 8 * MIB, RW, 0);
	strcpy(anonymous + 4 * MIB, "anonymous");
	MUST(mprotect(anonymous + MIB, 4096, PROT_NONE));
	int fd = MUST(memfd_create("twice", 0));
	MUST(ftruncate(fd, 2 * MIB));
	char *one = map(fd, 2 * MIB, RW, 0), *two = map(fd, MIB, PROT_READ, MIB);
	MUST(close(fd));
	strcpy(one + MIB, "through one");
	int sealed = MUST(memfd_create("sealed", MFD_ALLOW_SEALING));
	MUST(write(sealed, "sealed", 7));
	MUST(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE));
	/* Kernels before 6.7 map such memory only through a description that cannot write. */
	char path[64], shm[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", sealed);
	int reader = MUST(open(path, O_RDONLY));
	char *frozen = map(reader, 4096, PROT_READ, 0);
	MUST(close(reader));
	snprintf(shm, sizeof shm, "/dev/shm/victim-shared-%d", getpid());
	int s = MUST(open(shm, O_RDWR | O_CREAT | O_EXCL, 0600));
	MUST(ftruncate(s, 3 * MIB));
	char *posix = map(s, 3 * MIB, RW, 0);
	strcpy(posix + 2 * MIB, "in /dev/shm");
	int f = MUST(open("plain.bin", O_RDWR | O_CREAT | O_TRUNC, 0644));
	MUST(ftruncate(f, 8192));
	char *plain = map(f, 8192, RW, 0), *view = map(f, 4096, PROT_READ, 4096);
	strcpy(plain + 4096, "in a file");
	MUST(close(f));
	ready();
	await_verify();
	is(anonymous + 4 * MIB, "anonymous");
	SAME(MUST(madvise(anonymous + 4 * MIB, 4096, MADV_DONTNEED)), 0);
	is(anonymous + 4 * MIB, "anonymous");
	is(two, "through one");
	strcpy(one + MIB, "again");
	is(two, "again");
	SAME(mprotect(two, 4096, RW), 0);
	is(frozen, "sealed");
	SAME(fcntl(sealed, F_GET_SEALS), F_SEAL_WRITE);
	is(posix + 2 * MIB, "in /dev/shm");
	strcpy(posix, "written");
	char text[16] = "";
	SAME(pread(s, text, 8, 0), 8);
	is(text, "written");
	struct stat there;
	MUST(stat(shm, &there));
	int again = MUST(open(shm, O_RDWR));
	SAME(pread(again, text, 8, 0), 8);
	is(text, "written");
	is(view, "in a file");
	plain[4096] = 'I';
	is(view, "In a file");
	f = MUST(open("plain.bin", O_RDONLY));
	SAME(pread(f, text, 10, 4096), 10);
	is(text, "In a file");
	MUST(unlink(shm));
	ok();
}
